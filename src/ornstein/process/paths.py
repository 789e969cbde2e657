# SPDX-License-Identifier: Apache-2.0
r"""Further paths from data to noise.

| schedule | alpha | sigma | source |
|---|---|---|---|
| sigmoid | sqrt(1 - sigma^2) | sqrt((1 - floor) (S(t) - S(0)) / (S(1) - S(0))), S a sigmoid | Jabri et al. 2022, arXiv 2212.11972 |
| geometric | 1 | sigma_min sqrt((sigma_max/sigma_min)^(2t) - 1) | Song et al. 2021, arXiv 2011.13456, eq. 30 |
| sub-vp | exp(-B/2), B the integral of beta | 1 - exp(-B) | Song et al. 2021, eq. 28; alpha^2 + sigma^2 < 1 between the ends |
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ornstein.process.schedule import BetaTable, LinearBeta, Schedule


def scaled_linear(steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> BetaTable:
    """The table of latent diffusion, linear in sqrt(beta) (Rombach et al. 2022, arXiv 2112.10752; Stable Diffusion's numbers)."""
    return BetaTable(torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64).square().tolist())


class Sigmoid(Schedule):
    """Signal alpha^2 along a piece of a sigmoid (Jabri et al. 2022, arXiv 2212.11972; Chen 2023, arXiv 2301.10972, algorithm 1).

    The papers cut alpha^2 off below at 1e-9, where log-SNR would stand still; here it is lifted to end at `floor` instead.

    Args:
        start, end: the piece of the sigmoid, start < end.
        tau: its temperature, > 0.
        floor: alpha^2 at t = 1, in (0, 1).
    """

    def __init__(self, start: float = -3.0, end: float = 3.0, tau: float = 1.0, floor: float = 1e-4) -> None:
        self.floor, self._first, self._span = floor, start / tau, (end - start) / tau
        self._height = float(_rise(torch.tensor(end / tau, dtype=torch.float64), self._first))

    def alpha(self, t: Tensor) -> Tensor:
        """Square root of what of the sigmoid is still to come, lifted by the floor."""
        left = _rise(torch.full_like(t, self._first + self._span), self._first + self._span * t) / self._height
        return (self.floor + (1.0 - self.floor) * left).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt(1 - alpha^2), without cancellation."""
        return ((1.0 - self.floor) * _rise(self._first + self._span * t, self._first) / self._height).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """From d sigma^2/dt = -d alpha^2/dt, the slope of the sigmoid."""
        u = self._first + self._span * t
        slope = (1.0 - self.floor) * self._span * torch.sigmoid(u) * torch.sigmoid(-u) / self._height
        return -0.5 * slope / self.alpha(t), 0.5 * slope / self.sigma(t)


def _rise(high: Tensor, low: Tensor | float) -> Tensor:
    """sigmoid(high) - sigmoid(low) to full relative precision."""
    low = torch.as_tensor(low, dtype=high.dtype)
    return torch.sinh(0.5 * (high - low)) / (2.0 * torch.cosh(0.5 * high) * torch.cosh(0.5 * low))


class Geometric(Schedule):
    """The variance-exploding process of SMLD in continuous time (Song et al. 2021, arXiv 2011.13456, eq. 30), alpha = 1.

    sigma grows in equal ratios but near t = 0, where the process has added nothing yet: its variance from time 0 on is
    sigma_min^2 ((sigma_max/sigma_min)^(2t) - 1). The levels of NCSN are t = k/L up to that -1.

    Args:
        sigma_min: scale below which noise counts as none, > 0.
        sigma_max: noise to start from, up to the -1; > sigma_min.
    """

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0) -> None:
        self.sigma_min, self._log_ratio = sigma_min, math.log(sigma_max / sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        """One."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """sigma_min sqrt(ratio^(2t) - 1)."""
        return self.sigma_min * torch.expm1(2.0 * self._log_ratio * t).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(0, sigma_min^2 log(ratio) ratio^(2t) / sigma)."""
        return torch.zeros_like(t), self.sigma_min**2 * self._log_ratio * (2.0 * self._log_ratio * t).exp() / self.sigma(t)

    def size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """alpha."""
        return alpha

    def time_of(self, log_snr: Tensor) -> Tensor:
        """Closed form: sigma^2 = exp(-log_snr)."""
        return (torch.log1p(torch.exp(-log_snr) / self.sigma_min**2) / (2.0 * self._log_ratio)).clamp(0.0, 1.0)


class SubVP(Schedule):
    """The sub-variance-preserving process (Song et al. 2021, arXiv 2011.13456, eq. 28): sigma is the square of the VP process's.

    Args:
        beta_min: beta(0) per unit of time, > 0.
        beta_max: beta(1) per unit of time, >= beta_min.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0) -> None:
        self._preserving = LinearBeta(beta_min, beta_max)

    def alpha(self, t: Tensor) -> Tensor:
        """That of the VP process of the same beta."""
        return self._preserving.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """1 - alpha^2, without cancellation."""
        return -torch.expm1(2.0 * self._preserving.log_alpha(t))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha l' and -2 alpha^2 l' with l = log alpha."""
        alpha, slope = self.alpha(t), self._preserving.log_alpha_rate(t)
        return alpha * slope, -2.0 * alpha**2 * slope

    def size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The n for which sigma/n = 1 - (alpha/n)^2."""
        return 0.5 * (sigma + torch.hypot(sigma, 2.0 * alpha))
