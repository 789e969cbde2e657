# SPDX-License-Identifier: Apache-2.0
"""Parts of the U-Net: normalisation with activation, the residual block, self-attention over pixels, down- and upsampling.

The residual block is that of Ho et al. 2020 (arXiv 2006.11239, appendix B): norm, SiLU, convolution, plus the projected
embedding, norm, SiLU, dropout, convolution, plus the input. The last convolution of each branch starts at zero.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional
from jaxtyping import Float
from torch import Tensor, nn

EPS = 1e-5
"""Added to the variance in every normalisation."""


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018, arXiv 1803.08494) over at most `groups` groups, in float32 at least.

    The number of groups is the greatest common divisor of `groups` and `channels`.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = math.gcd(groups, channels)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        return functional.group_norm(x.to(self.weight.dtype), self.groups, self.weight, self.bias, EPS)


class NormSiLU(GroupNorm):
    """Group normalisation followed by x sigmoid(x)."""

    def forward(self, x: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        return functional.silu(super().forward(x))


def zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with weight and bias 0, so that its branch starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """`(batch, before, h, w)` to `(batch, after, h, w)`, shifted by an embedding `(batch, width)`.

    Args:
        before, after: channels of input and output; a 1x1 convolution carries the input over where they differ.
        width: of the embedding.
        groups: of the normalisations.
        dropout: probability in training, in [0, 1).
    """

    def __init__(self, before: int, after: int, width: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = NormSiLU(before, groups)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.embedding = nn.Linear(width, after)
        self.norm2 = NormSiLU(after, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(after, after, 3, padding=1))
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Float[Tensor, "batch before h w"], embedding: Float[Tensor, "batch width"]) -> Float[Tensor, "batch after h w"]:
        """`embedding` comes activated."""
        h = self.conv1(self.norm1(x)) + self.embedding(embedding)[:, :, None, None]
        h = self.conv2(self.dropout(self.norm2(h)))
        out: Tensor = self.shortcut(x) + h
        return out


class SelfAttention(nn.Module):
    """Every pixel attends to every pixel (Vaswani et al. 2017, arXiv 1706.03762), added to its input.

    Args:
        channels: a multiple of `head_width`.
        head_width: channels per head.
        groups: of the normalisation.
    """

    def __init__(self, channels: int, head_width: int, groups: int) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.norm = GroupNorm(channels, groups)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.output = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
        batch, channels, height, width = x.shape
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = self.qkv(pixels).reshape(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, height * width, channels)
        out: Tensor = x + self.output(mixed).transpose(1, 2).reshape(x.shape)
        return out


class Downsample(nn.Conv2d):
    """Halves height and width by a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """Doubles height and width: each pixel repeated 2x2, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h2 w2"]:
        return super().forward(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
