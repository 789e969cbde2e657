# SPDX-License-Identifier: Apache-2.0
"""Where on the schedule training looks: samplers of t, with an importance weight per draw.

The weight is 1 for draws that are part of the objective, as all of these are; it is 1/p only where a sampler changes
the variance of a fixed objective.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.process.schedule import Schedule

_START = 1e-5  # below this log-SNR has no finite derivative on variance-preserving schedules


class TimeSampler(ABC):
    """Draws times for a batch."""

    @abstractmethod
    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """(t, importance weight), each float64 `(len(keys),)`, with t in (0, noisiest] and not below the schedule's cleanest time."""


class Uniform(TimeSampler):
    """t uniform between `start`, or the schedule's cleanest time where that is later, and its noisiest.

    Args:
        schedule: gives the cleanest and the noisiest time.
        start: smallest time, in (0, 1).
    """

    def __init__(self, schedule: Schedule, start: float = _START) -> None:
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

    def __init__(self, schedule: Schedule, strata: int, start: float = _START) -> None:
        self.start, self.strata = max(start, schedule.cleanest), strata
        self.length = schedule.noisiest - self.start

    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """One draw in the stratum of each key."""
        stratum = torch.tensor([draw % self.strata for draw in keys.draws], dtype=torch.float64)
        u = (stratum + keys.uniform()) / self.strata
        return self.start + self.length * u, torch.ones_like(u)


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
