# SPDX-License-Identifier: Apache-2.0
"""AdamW, which weights it decays, and its state as named tensors (Loshchilov & Hutter 2019, arXiv 1711.05101)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.train.settings import TrainSettings

_FUSED = ("cpu", "cuda", "mps")
_SLOTS = ("exp_avg", "exp_avg_sq", "step")


def decayed(network: nn.Module) -> set[str]:
    """Names of the parameters that weight decay pulls on: matrices and kernels, but no bias, norm or embedding table."""
    tables = {f"{name}.weight" for name, module in network.named_modules() if type(module).__name__.endswith("Embedding")}
    return {name for name, parameter in network.named_parameters() if parameter.ndim >= 2 and name not in tables}


def adamw(network: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, fused where torch has that kernel.

    Raises UsageError for weights below float32: small updates vanish in them, so only the forward pass may be short.
    """
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    for name, parameter in trained.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            fix = "Keep weights float32; train.precision sets the precision of the forward pass."
            raise UsageError(f"The weight '{name}' is {parameter.dtype}.", fix)
    pulled = decayed(network)
    groups = [
        {"params": [parameter for name, parameter in trained.items() if name in pulled], "weight_decay": settings.weight_decay},
        {"params": [parameter for name, parameter in trained.items() if name not in pulled], "weight_decay": 0.0},
    ]
    kinds = {parameter.device.type for parameter in trained.values()}
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        fused=kinds <= set(_FUSED),
    )


def state_tensors(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state as "slot/parameter" -> tensor; empty before the first update."""
    return {
        f"{slot}/{name}": optimizer.state[parameter][slot]
        for name, parameter in network.named_parameters()
        if optimizer.state.get(parameter)
        for slot in _SLOTS
    }


def check_state(path: Path, tensors: Mapping[str, Tensor], network: nn.Module) -> None:
    """Demand all three slots or none for every parameter, in its shape and dtype. Raises CheckpointError."""
    fix = "Use another checkpoint, or restore the file from a copy."
    parameters = dict(network.named_parameters())
    known = {f"{slot}/{name}" for name in parameters for slot in _SLOTS}
    for key in tensors.keys() - known:
        raise CheckpointError(f"{path} holds '{key}', which no weight of the network needs.", fix)
    for name, parameter in parameters.items():
        slots = {slot: tensors[f"{slot}/{name}"] for slot in _SLOTS if f"{slot}/{name}" in tensors}
        whole = not slots or (
            len(slots) == len(_SLOTS)
            and slots["step"].shape == ()
            and all(slots[slot].shape == parameter.shape for slot in _SLOTS[:2])
            and all(slots[slot].dtype == parameter.dtype for slot in _SLOTS[:2])
            and slots["step"].dtype == torch.float32
        )
        if not whole:
            raise CheckpointError(f"{path} holds no usable state of '{name}'.", fix)


def load_state(optimizer: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Take up what `state_tensors` gave, in each parameter's own device and memory layout."""
    optimizer.state.clear()
    for name, parameter in network.named_parameters():
        if f"step/{name}" in tensors:
            moments = {slot: torch.zeros_like(parameter, requires_grad=False).copy_(tensors[f"{slot}/{name}"]) for slot in _SLOTS[:2]}
            optimizer.state[parameter] = {"step": tensors[f"step/{name}"].to(parameter.device), **moments}
