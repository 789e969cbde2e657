# SPDX-License-Identifier: Apache-2.0
r"""Schedules made of another one. Each keeps the family of its base (variance-preserving, straight, exploding).

**Shift.** Hoogeboom et al. 2023 (arXiv 2301.11093, section 3.1): averaging over a square of s x s pixels leaves the picture
and divides sigma by s, so an image of s times the side is corrupted alike when log-SNR is lower by 2 log s everywhere:

    log_snr'(t) = log_snr(t) - 2 log s,        sigma'/alpha' = s sigma/alpha.

On the straight path alpha = 1 - t, sigma = t this reads  sigma' = s t / (1 + (s - 1) t),  the timestep shift of Esser et al. 2024
(arXiv 2403.03206, section 5.3.2), who write s = sqrt(m/n) for m and n pixels: one rule, in two notations.

**Zero terminal SNR.** Lin et al. 2023 (arXiv 2305.08891, algorithm 1) move and stretch sqrt(alpha-bar) to end at 0:

    alpha'(t) = (alpha(t) - alpha(1)) / (1 - alpha(1)),      sigma' = sqrt(1 - alpha'^2).

They keep the first entry of a table where this keeps alpha(0) = 1, the same in the limit of long tables.

**Truncation.** Only levels between two log-SNRs are trained on and sampled: what is noisier counts as noise, what is cleaner
as data. alpha and sigma stay as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.process.schedule import Flow, LinearBeta, Schedule


class Shifted(Schedule):
    """A schedule whose noise is `factor` times as loud at every t.

    Args:
        base: what is shifted.
        factor: s > 0, on sigma/alpha: the side of the images over the side that the base was made for.
    """

    def __init__(self, base: Schedule = Flow(), factor: float = 2.0) -> None:
        self.base, self.factor = base, factor
        self.noisiest, self.cleanest = base.noisiest, base.cleanest

    def alpha(self, t: Tensor) -> Tensor:
        """alpha / size(alpha, s sigma)."""
        return self._placed(self.base.alpha(t), self.base.sigma(t))[0]

    def sigma(self, t: Tensor) -> Tensor:
        """s sigma / size(alpha, s sigma)."""
        return self._placed(self.base.alpha(t), self.base.sigma(t))[1]

    def log_snr(self, t: Tensor) -> Tensor:
        """The base's, lower by 2 log s."""
        return self.base.log_snr(t) - 2.0 * math.log(self.factor)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The base's, pushed through the rescaling."""
        pair: tuple[Tensor, Tensor] = torch.func.jvp(self._placed, (self.base.alpha(t), self.base.sigma(t)), self.base.rates(t))[1]
        return pair

    def size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """That of the base's family."""
        return self.base.size(alpha, sigma)

    def time_of(self, log_snr: Tensor) -> Tensor:
        """Where the base has the log-SNR before the shift."""
        return self.base.time_of(log_snr + 2.0 * math.log(self.factor))

    def _placed(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        size = self.base.size(alpha, self.factor * sigma)
        return alpha / size, self.factor * sigma / size


class ZeroTerminal(Schedule):
    """A variance-preserving schedule rescaled to end in pure noise.

    Args:
        base: a schedule with alpha^2 + sigma^2 = 1.

    Raises UsageError for another one.
    """

    def __init__(self, base: Schedule = LinearBeta()) -> None:
        half, last = base.at(0.5 * base.noisiest), base.at(base.noisiest)
        if abs(float(half.alpha**2 + half.sigma**2) - 1.0) > 1e-9:
            what = f"Only a variance-preserving schedule can be rescaled to zero terminal SNR, not {type(base).__name__}."
            raise UsageError(what, "Use a schedule with alpha^2 + sigma^2 = 1; flow has zero terminal SNR already.")
        self.base, self.noisiest, self.cleanest, self._last = base, base.noisiest, base.cleanest, float(last.alpha)

    def alpha(self, t: Tensor) -> Tensor:
        """Moved and stretched; exactly 0 at the end."""
        moved = (self.base.alpha(t) - self._last) / (1.0 - self._last)
        return torch.where(t >= self.noisiest, 0.0, moved.clamp_min(0.0))

    def sigma(self, t: Tensor) -> Tensor:
        """sqrt((1 - alpha') (1 + alpha')), with 1 - alpha = sigma^2/(1 + alpha) of the base so that no digit is lost."""
        short = self.base.sigma(t) ** 2 / ((1.0 + self.base.alpha(t)) * (1.0 - self._last))
        return (torch.where(t >= self.noisiest, 1.0, short) * (1.0 + self.alpha(t))).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The base's rate stretched, and -alpha alpha'/sigma."""
        rate = self.base.rates(t)[0] / (1.0 - self._last)
        return rate, -self.alpha(t) * rate / self.sigma(t)


class Truncated(Schedule):
    """A schedule of which only the levels between two log-SNRs are used.

    Args:
        base: what is truncated.
        lowest: log-SNR at which sampling starts, from sigma eps alone; the base's own end where that is higher.
        highest: log-SNR above which no denoiser is asked; > lowest.
    """

    def __init__(self, base: Schedule = LinearBeta(), lowest: float = -10.0, highest: float = 10.0) -> None:
        self.base = base
        ends = base.time_of(torch.tensor([highest, lowest], dtype=torch.float64)).tolist()
        self.cleanest, self.noisiest = max(base.cleanest, ends[0]), min(base.noisiest, ends[1])

    def alpha(self, t: Tensor) -> Tensor:
        """The base's."""
        return self.base.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        """The base's."""
        return self.base.sigma(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """The base's."""
        return self.base.log_snr(t)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The base's."""
        return self.base.rates(t)

    def size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """That of the base's family."""
        return self.base.size(alpha, sigma)

    def time_of(self, log_snr: Tensor) -> Tensor:
        """The base's."""
        return self.base.time_of(log_snr)
