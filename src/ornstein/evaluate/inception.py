# SPDX-License-Identifier: Apache-2.0
r"""The Inception-v3 network of the Frechet inception distance, for weights that the user brings.

FID (Heusel et al. 2017, arXiv 1706.08500) is the Frechet distance of 2,048 features of one network: Inception-v3 (Szegedy et
al. 2016, arXiv 1512.00567) with the weights of 2015-12-05, which know 1,008 classes. Four things set it apart from the graph
that is usually trained: average pools leave the padding out of their count, the last block pools by maximum, images are
brought to 299 x 299 by TensorFlow 1's bilinear rule (corner pixels at whole coordinates: output j reads input j * in/out),
and pixels enter as (p - 128) / 128.

Weights are read from safetensors only, under the names that PyTorch ports of the network share (`Mixed_5b.branch1x1.conv.weight`,
`fc.weight`, ...); every name and shape must be there. Figures carry the hash of the weights: an equal hash is an equal network.
A `.pth` file becomes one by `safetensors.torch.save_file(torch.load(path, weights_only=True), "inception.safetensors")`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from torch import Tensor

from ornstein.base.errors import CheckpointError
from ornstein.evaluate.inception_network import CLASSES, FEATURES, InceptionV3

SIDE = 299
_PIECE = 32  # images in one pass


def resized(images: Float[Tensor, "n c h w"], side: int = SIDE) -> Float[Tensor, "n c s s"]:
    """Images at side x side by TensorFlow 1's bilinear rule; no smoothing where they shrink."""
    rows, columns = (_between(size, side).to(images) for size in images.shape[2:])
    return rows @ images @ columns.T


def _between(size: int, side: int) -> Float[Tensor, "side size"]:
    """Weights of the input places at each output place."""
    place = torch.arange(side, dtype=torch.float64) * (size / side)
    low = place.floor().long()
    share = place - low
    weights = torch.zeros(side, size, dtype=torch.float64)
    weights.scatter_add_(1, low[:, None], (1 - share)[:, None])
    return weights.scatter_add_(1, (low + 1).clamp_max(size - 1)[:, None], share[:, None])


@dataclass(frozen=True)
class Inception:
    """The network with a user's weights, as an extractor.

    Attributes:
        network: in evaluation mode.
        hash: first 16 hexadecimal digits of the SHA-256 of names, shapes and bytes of its weights.
    """

    network: InceptionV3
    hash: str

    @staticmethod
    def load(path: Path) -> Inception:
        """Read a safetensors file. Raises CheckpointError for any other file, and for tensors that are not the network's."""
        try:
            weights = safetensors.torch.load(path.read_bytes())
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            cure = (
                "Give the FID Inception-v3 weights as a safetensors file; a .pth file must be converted first, as reading it can run code."
            )
            raise CheckpointError(f"{path} is not a readable safetensors file ({error}).", cure) from error
        weights = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
        with torch.device("meta"):
            network = InceptionV3()
        wanted = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
        for name in sorted(wanted.keys() | weights.keys()):
            _check(path, name, weights.get(name), wanted.get(name))
        network = network.to_empty(device="cpu")
        network.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
        return Inception(network.eval().requires_grad_(False), _hash(weights))

    @property
    def identity(self) -> str:
        """The name under which figures are printed."""
        return f"Inception-v3 {FEATURES} {self.hash}"

    @torch.no_grad()
    def features(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n 2048"]:
        """Features as float64 of RGB images, or of grey ones, whose channel is repeated."""
        parts = [self.network((resized(part.float().expand(-1, 3, -1, -1)) - 128) / 128) for part in torch.split(images, _PIECE)]
        return torch.cat(parts).double()

    def log_probabilities(self, features: Float[Tensor, "n 2048"]) -> Float[Tensor, "n classes"]:
        """Logarithms of the class probabilities, float64; without the bias of the last layer, as the inception score has it."""
        return (features @ self.network.fc.weight.double().T).log_softmax(1)


def _check(path: Path, name: str, given: Tensor | None, wanted: Tensor | None) -> None:
    """Raise CheckpointError unless a tensor is there, expected, of its shape and finite."""
    why = ""
    if given is None or wanted is None:
        why = "is missing" if given is None else "does not belong to it"
    elif given.shape != wanted.shape:
        why = f"has shape {tuple(given.shape)} instead of {tuple(wanted.shape)}"
    elif not given.is_floating_point() or not bool(given.isfinite().all()):
        why = "does not hold finite floating-point numbers"
    if why:
        cure = f"Give the weights of the FID network ({CLASSES} classes), under the names of its PyTorch ports."
        raise CheckpointError(f"{path} does not hold the Inception-v3 of FID: '{name}' {why}.", cure)


def _hash(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
