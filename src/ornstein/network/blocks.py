# SPDX-License-Identifier: Apache-2.0
"""Parts of the U-Net: normalisation with activation, the residual block, self-attention over pixels, down- and upsampling.

The residual block is that of Ho et al. 2020 (arXiv 2006.11239, appendix B): norm, SiLU, convolution, plus the projected
embedding, norm, SiLU, dropout, convolution, plus the input. The last convolution of each branch starts at zero.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ornstein.network.attention import attend
from ornstein.network.pointwise import Pointwise

EPS = 1e-5
"""Added to the variance in every normalisation."""


class GroupNorm(nn.Module):
    """Group normalisation (Wu & He 2018, arXiv 1803.08494); its statistics are float32 at least.

    The number of groups is the greatest common divisor of `groups` and `channels`.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = math.gcd(groups, channels)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """(x - mean) / sqrt(variance + EPS) of each sample's group, scaled and shifted per channel."""
        return functional.group_norm(x, self.groups, self.weight, self.bias, EPS)


class NormSiLU(GroupNorm):
    """Group normalisation followed by x sigmoid(x)."""

    def forward(self, x: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch channels *space"]:
        """silu of the normalised input."""
        return functional.silu(super().forward(x))


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer with every parameter 0, so that its branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
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
        self.shortcut = Pointwise(before, after) if before != after else nn.Identity()

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
        self.qkv = Pointwise(channels, 3 * channels)
        self.output = zeroed(Pointwise(channels, channels))

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
        """The input plus the projected mixture of all pixels' values."""
        batch, channels, height, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, 3, self.heads, channels // self.heads, height * width)
        out: Tensor = x + self.output(attend(qkv).view(x.shape))
        return out


class Downsample(nn.Conv2d):
    """Halves height and width by a 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """Doubles height and width: each pixel repeated 2x2, then a 3x3 convolution.

    Both at once are a transposed 4x4 convolution of stride 2 whose kernel sums the 3x3 weights that meet the same pixel
    (per axis w3, w2 + w3, w1 + w2, w1): the same function with 16 products per input pixel and channel pair instead of 36.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)
        meets = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        self.meets: Tensor
        self.register_buffer("meets", torch.kron(meets, meets).T.contiguous(), persistent=False)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h2 w2"]:
        """`(batch, channels, 2 h, 2 w)`."""
        with torch.autocast(x.device.type, enabled=False):
            kernel = (self.weight.transpose(0, 1).flatten(2) @ self.meets).view(*self.weight.shape[:2], 4, 4)
        return functional.conv_transpose2d(x, kernel, self.bias, stride=2, padding=1)
