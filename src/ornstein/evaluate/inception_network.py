# SPDX-License-Identifier: Apache-2.0
"""The graph of Inception-v3 (Szegedy et al. 2016, arXiv 1512.00567) as the Frechet inception distance uses it; see `inception`.

Blocks differ in their ways only, so there is one kind of block. Names are those of PyTorch ports of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, max_pool2d

FEATURES, CLASSES = 2048, 1008
_EPSILON = 1e-3  # of the batch normalisations


class Conv(nn.Module):
    """Convolution without bias, stored normalisation, ReLU. Stride 1 keeps the size unless `valid`; stride 2 pads nothing."""

    def __init__(self, into: int, out: int, kernel: tuple[int, int], stride: int = 1, valid: bool = False) -> None:
        super().__init__()
        padding = (0, 0) if valid or stride == 2 else (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(into, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, _EPSILON)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d p q"]:
        """With the stored statistics, whatever mode the module is in."""
        norm = self.bn
        return batch_norm(self.conv(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=_EPSILON).relu_()


class Way(NamedTuple):
    """One way through a block: convolutions in a row, (name, channels, kernel), then some side by side.

    Args:
        chain: one after another.
        fork: all of them read the end of the chain; their outputs are joined.
        stride: of the last convolution of the chain.
    """

    chain: tuple[tuple[str, int, tuple[int, int]], ...]
    fork: tuple[tuple[str, int, tuple[int, int]], ...] = ()
    stride: int = 1


Pool = Callable[[Tensor], Tensor]


def _mean(x: Tensor) -> Tensor:
    return avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _most(x: Tensor) -> Tensor:
    return max_pool2d(x, 3, 1, 1)


def _halve(x: Tensor) -> Tensor:
    return max_pool2d(x, 3, 2)


class Mixed(nn.Module):
    """A block: all ways and a pool side by side, joined along the channels.

    Args:
        into: input channels.
        ways: in the order of the output.
        pool: of the last way.
        pooled: channels of the convolution `branch_pool` after it; 0 for none.
    """

    def __init__(self, into: int, ways: Sequence[Way], pool: Pool, pooled: int = 0) -> None:
        super().__init__()
        self.ways, self.pool, self.pooled = tuple(ways), pool, pooled
        for way in ways:
            widths = [into, *(out for _, out, _ in way.chain)]
            for i, ((name, out, kernel), width) in enumerate(zip(way.chain, widths, strict=False)):
                self.add_module(name, Conv(width, out, kernel, way.stride if i == len(way.chain) - 1 else 1))
            for name, out, kernel in way.fork:
                self.add_module(name, Conv(widths[-1], out, kernel))
        if pooled:
            self.branch_pool = Conv(into, pooled, (1, 1))
        ends = [sum(out for _, out, _ in way.fork) or way.chain[-1][1] for way in ways]
        self.out = sum(ends) + (pooled or into)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d p q"]:
        """All ways of x."""
        ends = []
        for way in self.ways:
            y = x
            for name, _, _ in way.chain:
                y = self.get_submodule(name)(y)
            ends += [self.get_submodule(name)(y) for name, _, _ in way.fork] or [y]
        beside = self.pool(x)
        return torch.cat([*ends, self.branch_pool(beside) if self.pooled else beside], 1)


_ONE, _THREE, _FIVE, _WIDE, _TALL = (1, 1), (3, 3), (5, 5), (1, 7), (7, 1)


def _fine(into: int, pooled: int) -> Mixed:
    """35 x 35."""
    five = Way((("branch5x5_1", 48, _ONE), ("branch5x5_2", 64, _FIVE)))
    three = Way((("branch3x3dbl_1", 64, _ONE), ("branch3x3dbl_2", 96, _THREE), ("branch3x3dbl_3", 96, _THREE)))
    return Mixed(into, (Way((("branch1x1", 64, _ONE),)), five, three), _mean, pooled)


def _to_middle(into: int) -> Mixed:
    """35 x 35 to 17 x 17."""
    double = (("branch3x3dbl_1", 64, _ONE), ("branch3x3dbl_2", 96, _THREE), ("branch3x3dbl_3", 96, _THREE))
    return Mixed(into, (Way((("branch3x3", 384, _THREE),), stride=2), Way(double, stride=2)), _halve)


def _middle(into: int, width: int) -> Mixed:
    """17 x 17, with 7 x 7 kernels taken apart."""
    seven = (("branch7x7_1", width, _ONE), ("branch7x7_2", width, _WIDE), ("branch7x7_3", 192, _TALL))
    kernels = (_ONE, _TALL, _WIDE, _TALL, _WIDE)
    double = tuple((f"branch7x7dbl_{i + 1}", 192 if i == 4 else width, kernel) for i, kernel in enumerate(kernels))
    return Mixed(into, (Way((("branch1x1", 192, _ONE),)), Way(seven), Way(double)), _mean, 192)


def _to_coarse(into: int) -> Mixed:
    """17 x 17 to 8 x 8."""
    three = (("branch3x3_1", 192, _ONE), ("branch3x3_2", 320, _THREE))
    seven = tuple((f"branch7x7x3_{i + 1}", 192, kernel) for i, kernel in enumerate((_ONE, _WIDE, _TALL, _THREE)))
    return Mixed(into, (Way(three, stride=2), Way(seven, stride=2)), _halve)


def _coarse(into: int, pool: Pool) -> Mixed:
    """8 x 8."""
    three = Way((("branch3x3_1", 384, _ONE),), (("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1))))
    double = Way(
        (("branch3x3dbl_1", 448, _ONE), ("branch3x3dbl_2", 384, _THREE)),
        (("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1))),
    )
    return Mixed(into, (Way((("branch1x1", 320, _ONE),)), three, double), pool, 192)


class InceptionV3(nn.Module):
    """The network, 299 x 299 RGB in [-1, 1] to 2,048 features; its classes are `fc`."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 32, 64)
        names = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")
        for name, (into, out) in zip(names, pairwise(widths), strict=True):
            self.add_module(name, Conv(into, out, _THREE, 2 if name == names[0] else 1, valid=name == names[1]))
        self.Conv2d_3b_1x1 = Conv(64, 80, _ONE)
        self.Conv2d_4a_3x3 = Conv(80, 192, _THREE, valid=True)
        makers: dict[str, Callable[[int], Mixed]] = {
            "Mixed_5b": lambda into: _fine(into, 32),
            "Mixed_5c": lambda into: _fine(into, 64),
            "Mixed_5d": lambda into: _fine(into, 64),
            "Mixed_6a": _to_middle,
            "Mixed_6b": lambda into: _middle(into, 128),
            "Mixed_6c": lambda into: _middle(into, 160),
            "Mixed_6d": lambda into: _middle(into, 160),
            "Mixed_6e": lambda into: _middle(into, 192),
            "Mixed_7a": _to_coarse,
            "Mixed_7b": lambda into: _coarse(into, _mean),
            "Mixed_7c": lambda into: _coarse(into, _most),
        }
        self.mixed, width = tuple(makers), 192
        for name, make in makers.items():
            block = make(width)
            self.add_module(name, block)
            width = block.out
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 2048"]:
        """Means of the last feature maps."""
        for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"):
            x = self.get_submodule(name)(x)
        x = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_halve(x))))
        for name in self.mixed:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))
