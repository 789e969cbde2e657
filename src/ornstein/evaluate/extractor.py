# SPDX-License-Identifier: Apache-2.0
"""The eye of the image figures: at most 64 numbers per image, learned from real training images and never shown to a generator.

Pixels are averaged over a small grid (`pixels.pooled`), standardised by one mean and one scale, and passed through
affine layers with GELU between them. The features are what the last layer gives.

- With labels: two layers, followed by GELU and an affine head, trained as a classifier on images shifted by up to 1/16
  of their side and with Gaussian noise on the standardised grid. The head gives class accuracy.
- Without labels: one layer, the leading principal components of the training pixels. No class accuracy.

A fit is a pure function of its arguments on one machine with one thread count; elsewhere sums may round differently
and give another hash. Figures by extractors of different hash are never comparable.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from jaxtyping import Float, Int, UInt8
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, linear, pad

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.base.files import digest_of, read_json, write_bytes, write_json
from ornstein.base.keys import generator_of
from ornstein.evaluate.pixels import PIECE, pooled

FORMAT = 1
FEATURES, HIDDEN = 64, 128
STEPS, EPOCHS, BATCH = 800, 4, 128  # updates: at least STEPS, and EPOCHS passes over larger sets
RATE, WARM_UP, DECAY, NOISE = 4e-3, 20, 0.1, 0.4


class Layer(NamedTuple):
    """An affine map, float32: weight `(out, in)`, bias `(out,)`."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Inputs:
    """What happens to images before the first layer: grid means, standardised by one mean and one scale.

    Attributes:
        channels: colour channels of the images.
        grid: side of the grid of pixel means; an image with a smaller side keeps it.
    """

    channels: int
    grid: int
    mean: float
    scale: float

    def pixels(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Grid means, float64 in [0, 1]. Raises UsageError for another number of channels."""
        if images.shape[1] != self.channels:
            raise UsageError(
                f"The images have {images.shape[1]} channels, the extractor takes {self.channels}.", "Fit an extractor to these data."
            )
        return pooled(images, self.grid)

    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Standardised grid means, float32."""
        return ((self.pixels(images) - self.mean) / self.scale).float()


@dataclass(frozen=True)
class Extractor:
    """A fitted extractor; made by `fit` or `load`.

    Attributes:
        inputs: what happens to images before the first layer.
        body: the layers up to the features, GELU between them.
        head: from GELU of the features to class scores; None if it was fitted without labels.
    """

    inputs: Inputs
    body: tuple[Layer, ...]
    head: Layer | None

    @staticmethod
    def fit(
        images: UInt8[Tensor, "n c h w"], labels: Int[Tensor, " n"] | None = None, classes: int = 0, seed: int = 0, pool: int = 16
    ) -> Extractor:
        """Fit to training images: a classifier of `classes` classes, or principal components where `labels` is None.

        `pool` is the side of the grid. Needs at least 2 images; raises ValueError for labels outside 0..classes-1.
        """
        pixels = pooled(images, pool)
        inputs = Inputs(images.shape[1], pool, float(pixels.mean()), float(pixels.std()) or 1.0)
        if labels is None:
            return Extractor(inputs, (_components(inputs(images)),), None)
        if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"Labels must lie in 0..{classes - 1}.")
        *body, head = _train(inputs, images, labels, (pixels.shape[1], HIDDEN, FEATURES, classes), seed)
        return Extractor(inputs, tuple(body), head)

    def features(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """Features as float64 `(n, f)`, f <= 64."""
        parts = [_through(self.inputs(part), self.body) for part in torch.split(images, PIECE)]
        return torch.cat(parts).double()

    def log_probabilities(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n classes"]:
        """Logarithms of the class probabilities at these features, float64. Raises UsageError where there is no head."""
        if self.head is None:
            raise UsageError(
                "This extractor was fitted without labels, so it names no classes.", "Fit it with labels to measure class accuracy."
            )
        return linear(gelu(features.float()), *self.head).double().log_softmax(1)

    def predict(self, images: UInt8[Tensor, "n c h w"]) -> Int[Tensor, " n"]:
        """Most likely class of each image, int64. Raises UsageError where there is no head."""
        return self.log_probabilities(self.features(images)).argmax(1)

    @property
    def kind(self) -> str:
        """What the features come from: `classifier` or `components`."""
        return "components" if self.head is None else "classifier"

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of everything that determines the features and classes."""
        tensors = self._tensors().items()
        weights = {name: [list(value.shape), hashlib.sha256(value.numpy().tobytes()).hexdigest()] for name, value in tensors}
        return digest_of({"settings": self._settings(), "weights": weights})

    @property
    def identity(self) -> str:
        """The name under which figures are printed: kind, grid and hash."""
        return f"{self.kind} {self.inputs.grid}x{self.inputs.grid} {self.hash}"

    def _settings(self) -> dict[str, Any]:
        fields = self.inputs
        return {
            "format": FORMAT,
            "kind": self.kind,
            "channels": fields.channels,
            "grid": fields.grid,
            "mean": fields.mean,
            "scale": fields.scale,
            "layers": len(self.body),
        }

    def _tensors(self) -> dict[str, Tensor]:
        layers = {f"body.{i}": layer for i, layer in enumerate(self.body)} | ({} if self.head is None else {"head": self.head})
        return {f"{name}.{part}": value for name, layer in layers.items() for part, value in layer._asdict().items()}

    def save(self, folder: Path) -> None:
        """Write `extractor.safetensors`, then `extractor.json` with the hash. Raises StorageError."""
        write_bytes(folder / "extractor.safetensors", safetensors.torch.save(self._tensors()))
        write_json(folder / "extractor.json", {**self._settings(), "hash": self.hash})

    @staticmethod
    def load(folder: Path) -> Extractor:
        """Read what `save` wrote. Raises CheckpointError for anything missing, left over, malformed or of another hash."""
        settings = read_json(folder / "extractor.json")
        try:
            tensors = safetensors.torch.load((folder / "extractor.safetensors").read_bytes())
            extractor = _assemble(settings, tensors)
            sound = settings == extractor._settings() | {"hash": extractor.hash}
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise _unsound(folder, str(error) or type(error).__name__) from error
        if not sound:
            raise _unsound(folder, "its contents do not have the hash they were stored with")
        return extractor


def accuracy(extractor: Extractor, images: UInt8[Tensor, "n c h w"], labels: Int[Tensor, " n"]) -> float:
    """Share of the images whose predicted class is their label."""
    return float((extractor.predict(images) == labels).double().mean())


def _unsound(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"The extractor in {folder} cannot be used: {why}.", "Delete that folder; the next evaluation fits the extractor again."
    )


def _assemble(settings: dict[str, Any], tensors: dict[str, Tensor]) -> Extractor:
    """Put a stored extractor together; raises KeyError, TypeError or ValueError where a piece is missing or does not fit."""
    if settings["format"] != FORMAT:
        raise ValueError(f"it has format {settings['format']}, this version reads {FORMAT}")
    depth = len(tensors) // 2 - (settings["kind"] == "classifier")
    names = [f"body.{i}" for i in range(depth)] + (["head"] if settings["kind"] == "classifier" else [])
    layers = [Layer(tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in names]
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if layer.weight.ndim != 2 or layer.bias.shape != layer.weight.shape[:1] or (after and after.weight.shape[1:] != layer.bias.shape):
            raise ValueError("its layers do not fit one another")
    if len(tensors) != 2 * len(layers) or any(value.dtype != torch.float32 or not value.isfinite().all() for value in tensors.values()):
        raise ValueError("its weights are not the finite float32 tensors expected")
    inputs = Inputs(*(settings[name] for name in ("channels", "grid", "mean", "scale")))
    return Extractor(inputs, *((tuple(layers[:-1]), layers[-1]) if settings["kind"] == "classifier" else (tuple(layers), None)))


def _through(x: Tensor, layers: tuple[Layer, ...]) -> Tensor:
    """Affine layers with GELU between them."""
    for i, layer in enumerate(layers):
        x = linear(gelu(x) if i else x, *layer)
    return x


def _components(x: Float[Tensor, "n d"]) -> Layer:
    """Projection on the leading principal components of `x`: at most 64, at most as many as n - 1 points span."""
    x = x.double()
    mean = x.mean(0)
    _, vectors = torch.linalg.eigh((x - mean).T @ (x - mean))
    weight = vectors.flip(1)[:, : min(FEATURES, len(x) - 1)].T.float().contiguous()
    return Layer(weight, -weight @ mean.float())


def _train(inputs: Inputs, images: Tensor, labels: Tensor, sizes: tuple[int, ...], seed: int) -> list[Layer]:
    """Train a classifier of these layer sizes by AdamW with warm-up and a cosine decay of the rate to 0."""
    generator = generator_of(seed, "extractor")
    weights = [torch.randn(out, into, generator=generator).div(math.sqrt(into)) for into, out in pairwise(sizes)]
    layers = [Layer(weight.requires_grad_(), torch.zeros(len(weight), requires_grad=True)) for weight in weights]
    optimiser = torch.optim.AdamW([value for layer in layers for value in layer], weight_decay=DECAY, fused=True)
    steps = max(STEPS, EPOCHS * len(images) // BATCH)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        x = inputs(_shifted(images[chosen], generator))
        x = x + NOISE * torch.randn(x.shape, generator=generator)
        optimiser.zero_grad()
        torch.autograd.backward(cross_entropy(_through(x, tuple(layers)), labels[chosen]))
        optimiser.step()
    return [Layer(layer.weight.detach(), layer.bias.detach()) for layer in layers]


def _shifted(images: UInt8[Tensor, "n c h w"], generator: torch.Generator) -> UInt8[Tensor, "n c h w"]:
    """All images moved by one random step of at most 1/16 of their side each way; what comes in from outside repeats the edge."""
    reach = min(images.shape[2:]) // 16
    down, right = torch.randint(2 * reach + 1, (2,), generator=generator).tolist()
    wide = pad(images.float(), (reach,) * 4, mode="replicate").to(images.dtype)
    return wide[..., down : down + images.shape[2], right : right + images.shape[3]]
