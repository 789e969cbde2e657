# SPDX-License-Identifier: Apache-2.0
"""The U-Net of Ho et al. 2020 (arXiv 2006.11239, appendix B), with self-attention at chosen levels.

Level 0 works at the size of the image and each further level at half the size of the one before. Down: `blocks` residual
blocks per level; the input convolution, every block and every downsampling leave their result for the way up. Middle:
block, attention, block. Up: `blocks + 1` blocks per level, each reading one of those results, last left first read. With
equal weights this is the function of diffusers' `UNet2DModel` (its (Attn)DownBlock2D and (Attn)UpBlock2D at
`norm_eps=1e-5`), which the tests and the benchmark check.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ornstein.base.errors import UsageError
from ornstein.network.blocks import Downsample, NormSiLU, ResidualBlock, SelfAttention, Upsample, zeroed
from ornstein.network.condition import Condition
from ornstein.network.embedding import ConditionEmbedding


class Layer(nn.Module):
    """A residual block, followed by attention where asked."""

    def __init__(self, block: ResidualBlock, attention: SelfAttention | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Float[Tensor, "batch before h w"], embedding: Float[Tensor, "batch width"]) -> Float[Tensor, "batch after h w"]:
        """`embedding` comes activated."""
        h: Tensor = self.block(x, embedding)
        return h if self.attention is None else self.attention(h)


Run = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""How a layer is applied to (h, embedding): at once, or recomputed in the backward pass."""


def _at_once(layer: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    out: Tensor = layer(h, embedding)
    return out


def _recomputed(layer: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    out: Tensor = checkpoint(layer, h, embedding, use_reentrant=False)
    return out


class Down(nn.Module):
    """One level of the way down: its layers, then `resize` (None at the lowest level)."""

    def __init__(self, layers: Iterable[Layer], resize: Downsample | None) -> None:
        super().__init__()
        self.layers, self.resize = nn.ModuleList(layers), resize

    def forward(self, h: Tensor, embedding: Tensor, run: Run) -> list[Tensor]:
        """The result of every layer and of the change of size, in order; the last is what the next level reads."""
        left = []
        for layer in self.layers:
            h = run(layer, h, embedding)
            left.append(h)
        return left if self.resize is None else [*left, self.resize(h)]


class Up(nn.Module):
    """One level of the way up: its layers, each reading one result of the way down, then `resize` (None at the image's size)."""

    def __init__(self, layers: Iterable[Layer], resize: Upsample | None) -> None:
        super().__init__()
        self.layers, self.resize = nn.ModuleList(layers), resize

    def forward(self, h: Tensor, left: list[Tensor], embedding: Tensor, run: Run) -> Tensor:
        """Takes what it reads off the end of `left`."""
        for layer in self.layers:
            h = run(layer, torch.cat([h, left.pop()], dim=1), embedding)
        return h if self.resize is None else self.resize(h)


class UNet(nn.Module):
    """Images `(batch, in_channels, h, w)` to `(batch, out_channels, h, w)`; h and w multiples of patch 2^(levels - 1).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        channels: channels per level, from the image's size downwards.
        blocks: residual blocks per level on the way down.
        attention: the levels with self-attention (0 is the image's size); the middle always has it.
        head_width: channels per attention head; divides the channels of these levels and of the last.
        classes: number of classes; 0 for no label.
        vector: width of the condition's vector; 0 for none.
        features: numbers per sample that tell the noise level.
        dropout: probability in training, in [0, 1), drawn from torch's default generator.
        groups: of the normalisations, at most.
        checkpointing: recompute each layer in the backward pass instead of storing it: less memory, a third more time.
        patch: side of the squares of pixels that become channels on the way in and pixels again on the way out; 2 works at half
            the image's size from the start, at about half the cost (Shi et al. 2016, arXiv 1609.05158).
        time_scale: factor on the features before they become waves; small where derivatives along the noise level are taken.

    Raises UsageError where channels do not divide into heads, or an attention level does not exist.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        channels: Sequence[int] = (64, 128, 128),
        blocks: int = 2,
        attention: Collection[int] = (1,),
        head_width: int = 32,
        classes: int = 0,
        vector: int = 0,
        features: int = 1,
        dropout: float = 0.0,
        groups: int = 32,
        checkpointing: bool = False,
        patch: int = 1,
        time_scale: float = 1000.0,
    ) -> None:
        super().__init__()
        last = len(channels) - 1
        for level in {*attention, last}:
            if not 0 <= level <= last:
                raise UsageError(f"There is no level {level} in a U-Net with levels 0 to {last}.", "Name attention levels that exist.")
            if channels[level] % head_width:
                raise UsageError(f"{channels[level]} channels do not divide into heads of {head_width}.", "Choose multiples of head_width.")
        self.checkpointing = checkpointing
        width = 4 * channels[0]

        def layer(before: int, after: int, attends: bool) -> Layer:
            block = ResidualBlock(before, after, width, groups, dropout)
            return Layer(block, SelfAttention(after, head_width, groups) if attends else None)

        self.embedding = ConditionEmbedding(width, channels[0], features, classes, vector, time_scale)
        self.patch = patch
        self.input = nn.Conv2d(in_channels * patch**2, channels[0], 3, padding=1)
        current = channels[0]
        left = [current]
        self.down = nn.ModuleList()
        for level, after in enumerate(channels):
            inputs = [current] + [after] * (blocks - 1)
            layers = [layer(before, after, level in attention) for before in inputs]
            self.down.append(Down(layers, Downsample(after) if level < last else None))
            left += [after] * (blocks + (level < last))
            current = after
        self.middle = nn.ModuleList([layer(current, current, True), layer(current, current, False)])
        self.up = nn.ModuleList()
        for level, after in reversed(list(enumerate(channels))):
            inputs = [current] + [after] * blocks
            layers = [layer(before + left.pop(), after, level in attention) for before in inputs]
            self.up.append(Up(layers, Upsample(after) if level > 0 else None))
            current = after
        self.norm = NormSiLU(current, groups)
        self.output = zeroed(nn.Conv2d(current, out_channels * patch**2, 3, padding=1))

    def forward(
        self, x: Float[Tensor, "batch in_channels h w"], features: Float[Tensor, "batch k"], cond: Condition | None = None
    ) -> Float[Tensor, "batch out_channels h w"]:
        """The output in the prediction's space, in the precision of the surrounding `autocast_for`."""
        height, width = x.shape[-2:]
        step = self.patch * 2 ** (len(self.down) - 1)
        if height % step or width % step:
            raise UsageError(f"A U-Net of {len(self.down)} levels cannot halve {height}x{width}.", f"Use multiples of {step}.")
        run = _recomputed if self.checkpointing else _at_once
        embedding = functional.silu(self.embedding(features, cond))
        left = [self.input(functional.pixel_unshuffle(x, self.patch))]
        for level in self.down:
            left += level(left[-1], embedding, run)
        h = left[-1]
        for layer in self.middle:
            h = run(layer, h, embedding)
        for level in self.up:
            h = level(h, left, embedding, run)
        y: Tensor = functional.pixel_shuffle(self.output(self.norm(h)), self.patch)
        return y
