# SPDX-License-Identifier: Apache-2.0
r"""Guidance by comparing answers: a denoiser around denoisers.

    x_0 = base + scale (told - base)

| guidance | told | base | source |
|---|---|---|---|
| `ClassifierFree` | with the condition | without it, or with a negative one | Ho & Salimans 2022, arXiv 2207.12598, eq. 6 |
| `Autoguided` | the model | a worse one, asked the same | Karras et al. 2024, arXiv 2406.02507, eq. 3 |
| `Composed` | several conditions, a weight each | without any | Liu et al. 2022, arXiv 2206.01714, eq. 11 and 13 |

Scale 1 is `told` alone, 0 is `base`. Ho & Salimans write w = scale - 1. Because every prediction is affine in x_0 at a fixed
x_t, guiding x_0, eps, v or the score is the same. Guiding only between two noise levels costs less and keeps diversity
(Kynkaanniemi et al. 2024, arXiv 2404.07724).

A large scale widens x_0. Rescaling puts back a share phi of the spread that `told` has, over all numbers of one sample:

    x_0 <- (1 - phi) x_0 + phi x_0 std(told)/std(x_0)        (Lin et al. 2023, arXiv 2305.08891, eq. 14-16, here for x_0)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.estimate import Gaussian
from ornstein.process.level import Level, over

Interval = tuple[float, float]
ALWAYS: Interval = (0.0, 1.0)


class ClassifierFree(Denoiser):
    """Guide a conditional denoiser away from its own unconditional answer; both are asked in one batched call.

    Args:
        denoiser: a denoiser trained with dropped conditions.
        scale: guidance scale, >= 0.
        interval: (low, high) times t in [0, 1] between which guidance acts; outside it the conditional answer is used
            and the network is called for it alone.
        rescale: phi in [0, 1], the share of the conditional answer's spread that is put back.
        negative: condition of one row to be guided away from; None is the null condition.
    """

    def __init__(
        self, denoiser: Denoiser, scale: float, interval: Interval = ALWAYS, rescale: float = 0.0, negative: Cond | None = None
    ) -> None:
        self.denoiser, self.scale, self.interval, self.rescale, self.negative = denoiser, scale, interval, rescale, negative
        self.process, self.flow_map = denoiser.process, denoiser.flow_map

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Guided estimate; see `Denoiser`."""
        if cond is None or self.scale == 1.0 or not acts_at(self.interval, level):
            alone: Gaussian = self.denoiser(x, level, cond, towards)
            return alone
        base = cond.null() if self.negative is None else self.negative.repeat(len(x))
        told, untold = asked(self.denoiser, x, level, [cond, base.to(x.device)], towards)
        return pushed(told, untold, scale_at(self.scale, self.interval, level, x), self.rescale)


class Autoguided(Denoiser):
    """Guide a model away from a worse version of itself: fewer steps, less capacity, or data spoilt on purpose.

    Args:
        denoiser: the model.
        bad: the worse one, on the same process; it is asked with the same condition.
        scale: guidance scale, >= 0.
        interval: times between which guidance acts; outside it the worse model is not called.
        rescale: as in `ClassifierFree`.
    """

    def __init__(self, denoiser: Denoiser, bad: Denoiser, scale: float, interval: Interval = ALWAYS, rescale: float = 0.0) -> None:
        self.denoiser, self.bad, self.scale, self.interval, self.rescale = denoiser, bad, scale, interval, rescale
        self.process, self.flow_map = denoiser.process, denoiser.flow_map and bad.flow_map

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Guided estimate; see `Denoiser`."""
        good: Gaussian = self.denoiser(x, level, cond, towards)
        if self.scale == 1.0 or not acts_at(self.interval, level):
            return good
        worse: Gaussian = self.bad(x, level, cond, towards)
        return pushed(good, worse, scale_at(self.scale, self.interval, level, x), self.rescale)


class Composed(Denoiser):
    """Several conditions at once: x_0 = untold + sum_k weight_k (told_k - untold), all asked in one batched call.

    With positive weights this is the product of what the conditions say (both A and B), a negative weight is a negation.
    It is exact where the conditions are independent given x_t.

    Args:
        denoiser: a denoiser trained with dropped conditions.
        terms: conditions of one row each, and their weights; these replace whatever condition the caller gives.

    Raises:
        UsageError: no terms.
    """

    def __init__(self, denoiser: Denoiser, terms: Sequence[tuple[Cond, float]]) -> None:
        if not terms:
            raise UsageError("A composition of no conditions was asked for.", "Give at least one condition with its weight.")
        self.denoiser, self.terms, self.process = denoiser, tuple(terms), denoiser.process
        self.flow_map = denoiser.flow_map

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Composed estimate; see `Denoiser`."""
        conds = [term.repeat(len(x)).to(x.device) for term, _ in self.terms]
        untold, *told = asked(self.denoiser, x, level, [conds[0].null(), *conds], towards)
        x0 = untold.x0
        for answer, (_, weight) in zip(told, self.terms, strict=True):
            x0 = x0 + weight * (answer.x0 - untold.x0)
        return untold._replace(x0=x0)


class Unconditioned(Denoiser):
    """A denoiser that is never told the condition: what classifier guidance starts from."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.process, self.flow_map = denoiser, denoiser.process, denoiser.flow_map

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """The estimate without condition; see `Denoiser`."""
        alone: Gaussian = self.denoiser(x, level, None, towards)
        return alone


def acts_at(interval: Interval, level: Level) -> bool:
    """Whether the level of any sample lies within an interval of times."""
    within = (level.t >= interval[0]) & (level.t <= interval[1])
    return bool(within.any()) if isinstance(within, Tensor) else within


def scale_at(scale: float, interval: Interval, level: Level, x: Tensor) -> float | Tensor:
    """The scale inside the interval and 1 outside it, ready to multiply x; see `acts_at` for levels of floats."""
    if not isinstance(level.t, Tensor):
        return scale
    within = (level.t >= interval[0]) & (level.t <= interval[1])
    return over(within.to(x.dtype) * (scale - 1.0) + 1.0, x)


def pushed(told: Gaussian, base: Gaussian, scale: float | Tensor, rescale: float = 0.0) -> Gaussian:
    """base + scale (told - base), with the share `rescale` of told's spread put back; the variance of a move stays told's."""
    x0 = base.x0 + scale * (told.x0 - base.x0)
    if rescale > 0.0:
        wanted, present = _spread(told.x0), _spread(x0)
        x0 = x0 * (1.0 - rescale + rescale * torch.where(present > 0.0, wanted / present, 1.0))
    return told._replace(x0=x0)


def asked(denoiser: Denoiser, x: Tensor, level: Level, conds: Sequence[Cond], towards: Level | None) -> list[Gaussian]:
    """A denoiser's answers to the same x under several conditions, from one call."""
    n, joint = len(conds), conds[0]
    for cond in conds[1:]:
        joint = joint.concat(cond)
    goal = None if towards is None else _repeated(towards, n)
    every: Gaussian = denoiser(torch.cat([x] * n), _repeated(level, n), joint, goal)
    spreads = every.spread.chunk(n) if isinstance(every.spread, Tensor) and every.spread.ndim else [every.spread] * n
    return [Gaussian(x0, spread) for x0, spread in zip(every.x0.chunk(n), spreads, strict=True)]


def _repeated(level: Level, n: int) -> Level:
    """A level for a batch that holds its samples n times; floats serve any batch."""
    return Level(*(torch.cat([value] * n) if isinstance(value, Tensor) and value.ndim else value for value in level))


def _spread(x: Tensor) -> Tensor:
    """Standard deviation over all numbers of each sample, ready to multiply x."""
    return x.flatten(1).std(1, correction=0).reshape(-1, *(1,) * (x.ndim - 1))
