# SPDX-License-Identifier: Apache-2.0
r"""The Gaussian corruption process x_t = alpha(t) x_0 + sigma(t) eps and its one-step reverse law.

For s < t write r = alpha_t / alpha_s. Going s -> t adds noise of variance  beta = sigma_t^2 - r^2 sigma_s^2,  and
given x_0 the way back is normal with variance  beta~ = beta sigma_s^2 / sigma_t^2  (Ho et al. 2020, arXiv 2006.11239,
eq. 7; in this notation Kingma et al. 2021, arXiv 2107.00630, appendix A). Every law with the same marginals is reached
by scaling that standard deviation with eta (Song et al. 2021, arXiv 2010.02502, eq. 12):

    mean = alpha_s x_0 + sqrt(sigma_s^2 - std^2) (x_t - alpha_t x_0) / sigma_t,     std = eta sqrt(beta~)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.process.estimate import Gaussian
from ornstein.process.level import Level, Scalar, blend, over, root, vanishes
from ornstein.process.schedule import Schedule


@runtime_checkable
class Noise(Protocol):
    """Random numbers of one sampling move; a pure function of each sample's seed, the move and the stage inside it."""

    def normal(self, like: Tensor, stage: int = 0) -> Tensor:
        """Standard normal numbers of the shape, dtype and device of `like`."""

    def uniform(self, like: Tensor, stage: int = 0) -> Tensor:
        """Numbers in [0, 1) of the shape and device of `like`, float64."""


class NormalLaw(NamedTuple):
    """A normal distribution with independent components: mean `(batch, ...)`, standard deviation broadcast to it."""

    mean: Tensor
    std: Scalar

    def draw(self, noise: Noise) -> Tensor:
        """One draw per sample; the mean itself, without asking for noise, where the deviation is the float 0."""
        if not isinstance(self.std, Tensor) and self.std == 0.0:
            return self.mean
        return self.mean + over(self.std, self.mean) * noise.normal(self.mean)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of x in nats, summed over all but the first dimension: `(batch,)`."""
        std = _filled(self.std, self.mean)
        terms = -0.5 * ((x - self.mean) / std) ** 2 - std.log() - 0.5 * math.log(2.0 * math.pi)
        return terms.flatten(1).sum(1)

    def kl(self, other: NormalLaw) -> Tensor:
        """KL(self || other) in nats, summed over all but the first dimension: `(batch,)`."""
        std = _filled(self.std, self.mean)
        wide = _filled(other.std, other.mean)
        terms = (wide / std).log() + (std**2 + (self.mean - other.mean) ** 2) / (2.0 * wide**2) - 0.5
        return terms.flatten(1).sum(1)


class GaussianProcess:
    """Corruption of continuous data by Gaussian noise along a schedule."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def draw(self, shape: Sequence[int], keys: Keys) -> Tensor:
        """The noise eps that `corrupt` takes: standard normal `(len(keys), *shape)`, float32."""
        return keys.normal(shape)

    def corrupt(self, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        """alpha x_0 + sigma eps."""
        return blend(level.alpha, x0, level.sigma, noise)

    def renoise(self, x: Tensor, s: Level, t: Level, noise: Noise) -> Tensor:
        """Carry x from level s up to the noisier level t with fresh noise, keeping the marginal law. Needs alpha_s > 0."""
        ratio = t.alpha / s.alpha
        return blend(ratio, x, root(t.sigma**2 - (ratio * s.sigma) ** 2), noise.normal(x))

    def prior(self, shape: Sequence[int], keys: Keys) -> Tensor:
        """Where sampling starts: sigma(noisiest) eps, `(len(keys), *shape)`, float32."""
        sigma = self.schedule.at(self.schedule.noisiest).sigma
        return self.draw(shape, keys) * sigma

    def reverse_law(self, estimate: Gaussian, x: Tensor, t: Level, s: Level, eta: float = 1.0) -> NormalLaw:
        """Law of x_s given x_t and the estimate of x_0.

        Args:
            estimate: the denoiser's answer at x_t; its `spread`, where given and eta > 0, sets the variance but not the mean.
            x: x_t, `(batch, ...)`, with sigma_t > 0.
            t: the level of x.
            s: the level to go to: cleaner than t, or of either side where eta = 0.
            eta: 1 is the DDPM posterior, 0 the deterministic DDIM move.
        """
        if vanishes(s.sigma):
            return NormalLaw(estimate.x0, 0.0)
        if eta == 0.0:
            return NormalLaw(self._mean(estimate.x0, x, t, s, s.sigma), 0.0)
        ratio = t.alpha / s.alpha
        forward = t.sigma**2 - (ratio * s.sigma) ** 2
        posterior = forward * s.sigma**2 / t.sigma**2
        mean = self._mean(estimate.x0, x, t, s, root(s.sigma**2 - eta**2 * posterior))
        if estimate.spread is None:
            return NormalLaw(mean, eta * root(posterior))
        return NormalLaw(mean, _between(posterior, forward, estimate.spread, x))

    @staticmethod
    def _mean(x0: Tensor, x: Tensor, t: Level, s: Level, kept: Scalar) -> Tensor:
        """alpha_s x_0 + kept eps, with eps read off x_t and written so that alpha_t x_0 and x_t are touched once each."""
        share = kept / t.sigma
        return blend(share, x, s.alpha - share * t.alpha, x0)


def _between(low: Scalar, high: Scalar, spread: Tensor | float, x: Tensor) -> Scalar:
    """Standard deviation whose log-variance lies at `spread` between those of `low` and `high`."""
    if not isinstance(low, Tensor) and not isinstance(high, Tensor) and not isinstance(spread, Tensor):
        return float(low ** (0.5 * (1.0 - spread)) * high ** (0.5 * spread))
    return torch.exp(0.5 * (spread * _filled(high, x).log() + (1.0 - spread) * _filled(low, x).log()))


def _filled(value: Scalar, x: Tensor) -> Tensor:
    """A level's number as a tensor of x's shape and dtype."""
    value = over(value, x)
    return value.expand_as(x) if isinstance(value, Tensor) else torch.full_like(x, value)
