# SPDX-License-Identifier: Apache-2.0
r"""Linear measurements y = A x_0 + noise: what inverse problems ask to be undone.

An operator knows A, its transpose, and how to solve with a A A^T + b I, which is all that posterior sampling needs:

| operator | A | A A^T |
|---|---|---|
| `Masked` | keeps some places, the others are 0 | the mask |
| `AveragePool` | means of factor x factor squares | I / factor^2 |
| `Blur` | circular convolution with a kernel | diagonal in Fourier space, abs(k^)^2 |
| `Matrix` | any matrix, on flattened samples | itself |
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from ornstein.base.errors import UsageError


class Operator(ABC):
    """A linear map from samples `(batch, ...)` to measurements `(batch, ...)`."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """A x."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""

    @abstractmethod
    def solve(self, y: Tensor, a: float, b: float) -> Tensor:
        """(a A A^T + b I)^-1 y for a, b >= 0; where A A^T + b I has no inverse, its pseudo-inverse."""


class Masked(Operator):
    """Keeps some places of a sample.

    Args:
        known: True where the sample is measured, of a shape that broadcasts to one sample.
    """

    def __init__(self, known: Bool[Tensor, "..."]) -> None:
        self.known = known

    def _keep(self, x: Tensor) -> Tensor:
        return torch.where(self.known.to(x.device), x, torch.zeros((), dtype=x.dtype, device=x.device))

    def __call__(self, x: Tensor) -> Tensor:
        """x where it is known, 0 elsewhere."""
        return self._keep(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """The same: a mask is its own transpose."""
        return self._keep(y)

    def solve(self, y: Tensor, a: float, b: float) -> Tensor:
        """y / (a + b) where it is known; the other places were never measured and stay 0."""
        return self._keep(y) / (a + b)


class AveragePool(Operator):
    """Means of squares of pixels: images made smaller by a whole factor.

    Args:
        factor: side of the squares, >= 1; divides height and width.
    """

    def __init__(self, factor: int) -> None:
        if factor < 1:
            raise UsageError(f"Images cannot be made smaller {factor} times.", "Give a whole factor of 1 or more.")
        self.factor = factor

    def __call__(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels low_height low_width"]:
        """The means."""
        return functional.avg_pool2d(x, self.factor)

    def adjoint(self, y: Float[Tensor, "batch channels low_height low_width"]) -> Float[Tensor, "batch channels height width"]:
        """Every mean spread evenly over its square."""
        return y.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2) / self.factor**2

    def solve(self, y: Tensor, a: float, b: float) -> Tensor:
        """y / (a / factor^2 + b)."""
        return y / (a / self.factor**2 + b)


class Blur(Operator):
    """Circular convolution of every channel with one kernel: what leaves at one border comes in at the other.

    Args:
        kernel: weights of odd height and width, the middle one at the pixel itself.
    """

    def __init__(self, kernel: Float[Tensor, "rows columns"]) -> None:
        if kernel.shape[0] % 2 == 0 or kernel.shape[1] % 2 == 0:
            raise UsageError(f"A kernel of {tuple(kernel.shape)} weights has no middle.", "Give odd numbers of rows and columns.")
        self.kernel = kernel

    def _spectrum(self, x: Tensor) -> Tensor:
        """The kernel's Fourier transform on the grid of x; a kernel larger than the image wraps around it."""
        height, width = x.shape[-2:]
        rows, columns = (torch.arange(size, device=x.device) - size // 2 for size in self.kernel.shape)
        grid = torch.zeros(height, width, dtype=x.dtype, device=x.device)
        grid.index_put_((rows[:, None] % height, columns[None, :] % width), self.kernel.to(x), accumulate=True)
        spectrum: Tensor = torch.fft.rfft2(grid)
        return spectrum

    def _filtered(self, x: Tensor, factor: Tensor) -> Tensor:
        filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * factor, s=x.shape[-2:])
        return filtered

    def __call__(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """The blurred images."""
        return self._filtered(x, self._spectrum(x))

    def adjoint(self, y: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Convolution with the kernel turned around."""
        return self._filtered(y, self._spectrum(y).conj())

    def solve(self, y: Tensor, a: float, b: float) -> Tensor:
        """Division by a abs(k^)^2 + b at every frequency; frequencies that the kernel has wiped out are left out where b = 0."""
        weight = a * self._spectrum(y).abs().square() + b
        floor = torch.finfo(y.dtype).eps * weight.max()
        return self._filtered(y, torch.where(weight > floor, 1.0 / weight, 0.0))


class Matrix(Operator):
    """Any matrix, on samples flattened to vectors; measurements are `(batch, m)`.

    Args:
        matrix: A, `(m, d)`.
        shape: shape of one sample, of d numbers; by default `(d,)`.
    """

    def __init__(self, matrix: Float[Tensor, "m d"], shape: tuple[int, ...] | None = None) -> None:
        self.matrix, self.shape = matrix, (matrix.shape[1],) if shape is None else shape

    def __call__(self, x: Tensor) -> Tensor:
        """A x."""
        return x.flatten(1) @ self.matrix.to(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""
        return (y @ self.matrix.to(y)).reshape(-1, *self.shape)

    def solve(self, y: Tensor, a: float, b: float) -> Tensor:
        """By an eigendecomposition of A A^T."""
        values, vectors = torch.linalg.eigh((self.matrix @ self.matrix.T).to(y))
        weight = a * values + b
        floor = torch.finfo(y.dtype).eps * weight.max() * len(values)
        inverse = torch.where(weight > floor, 1.0 / weight, 0.0)
        solved: Tensor = (y @ vectors * inverse) @ vectors.T
        return solved


def gaussian_kernel(std: float) -> Float[Tensor, "side side"]:
    """A round Gaussian kernel that sums to 1, cut off at three standard deviations.

    Args:
        std: in pixels, > 0.
    """
    if not 0.0 < std < 1000.0:
        raise UsageError(f"A blur cannot have a width of {std:g} pixels.", "Give a width above 0.")
    reach = math.ceil(3.0 * std)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / std) ** 2)
    line = line / line.sum()
    return line[:, None] * line
