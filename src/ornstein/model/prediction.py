# SPDX-License-Identifier: Apache-2.0
r"""What a network is asked to put out: six rows of one formula.

Every Gaussian target is  y = a x_0 + b eps  for two numbers that depend on the level. With  d = alpha b - sigma a,

    x_0 = (b x_t - sigma y) / d,        eps = (alpha y - a x_t) / d,
    |y - y'|^2 = (d / sigma)^2 |x_0 - x_0'|^2    at a fixed x_t,

so one row gives the training target, its inverse and the factor between losses. The last line reproduces SNR for eps,
SNR + 1 for v on a variance-preserving schedule, and lambda(sigma) of Karras et al. 2022 (arXiv 2206.00364, table 1).
Where d = 0 (eps and score at alpha = 0) the output says nothing about x_0: that raises and is never clamped.

| prediction | a | b | source |
|---|---|---|---|
| x0 | 1 | 0 | |
| eps | 0 | 1 | Ho et al. 2020, arXiv 2006.11239 |
| v | -sigma | alpha | Salimans & Ho 2022, arXiv 2202.00512 |
| velocity | d alpha/dt | d sigma/dt | Lipman et al. 2023, arXiv 2210.02747 |
| score | 0 | -1/sigma | Song et al. 2021, arXiv 2011.13456 |
| edm | (1 - c_skip alpha)/c_out | -c_skip sigma/c_out | Karras et al. 2022, for any alpha |
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch import Tensor

from ornstein.base.errors import SingularPrediction
from ornstein.process.level import Level, Scalar, blend, root

_PURE_NOISE = 0.25 * math.log(1e4)  # from sigma/alpha = 1e4 on, x_t tells as much as noise does; below 1e-4, as clean data


class Prediction(ABC):
    """One row of the table: a target space and how the network's input is prepared for it."""

    @abstractmethod
    def coefficients(self, level: Level) -> tuple[Scalar, Scalar]:
        """(a, b) with target = a x_0 + b eps."""

    def input_scale(self, level: Level) -> Scalar:
        """Factor on x_t before the network sees it (EDM's c_in); 1 for the plain rows."""
        return 1.0

    def feature(self, level: Level) -> Scalar:
        """The number by which the network learns the noise level; the time t for the plain rows."""
        return level.t

    def target(self, x0: Tensor, eps: Tensor, level: Level) -> Tensor:
        """What the network should put out: a x_0 + b eps."""
        a, b = self.coefficients(level)
        return blend(a, x0, b, eps)

    def to_x0(self, y: Tensor, x: Tensor, level: Level) -> Tensor:
        """The clean data that an output y means at x_t. Raises SingularPrediction where d = 0."""
        a, b = self.coefficients(level)
        d = self._determinant(a, b, level)
        return blend(b / d, x, -level.sigma / d, y)

    def to_eps(self, y: Tensor, x: Tensor, level: Level) -> Tensor:
        """The noise that an output y means at x_t. Raises SingularPrediction where d = 0."""
        a, b = self.coefficients(level)
        d = self._determinant(a, b, level)
        return blend(level.alpha / d, y, -a / d, x)

    def loss_scale(self, level: Level) -> Scalar:
        """(d / sigma)^2: squared error of the output over squared error of x_0, at the same x_t."""
        a, b = self.coefficients(level)
        return (self._determinant(a, b, level) / level.sigma) ** 2

    def _determinant(self, a: Scalar, b: Scalar, level: Level) -> Scalar:
        d = level.alpha * b - level.sigma * a
        if bool((d == 0).any()) if isinstance(d, Tensor) else d == 0.0:
            raise SingularPrediction(
                f"A network that predicts {type(self).__name__} says nothing about x_0 at alpha = {level.alpha}, sigma = {level.sigma}.",
                "Predict v, x0 or velocity, or use a schedule whose alpha stays above 0.",
            )
        return d


class X0(Prediction):
    """The clean data itself."""

    def coefficients(self, level: Level) -> tuple[Scalar, Scalar]:
        """(1, 0)."""
        return 1.0, 0.0


class Eps(Prediction):
    """The noise."""

    def coefficients(self, level: Level) -> tuple[Scalar, Scalar]:
        """(0, 1)."""
        return 0.0, 1.0


class V(Prediction):
    """The rotation alpha eps - sigma x_0."""

    def coefficients(self, level: Level) -> tuple[Scalar, Scalar]:
        """(-sigma, alpha)."""
        return -level.sigma, level.alpha


class Velocity(Prediction):
    """The rate of change of x_t along its straight line of fixed (x_0, eps)."""

    def coefficients(self, level: Level) -> tuple[Scalar, Scalar]:
        """(d alpha/dt, d sigma/dt)."""
        return level.alpha_rate, level.sigma_rate


class Score(Prediction):
    """The gradient of log q(x_t | x_0), which is -eps / sigma."""

    def coefficients(self, level: Level) -> tuple[Scalar, Scalar]:
        """(0, -1/sigma)."""
        return 0.0, -1.0 / level.sigma


class Edm(Prediction):
    """EDM's preconditioned network F: unit-variance input and target at every level, for any alpha.

    Args:
        sigma_data: standard deviation of the data, > 0.
    """

    def __init__(self, sigma_data: float = 0.5) -> None:
        self.sigma_data = sigma_data

    def _total(self, level: Level) -> Scalar:
        """Standard deviation of x_t."""
        return root((level.alpha * self.sigma_data) ** 2 + level.sigma**2)

    def coefficients(self, level: Level) -> tuple[Scalar, Scalar]:
        """Target (x_0 - c_skip x_t) / c_out with c_skip = alpha sd^2/total^2 and c_out = sigma sd/total, cancelled."""
        total = self._total(level)
        return level.sigma / (self.sigma_data * total), -level.alpha * self.sigma_data / total

    def input_scale(self, level: Level) -> Scalar:
        """1 / standard deviation of x_t."""
        return 1.0 / self._total(level)

    def feature(self, level: Level) -> Scalar:
        """log(sigma / alpha) / 4, table 1 of the paper; within `_PURE_NOISE` of 0, so that both ends of the path have a feature too."""
        feature = -0.25 * level.half_log_snr
        if isinstance(feature, Tensor):
            return feature.clamp(-_PURE_NOISE, _PURE_NOISE)
        return max(-_PURE_NOISE, min(feature, _PURE_NOISE))
