# SPDX-License-Identifier: Apache-2.0
r"""Noise schedules: how alpha(t) falls and sigma(t) rises while t goes from 0 (data) to 1 (noise).

A schedule gives alpha and sigma as differentiable functions of t; everything else is derived once, in `Schedule`:

    log_snr(t) = log(alpha^2 / sigma^2)          falls strictly with t
    rates(t)   = (d alpha/dt, d sigma/dt)        forward-mode derivative, by hand in the schedules below
    time_of    = the inverse of log_snr          bisection, then one Newton step that carries the derivative

Nothing here assumes alpha^2 + sigma^2 = 1: variance-preserving, straight-line and variance-exploding paths are all of
the form x_t = alpha x_0 + sigma eps (Kingma et al. 2021, arXiv 2107.00630, section 3.1). Further paths are in `paths`,
schedules made of others in `wrapped` and `learned`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.process.level import CLEAN, Level

_BISECTIONS = 64  # halves [0, 1] to below the spacing of float64


class Schedule(ABC):
    """How much data and how much noise x_t holds. Tensors of times are float64 `(...)` in [0, 1]; so are the results."""

    noisiest: float = 1.0
    """The time at which sampling starts."""

    cleanest: float = 0.0
    """The time below which no denoiser is asked: training draws times above it, sampling goes on to clean data from there."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Scale of the data at time t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Scale of the noise at time t."""

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2) at time t; +inf at t = 0."""
        return 2.0 * (self.alpha(t).log() - self.sigma(t).log())

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(d alpha/dt, d sigma/dt) at time t. The rate of sigma is infinite at t = 0 where sigma behaves like sqrt(t).

        The schedules of this module write it out: the first forward-mode derivative of a process costs a second of imports.
        """
        one = torch.ones_like(t)
        return torch.func.jvp(self.alpha, (t,), (one,))[1], torch.func.jvp(self.sigma, (t,), (one,))[1]

    def size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What a pair is divided by to lie on a path of this family, keeping its ratio; sqrt(alpha^2 + sigma^2) unless overridden.

        Homogeneous of degree one, and 1 at every pair of the schedule's own, so that another log-SNR keeps a straight path
        straight and a variance-preserving one variance-preserving.
        """
        return torch.hypot(alpha, sigma)

    def time_of(self, log_snr: Tensor) -> Tensor:
        """The time at which the schedule reaches `log_snr`; differentiable in it, clamped to [0, 1] beyond the ends."""
        with torch.no_grad():
            low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
            for _ in range(_BISECTIONS):
                middle = (low + high) / 2.0
                early = self.log_snr(middle) > log_snr
                low, high = torch.where(early, middle, low), torch.where(early, high, middle)
            t = (low + high) / 2.0
            alpha_rate, sigma_rate = self.rates(t)
            slope = 2.0 * (alpha_rate / self.alpha(t) - sigma_rate / self.sigma(t))
            reached = self.log_snr(t)
        # Bisection alone has derivative zero; this step is ~0 in value and carries d t / d log_snr = 1 / slope.
        step = (log_snr - reached) / slope
        return torch.where(torch.isfinite(step), t + step, t).clamp(0.0, 1.0)

    def at(self, t: float | Tensor) -> Level:
        """The level at time t: Python floats for a float, float64 tensors for a tensor."""
        if isinstance(t, Tensor):
            time = t.to(torch.float64)
            return Level(time, self.alpha(time), self.sigma(time), *self.rates(time))
        if t == 0.0:
            return CLEAN
        time = torch.tensor(t, dtype=torch.float64)
        with torch.no_grad():
            return Level(t, float(self.alpha(time)), float(self.sigma(time)), *(float(rate) for rate in self.rates(time)))

    def at_log_snr(self, log_snr: float | Tensor) -> Level:
        """The level of a log-SNR: Python floats for a float, float64 tensors for a tensor."""
        if isinstance(log_snr, Tensor):
            return self.at(self.time_of(log_snr.to(torch.float64)))
        return self.at(float(self.time_of(torch.tensor(log_snr, dtype=torch.float64))))


class VariancePreserving(Schedule):
    """Schedules with alpha^2 + sigma^2 = 1, given by log alpha so that sigma loses no digits where it is small."""

    @abstractmethod
    def log_alpha(self, t: Tensor) -> Tensor:
        """log alpha(t) <= 0."""

    def alpha(self, t: Tensor) -> Tensor:
        """exp(log_alpha)."""
        return self.log_alpha(t).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha^2), without cancellation."""
        return (-torch.expm1(2.0 * self.log_alpha(t))).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), without leaving the logarithm."""
        log_alpha = self.log_alpha(t)
        return 2.0 * log_alpha - (-torch.expm1(2.0 * log_alpha)).log()

    @abstractmethod
    def log_alpha_rate(self, t: Tensor) -> Tensor:
        """d log alpha/dt <= 0."""

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha l' and -alpha^2 l'/sigma with l = log alpha."""
        alpha, slope = self.alpha(t), self.log_alpha_rate(t)
        return alpha * slope, -(alpha**2) * slope / self.sigma(t)


class LinearBeta(VariancePreserving):
    """Continuous VP process with beta(t) growing linearly (Song et al. 2021, arXiv 2011.13456, eq. 33).

    Args:
        beta_min: beta(0) per unit of time, > 0.
        beta_max: beta(1) per unit of time, >= beta_min.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        self.beta_min, self.beta_max = beta_min, beta_max

    def log_alpha(self, t: Tensor) -> Tensor:
        """Minus half the integral of beta from 0 to t."""
        return -0.5 * (self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t * t)

    def log_alpha_rate(self, t: Tensor) -> Tensor:
        """Minus half of beta(t)."""
        return -0.5 * (self.beta_min + (self.beta_max - self.beta_min) * t)


class BetaTable(VariancePreserving):
    """A discrete schedule beta_1..beta_T, met exactly at t = k/T and interpolated between (log alpha piecewise linear).

    Args:
        betas: the T noise variances, each in (0, 1); alpha(k/T)^2 = product of (1 - beta_i) for i <= k.
    """

    def __init__(self, betas: Sequence[float]) -> None:
        table = torch.tensor(list(betas), dtype=torch.float64)
        self.table = torch.cat([torch.zeros(1, dtype=torch.float64), 0.5 * torch.log1p(-table).cumsum(0)])

    def log_alpha(self, t: Tensor) -> Tensor:
        """Linear between the entries of the table."""
        left, slope = self._piece(t)
        return self.table[left] + (t * (len(self.table) - 1) - left) * slope

    def log_alpha_rate(self, t: Tensor) -> Tensor:
        """Constant between the entries of the table; at an entry, the rate of the piece that starts there."""
        return self._piece(t)[1] * (len(self.table) - 1)

    def _piece(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Entry at the left of each t, and the step from it to the next."""
        left = (t * (len(self.table) - 1)).floor().clamp(0, len(self.table) - 2).long()
        return left, self.table[left + 1] - self.table[left]


def ddpm(steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> BetaTable:
    """The linear table of DDPM (Ho et al. 2020, arXiv 2006.11239, section 4)."""
    return BetaTable(torch.linspace(beta_start, beta_end, steps, dtype=torch.float64).tolist())


class Cosine(Schedule):
    """Cosine schedule (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17) in continuous time.

    Written with sines of the complement, so that alpha is exactly 0 at the end and sigma keeps its digits at the start.

    Args:
        offset: the paper's s >= 0, which keeps sigma from starting too slowly.
        end: part of the quarter turn that is used, in (0, 1]. At 1 the terminal SNR is zero, which rules out
            predictions of eps and score; 0.995 keeps alpha(1) = 0.008.
    """

    def __init__(self, offset: float = 0.008, end: float = 1.0) -> None:
        self.offset, self.end = offset, end
        self._angle = 0.5 * math.pi / (1.0 + offset)

    def alpha(self, t: Tensor) -> Tensor:
        """cos of the angle at t over cos of the angle at 0."""
        return torch.sin(self._angle * (1.0 - self.end * t)) / math.sin(self._angle)

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha^2) by the product formula of sin^2 a - sin^2 b."""
        u = self.end * t
        return (torch.sin(self._angle * (2.0 - u)) * torch.sin(self._angle * u)).clamp_min(0.0).sqrt() / math.sin(self._angle)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The rate of the sine, and -alpha alpha'/sigma."""
        rate = -self._angle * self.end / math.sin(self._angle) * torch.cos(self._angle * (1.0 - self.end * t))
        return rate, -self.alpha(t) * rate / self.sigma(t)


class Flow(Schedule):
    """The straight path alpha = 1 - t, sigma = t of flow matching (Lipman et al. 2023, arXiv 2210.02747)."""

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1.0 - t

    def sigma(self, t: Tensor) -> Tensor:
        """The time itself."""
        return t.clone()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(-1, 1)."""
        return -torch.ones_like(t), torch.ones_like(t)

    def size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """alpha + sigma."""
        return alpha + sigma

    def time_of(self, log_snr: Tensor) -> Tensor:
        """Closed form: sigma/alpha = exp(-log_snr / 2)."""
        return torch.sigmoid(-0.5 * log_snr)


class EDM(Schedule):
    """Variance-exploding path alpha = 1, sigma = t/(1-t) (Karras et al. 2022, arXiv 2206.00364), so that t = sigma/(1+sigma).

    Args:
        sigma_max: the noise level at which sampling starts, > 0.
    """

    def __init__(self, sigma_max: float = 80.0) -> None:
        self.noisiest = sigma_max / (1.0 + sigma_max)

    def alpha(self, t: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """t / (1 - t)."""
        return t / (1.0 - t)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(0, 1 / (1 - t)^2)."""
        return torch.zeros_like(t), (1.0 - t) ** -2.0

    def size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """alpha."""
        return alpha

    def time_of(self, log_snr: Tensor) -> Tensor:
        """Closed form: sigma = exp(-log_snr / 2)."""
        return torch.sigmoid(-0.5 * log_snr)
