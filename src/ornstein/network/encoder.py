# SPDX-License-Identifier: Apache-2.0
"""Networks that read x_t and answer with one number per class: the way down of the U-Net, and the perceptron for points.

The encoder ends in a mean over all places and a linear map that starts at zero, so that an untrained classifier gives every
class the same probability. Dhariwal & Nichol 2021 (arXiv 2105.05233, appendix H) use the same half of a U-Net.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ornstein.network.blocks import Downsample, NormSiLU, ResidualBlock, SelfAttention, zeroed
from ornstein.network.condition import Condition
from ornstein.network.embedding import ConditionEmbedding
from ornstein.network.mlp import ResidualLayer
from ornstein.network.unet import Layer


class Encoder(nn.Module):
    """Images `(batch, in_channels, h, w)` to logits `(batch, classes)`; h and w multiples of patch 2^(levels - 1).

    Args:
        in_channels: channels of the input.
        classes: number of logits.
        channels: channels per level, from the image's size downwards.
        blocks: residual blocks per level.
        attention: the levels with self-attention; 0 is the image's size.
        head_width: channels per attention head; divides the channels of these levels.
        features: numbers per sample that tell the noise level.
        dropout: probability in training, in [0, 1).
        groups: of the normalisations, at most.
        patch: side of the squares of pixels that become channels.
    """

    def __init__(
        self,
        in_channels: int = 3,
        classes: int = 10,
        channels: Sequence[int] = (32, 64),
        blocks: int = 2,
        attention: Collection[int] = (),
        head_width: int = 32,
        features: int = 1,
        dropout: float = 0.0,
        groups: int = 32,
        patch: int = 1,
    ) -> None:
        super().__init__()
        width, current = 4 * channels[0], channels[0]
        self.patch = patch
        self.embedding = ConditionEmbedding(width, channels[0], features)
        self.input = nn.Conv2d(in_channels * patch**2, channels[0], 3, padding=1)
        self.layers, self.resize = nn.ModuleList(), nn.ModuleList()
        for level, after in enumerate(channels):
            row = nn.ModuleList()
            for before in [current] + [after] * (blocks - 1):
                attends = SelfAttention(after, head_width, groups) if level in attention else None
                row.append(Layer(ResidualBlock(before, after, width, groups, dropout), attends))
            self.layers.append(row)
            self.resize.append(Downsample(after) if level < len(channels) - 1 else nn.Identity())
            current = after
        self.norm = NormSiLU(current, groups)
        self.output = zeroed(nn.Linear(current, classes))

    def forward(
        self, x: Float[Tensor, "batch in_channels h w"], features: Float[Tensor, "batch k"], cond: Condition | None = None
    ) -> Float[Tensor, "batch classes"]:
        """One logit per class; the condition is not read."""
        embedding = functional.silu(self.embedding(features))
        h = self.input(functional.pixel_unshuffle(x, self.patch))
        for row, resize in zip(self.layers, self.resize, strict=True):
            for layer in row:  # type: ignore[attr-defined]
                h = layer(h, embedding)
            h = resize(h)
        logits: Tensor = self.output(self.norm(h).mean((2, 3)))
        return logits


class PointEncoder(nn.Module):
    """Points `(batch, dim)` to logits `(batch, classes)`: the residual perceptron with another end.

    Args:
        dim: coordinates of a point.
        classes: number of logits.
        width: hidden width, even.
        depth: number of residual blocks.
        features: numbers per sample that tell the noise level.
    """

    def __init__(self, dim: int = 2, classes: int = 2, width: int = 128, depth: int = 3, features: int = 1) -> None:
        super().__init__()
        self.embedding = ConditionEmbedding(width, width, features)
        self.input = nn.Linear(dim, width)
        self.layers = nn.ModuleList(ResidualLayer(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output = zeroed(nn.Linear(width, classes))

    def forward(
        self, x: Float[Tensor, "batch dim"], features: Float[Tensor, "batch k"], cond: Condition | None = None
    ) -> Float[Tensor, "batch classes"]:
        """One logit per class; the condition is not read."""
        embedding = functional.silu(self.embedding(features))
        h: Tensor = self.input(x)
        for layer in self.layers:
            h = layer(h, embedding)
        logits: Tensor = self.output(functional.silu(self.norm(h)))
        return logits
