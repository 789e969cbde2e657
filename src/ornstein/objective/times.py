# SPDX-License-Identifier: Apache-2.0
"""Where on the schedule training looks: samplers of t, with an importance weight per draw.

The weight is 1 for draws that are part of the objective, as all of these are; it is 1/p only where a sampler changes
the variance of a fixed objective, as `loss_aware` does. A sampler that learns from losses keeps what it remembers in the
objective's state and nothing in itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.process.schedule import Schedule

START = 1e-5
"""Smallest time: below it log-SNR has no finite derivative on variance-preserving schedules."""


class TimeSampler(ABC):
    """Draws times for a batch."""

    @abstractmethod
    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """(t, importance weight), each float64 `(len(keys),)`, with t in (0, noisiest] and not below the schedule's cleanest time."""

    def init(self) -> dict[str, Any]:
        """What the sampler remembers before the first batch; JSON values and tensors under names of its own."""
        return {}

    def given(self, state: Mapping[str, Any]) -> TimeSampler:
        """The sampler for an objective's state."""
        return self

    def remember(self, state: Mapping[str, Any], t: Tensor, losses: Tensor) -> dict[str, Any]:
        """What it remembers after a global batch with these times and losses, importance weights included."""
        return {}


def strata_of(keys: Keys, strata: int) -> Tensor:
    """A uniform number per key, one in each of `strata` equal parts of [0, 1): that of the draw number modulo `strata`."""
    stratum = torch.tensor([draw % strata for draw in keys.draws], dtype=torch.float64)
    return (stratum + keys.uniform()) / strata


class Uniform(TimeSampler):
    """t uniform between `start`, or the schedule's cleanest time where that is later, and its noisiest.

    Args:
        schedule: gives the cleanest and the noisiest time.
        start: smallest time, in (0, 1).
    """

    def __init__(self, schedule: Schedule, start: float = START) -> None:
        self.start = max(start, schedule.cleanest)
        self.length = schedule.noisiest - self.start

    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """Independent draws."""
        u = keys.uniform()
        return self.start + self.length * u, torch.ones_like(u)


class Stratified(TimeSampler):
    """Uniform t, one draw from each of `strata` equal parts: the same objective with less noise.

    Each example alone is uniform; together a global batch covers the range evenly (Kingma et al. 2021, arXiv 2107.00630,
    appendix I.1, with a jitter of its own for every example). The stratum is the draw number modulo the
    global batch, so ranks and micro-batches share one cover.

    Args:
        schedule: gives the cleanest and the noisiest time.
        strata: examples in a global batch.
        start: smallest time, in (0, 1).
    """

    def __init__(self, schedule: Schedule, strata: int, start: float = START) -> None:
        self.start, self.strata = max(start, schedule.cleanest), strata
        self.length = schedule.noisiest - self.start

    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """One draw in the stratum of each key."""
        u = strata_of(keys, self.strata)
        return self.start + self.length * u, torch.ones_like(u)


class Levels(TimeSampler):
    """Only the times k/count of the way from the cleanest to the noisiest, k = 1..count, each as likely.

    On a table of `count` entries these are DDPM's timesteps, on the geometric schedule the noise levels of NCSN.

    Args:
        schedule: gives the cleanest and the noisiest time.
        count: number of levels, >= 1.
    """

    def __init__(self, schedule: Schedule, count: int = 1000) -> None:
        self.start, self.length, self.count = schedule.cleanest, schedule.noisiest - schedule.cleanest, count

    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """Independent draws."""
        k = (keys.uniform() * self.count).floor() + 1.0
        return self.start + self.length * k / self.count, torch.ones_like(k)


class LogitNormal(TimeSampler):
    """A normal logit of the share of the way from cleanest to noisiest (Esser et al. 2024, arXiv 2403.03206, section 3.1).

    Args:
        schedule: gives the cleanest and the noisiest time.
        mean: location; below 0 looks more at clean data.
        std: width, > 0.
    """

    def __init__(self, schedule: Schedule, mean: float = 0.0, std: float = 1.0) -> None:
        self.start, self.length, self.mean, self.std = schedule.cleanest, schedule.noisiest - schedule.cleanest, mean, std

    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """Independent draws."""
        t = self.start + self.length * torch.sigmoid(self.mean + self.std * keys.normal((), torch.float64))
        return t, torch.ones_like(t)


class LogNormalSigma(TimeSampler):
    """log(sigma/alpha) normal (Karras et al. 2022, arXiv 2206.00364, table 1), cut off at the schedule's ends.

    Args:
        schedule: turns a noise level into a time.
        mean: mean of log(sigma/alpha).
        std: its standard deviation, > 0.
    """

    def __init__(self, schedule: Schedule, mean: float = -1.2, std: float = 1.2) -> None:
        self.schedule, self.mean, self.std = schedule, mean, std
        first = schedule.at(schedule.noisiest)
        self.highest = math.inf if first.is_noise else -float(first.half_log_snr)
        self.lowest = -float(schedule.at(schedule.cleanest).half_log_snr)

    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """Independent draws."""
        log_ratio = (self.mean + self.std * keys.normal((), torch.float64)).clamp(self.lowest, self.highest)
        t = self.schedule.time_of(-2.0 * log_ratio)
        return t, torch.ones_like(t)
