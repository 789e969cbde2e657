# SPDX-License-Identifier: Apache-2.0
"""The networks and samplers of other libraries that Ornstein is measured against; they live in `.venv-bench`.

Imports of the peers happen inside the functions, so this file can be read without them.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

_ROOT = Path(__file__).parents[1]


def in_bench_environment(*modules: str) -> None:
    """Return where all of `modules` can be imported; elsewhere start the same command again in `.venv-bench`.

    Ends the process with code 2, naming the command to run, where that environment is missing or incomplete.
    """
    if all(importlib.util.find_spec(module) is not None for module in modules):
        return
    python = _ROOT / ".venv-bench" / "bin" / "python"
    if not python.exists() or Path(sys.prefix) == python.parents[1]:
        print("The libraries to compare with live in an environment of their own. Make it with: make bench-install", file=sys.stderr)
        sys.exit(2)
    os.execv(python, [str(python), *sys.argv])


_RENAMES = (
    (r"^conv_in\.", "input."),
    (r"^time_embedding\.linear_1\.", "embedding.first."),
    (r"^time_embedding\.linear_2\.", "embedding.second."),
    (r"^conv_norm_out\.", "norm."),
    (r"^conv_out\.", "output."),
    (r"^mid_block\.(resnets|attentions)\.(\d+)\.", r"middle.\2.\1."),
    (r"^(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.conv\.", r"\1.\2.resize."),
    (r"^(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.", r"\1.\2.layers.\4.\3."),
    (r"\.resnets\.", ".block."),
    (r"\.attentions\.", ".attention."),
    (r"\.time_emb_proj\.", ".embedding."),
    (r"\.conv_shortcut\.", ".shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_out\.0\.", ".output."),
)


def from_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a diffusers `UNet2DModel` under the names of `ornstein.network.unet.UNet`."""
    import torch

    renamed = {}
    for name, value in state.items():
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    for name in [name for name in renamed if ".to_q." in name]:
        parts = [renamed.pop(name.replace(".to_q.", f".to_{part}.")) for part in "qkv"]
        renamed[name.replace(".to_q.", ".qkv.")] = torch.cat(parts)
    for name, value in renamed.items():
        if ".attention." in name and value.ndim == 2:
            renamed[name] = value[:, :, None, None]
    return renamed


def diffusers_unet(channels: Sequence[int], attention: Sequence[int], head_width: int, size: int) -> nn.Module:
    """diffusers' `UNet2DModel` of the graph that `UNet(3, 3, channels, attention=..., head_width=...)` has."""
    from diffusers import UNet2DModel

    kinds = ["Attn" if level in attention else "" for level in range(len(channels))]
    return UNet2DModel(
        sample_size=size,
        in_channels=3,
        out_channels=3,
        block_out_channels=tuple(channels),
        layers_per_block=2,
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        attention_head_dim=head_width,
    )


def lucidrains_unet(width: int, multiples: Sequence[int]) -> nn.Module:
    """denoising-diffusion-pytorch's `Unet`, full attention at its last level as by default."""
    with_stand_ins()
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet

    return Unet(width, dim_mults=tuple(multiples))


def k_diffusion_sampling() -> Any:
    """k-diffusion's module of samplers, imported without the libraries that its other modules ask for."""
    if "k_diffusion.sampling" in sys.modules:
        return sys.modules["k_diffusion.sampling"]
    for name in _with_parents("torchvision.transforms.functional", "torchsde", "torchdiffeq", "accelerate", "clip", "cleanfid"):
        if name not in sys.modules and (name.startswith("torchvision") or importlib.util.find_spec(name.split(".")[0]) is None):
            sys.modules[name] = _stand_in(name)
    found = importlib.util.find_spec("k_diffusion")
    assert found is not None
    assert found.submodule_search_locations is not None
    package = types.ModuleType("k_diffusion")  # its own __init__ imports every model and evaluation of the library
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["k_diffusion"] = package
    return importlib.import_module("k_diffusion.sampling")


_UNUSED = (
    "torchvision.transforms",
    "torchvision.utils",
    "scipy.optimize",
    "ema_pytorch",
    "accelerate",
    "pytorch_fid.fid_score",
    "pytorch_fid.inception",
)


class _StandIn(types.ModuleType):
    """A module whose every name is an empty class: enough for an import whose result is never used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def with_stand_ins() -> None:
    """Let denoising-diffusion-pytorch import without what only its trainer needs (a CUDA build of torchvision among it)."""
    for name in _with_parents(*_UNUSED):
        if name not in sys.modules:
            sys.modules[name] = _stand_in(name)


def _stand_in(name: str) -> _StandIn:
    stand_in = _StandIn(name)
    stand_in.__path__ = []
    stand_in.__spec__ = importlib.machinery.ModuleSpec(name, None)
    return stand_in


def _with_parents(*names: str) -> Iterator[str]:
    for name in names:
        parts = name.split(".")
        yield from (".".join(parts[: i + 1]) for i in range(len(parts)))
