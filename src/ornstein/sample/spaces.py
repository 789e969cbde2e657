# SPDX-License-Identifier: Apache-2.0
r"""What rules of the exponential family extrapolate, and the exact solution of the path where that is known.

With lambda = log(alpha/sigma), the probability flow (and the reverse SDE) is solved exactly for a known function q:

    x_s = keep x_t + integral of K(lambda) q(lambda) d lambda + noise z

| space | q | keep | K | noise |
|---|---|---|---|---|
| `Data(tau)` | x_0 | (sigma_s/sigma_t) e^{-tau^2 h} | alpha_s k e^{-k (lambda_s - lambda)} | sigma_s sqrt(1 - e^{-2 tau^2 h}) |
| `Eps` | eps | alpha_s/alpha_t | -alpha_s e^{-lambda} | 0 |
| `Angle(c)` | F | rho_s/rho_t | -rho_s d theta/d lambda | 0 |

Data, with k = 1 + tau^2: Lu et al. 2022 (arXiv 2211.01095, eq. 8) at tau = 0 and SDE-DPM-Solver++ at tau = 1; Xue et al.
2023 (arXiv 2309.05019, eq. 8) in general, where tau scales the noise of the reverse SDE. Eps: Zhang & Chen 2023 (arXiv
2204.13902). Angle: with rho^2 = sigma^2 + c^2 alpha^2 and theta = atan(sigma/(c alpha)), F is the output of a network under
EDM's preconditioning for data of deviation c (Karras et al. 2022, arXiv 2206.00364, eq. 7), and d(x/rho)/d theta = -F. It
vanishes for Gaussian data of that deviation; c = 0 would be Data and c = inf Eps. Its coefficients are finite at both ends
of the path, where theta is a right angle and 0.

Integrals are Gauss-Legendre sums over each move, exact to rounding for polynomials of the usual degrees: the integrands are
entire functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ornstein.process.level import Level

Array = NDArray[np.float64]
_POINTS, _SHARES = np.polynomial.legendre.leggauss(24)


class Path(NamedTuple):
    """The nodes of a plan as arrays `(n,)`: signal, noise and lambda = log(alpha/sigma)."""

    alpha: Array
    sigma: Array
    half_log_snr: Array

    @classmethod
    def of(cls, levels: Sequence[Level]) -> Path:
        """The path along some levels of floats."""
        alpha, sigma = np.array([level[1:3] for level in levels], dtype=np.float64).T
        with np.errstate(divide="ignore"):
            return cls(alpha, sigma, np.log(alpha) - np.log(sigma))


class Moves(NamedTuple):
    """The exact solution of each of n moves for a known q: x_s = keep x_t + sum_g weights_g q(half_log_snr_g) + noise z.

    Args:
        keep: `(n,)`.
        half_log_snr: where q is asked, `(n, g)`.
        weights: of the answers, `(n, g)`.
        edge: density of the integral at s, `(n,)`.
        noise: `(n,)`.
    """

    keep: Array
    half_log_snr: Array
    weights: Array
    edge: Array
    noise: Array


class Space(ABC):
    """What a rule extrapolates, and the exact solution for it."""

    ends: frozenset[str] = frozenset()

    @abstractmethod
    def read(self, path: Path) -> tuple[Array, Array] | None:
        """(p, r) with q = p x + r x_0 at each node; None where q = x_0."""

    def place(self, half_log_snr: Array) -> Array:
        """The variable in which q is smoothest; lambda where a space does not say otherwise."""
        return half_log_snr

    @abstractmethod
    def moves(self, path: Path) -> Moves:
        """The moves between neighbouring nodes."""


class Data(Space):
    """x_0 itself.

    Args:
        tau: noise of the reverse SDE: 0 is the probability flow, 1 the SDE of the forward process reversed.
    """

    def __init__(self, tau: float = 0.0) -> None:
        self.tau = tau

    def read(self, path: Path) -> None:
        """x_0 is remembered as it comes."""

    def moves(self, path: Path) -> Moves:
        """See the table of the module."""
        rate, step = 1.0 + self.tau**2, np.diff(path.half_log_snr)
        places, shares = _between(path.half_log_snr)
        alpha, sigma = path.alpha[1:], path.sigma[1:]
        weights = (alpha * rate)[:, None] * np.exp(-rate * (path.half_log_snr[1:, None] - places)) * shares
        keep = sigma / path.sigma[:-1] * np.exp(-(self.tau**2) * step)
        noise = sigma * np.sqrt(np.maximum(-np.expm1(-2.0 * self.tau**2 * step), 0.0))
        return Moves(keep, places, weights, alpha * rate, noise)


class Eps(Space):
    """The noise eps = (x - alpha x_0)/sigma."""

    def read(self, path: Path) -> tuple[Array, Array]:
        """eps of x and x_0."""
        return 1.0 / path.sigma, -path.alpha / path.sigma

    def moves(self, path: Path) -> Moves:
        """See the table of the module."""
        places, shares = _between(path.half_log_snr)
        weights = -path.alpha[1:, None] * np.exp(-places) * shares
        return Moves(path.alpha[1:] / path.alpha[:-1], places, weights, -path.sigma[1:], np.zeros(len(path.alpha) - 1))


class Angle(Space):
    """F, the part of x_0 that a Gaussian guess of deviation `scale` leaves open.

    Args:
        scale: the guess, > 0: standard deviation of the data.
    """

    ends = frozenset({"noise", "clean"})

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def place(self, half_log_snr: Array) -> Array:
        """theta; a right angle where lambda = -inf, 0 where it is inf."""
        return np.arctan(np.exp(-half_log_snr) / self.scale)

    def read(self, path: Path) -> tuple[Array, Array]:
        """F of x and x_0; 0 at the clean end, where nothing is read."""
        rho = np.hypot(path.sigma, self.scale * path.alpha)
        inverse = np.divide(1.0, path.sigma, out=np.zeros_like(path.sigma), where=path.sigma > 0.0)
        return -self.scale * path.alpha * inverse / rho, rho * inverse / self.scale

    def moves(self, path: Path) -> Moves:
        """See the table of the module."""
        rho = np.hypot(path.sigma, self.scale * path.alpha)
        places, shares = _between(np.arctan2(path.sigma, self.scale * path.alpha))
        half_log_snr = -np.log(self.scale * np.tan(places))
        edge = np.zeros(len(rho) - 1)  # no two-point shortcuts here: they are made in lambda
        return Moves(rho[1:] / rho[:-1], half_log_snr, -rho[1:, None] * shares, edge, edge)


def _between(ends: Array) -> tuple[Array, Array]:
    """Points and shares of the quadrature over each interval of neighbouring ends: `(n, g)` both."""
    half, middle = 0.5 * np.diff(ends)[:, None], 0.5 * (ends[1:] + ends[:-1])[:, None]
    return middle + half * _POINTS, half * _SHARES
