# SPDX-License-Identifier: Apache-2.0
"""A noise level: where on the corruption path x_t = alpha x_0 + sigma eps a sample is.

Inside a plan the numbers are Python floats: a multistep update then costs a few microseconds, where zero-dimensional
tensors would cost six times that. In training, and where an adaptive solver gives every sample its own level, they are
tensors `(batch,)` or `(batch, positions)`, broadcast against x from the left.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

Scalar = float | Tensor


class Level(NamedTuple):
    """One noise level, or one per sample.

    Args:
        t: time in [0, 1]; 0 is data, 1 is noise.
        alpha: scale of the data, >= 0.
        sigma: scale of the noise, >= 0.
        alpha_rate: d alpha / dt; NaN where nobody has computed it.
        sigma_rate: d sigma / dt; NaN where nobody has computed it.
    """

    t: Scalar
    alpha: Scalar
    sigma: Scalar
    alpha_rate: Scalar = math.nan
    sigma_rate: Scalar = math.nan

    @property
    def is_clean(self) -> bool:
        """Whether x_t is the data itself (sigma = 0, for every sample)."""
        return vanishes(self.sigma)

    @property
    def is_noise(self) -> bool:
        """Whether x_t holds nothing of the data (alpha = 0, for every sample)."""
        return vanishes(self.alpha)

    @property
    def log_snr(self) -> Scalar:
        """log(alpha^2 / sigma^2); +inf at the clean end, -inf where alpha = 0."""
        return 2.0 * self.half_log_snr

    @property
    def half_log_snr(self) -> Scalar:
        """log(alpha / sigma), the lambda of DPM-Solver (2206.00927)."""
        if isinstance(self.alpha, Tensor) or isinstance(self.sigma, Tensor):
            return torch.as_tensor(self.alpha, dtype=torch.float64).log() - torch.as_tensor(self.sigma, dtype=torch.float64).log()
        if self.sigma == 0.0:
            return math.inf
        return math.log(self.alpha) - math.log(self.sigma) if self.alpha > 0.0 else -math.inf

    @property
    def noise_to_signal(self) -> Scalar:
        """sigma / alpha, the sigma of EDM and k-diffusion; +inf where alpha = 0."""
        if isinstance(self.alpha, Tensor) or isinstance(self.sigma, Tensor) or self.alpha != 0.0:
            return self.sigma / self.alpha
        return math.inf

    def rows(self, batch: int) -> Level:
        """The same level with every number a float64 tensor `(batch, ...)`."""
        numbers = (torch.as_tensor(value, dtype=torch.float64) for value in self)
        return Level(*(value.expand(batch) if value.ndim == 0 else value for value in numbers))

    def unbind(self) -> tuple[Level, ...]:
        """The levels of floats that a level of tensors `(n,)` holds: working out a plan at once takes the time of one node."""
        return tuple(Level(*numbers) for numbers in zip(*(torch.as_tensor(value).tolist() for value in self), strict=True))


CLEAN = Level(0.0, 1.0, 0.0)
"""The data end of every schedule; it ends any sampling plan."""


def vanishes(value: Scalar) -> bool:
    """Whether a level's number is exactly zero (for every sample)."""
    return bool((value == 0).all()) if isinstance(value, Tensor) else value == 0.0


def over(value: Scalar, x: Tensor) -> Scalar:
    """A level's number ready to multiply x: floats as they are, tensors in x's dtype and broadcast from the left."""
    if not isinstance(value, Tensor):
        return value
    return value.to(x).reshape(value.shape + (1,) * (x.ndim - value.ndim))


def blend(a: Scalar, x: Tensor, b: Scalar, y: Tensor) -> Tensor:
    """a x + b y for numbers of a level; with floats in two passes over memory and one new tensor, where the formula takes three of each."""
    scaled = over(a, x) * x
    return scaled + over(b, y) * y if isinstance(b, Tensor) else scaled.add_(y, alpha=b)


def root(value: Scalar) -> Scalar:
    """Square root of a number that is >= 0 up to rounding."""
    return value.clamp_min(0.0).sqrt() if isinstance(value, Tensor) else math.sqrt(max(value, 0.0))
