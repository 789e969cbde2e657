# SPDX-License-Identifier: Apache-2.0
r"""Which times a flow map is made consistent at: t (a time sampler's), r a little before it, and the goal s <= r.

The gap between t and r decides bias and variance of discrete consistency training: wide gaps learn fast and wrong, narrow
ones right and slowly. The first and the last of the rules below work on sigma/alpha, written sigma.

| gap | r | source |
|---|---|---|
| halving | sigma_r = sigma_t max(0, 1 - n / factor^(stage + 1)), n = 1 + k / (1 + e^(b sigma_t)) | Geng et al. 2024, arXiv 2406.14548 |
| moves | the end of the move of a uniform plan that t lies in; t is moved to its start | Salimans & Ho 2022, arXiv 2202.00512 |
| grid | the node before t on a grid equally spaced in sigma^(1/rho); t is moved to a node | Song et al. 2023, arXiv 2303.01469, section 5 |
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.process.level import Level
from ornstein.process.schedule import Schedule


class Gap(ABC):
    """Chooses r for t."""

    @abstractmethod
    def __call__(self, schedule: Schedule, t: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """(t, r) with r < t, float64 `(batch,)`; t may have been moved to where the rule has a pair. r = 0 is clean data.

        Args:
            schedule: of the process.
            t: the times drawn.
            progress: share of the training done, in [0, 1].
        """


class Halving(Gap):
    """The gap of easy consistency tuning: wide at first, then `factor` times narrower per stage.

    Args:
        stages: equal parts of the training.
        factor: by which the gap narrows from one to the next, > 1.
        widening: k, how much wider the gap is at low noise.
        sharpness: b, the noise level at which that ends, inverted.
    """

    def __init__(self, stages: int = 8, factor: float = 2.0, widening: float = 8.0, sharpness: float = 1.0) -> None:
        self.stages, self.factor, self.widening, self.sharpness = stages, factor, widening, sharpness

    def __call__(self, schedule: Schedule, t: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """See `Gap`."""
        stage = min(int(progress * self.stages), self.stages - 1)
        sigma = torch.as_tensor(schedule.at(t).noise_to_signal)
        wider = 1.0 + self.widening * torch.sigmoid(-self.sharpness * sigma)
        return t, time_at(schedule, sigma * (1.0 - wider / self.factor ** (stage + 1)))


class Grid(Gap):
    """Neighbours on a fixed grid of noise levels.

    Args:
        nodes: levels above clean data.
        sigma_min: sigma/alpha of the lowest of them, whose neighbour is clean data.
        sigma_max: of the highest.
        rho: how much they crowd at low noise.
    """

    def __init__(self, nodes: int = 18, sigma_min: float = 0.02, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        self.nodes, self.low, self.high, self.rho = nodes, sigma_min ** (1.0 / rho), sigma_max ** (1.0 / rho), rho

    def __call__(self, schedule: Schedule, t: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """See `Gap`."""
        width = (self.high - self.low) / max(self.nodes - 1, 1)
        place = torch.as_tensor(schedule.at(t).noise_to_signal) ** (1.0 / self.rho)
        node = ((place - self.low) / width).round().clamp(0, self.nodes - 1)
        before = torch.where(node > 0, (self.low + (node - 1.0) * width) ** self.rho, 0.0)
        return time_at(schedule, (self.low + node * width) ** self.rho), time_at(schedule, before)


class Moves(Gap):
    """The moves of a uniform plan: with the goal at the end of the move the student learns just these, each against the teacher.

    Args:
        count: of the plan.
    """

    def __init__(self, count: int = 2) -> None:
        self.count = count

    def __call__(self, schedule: Schedule, t: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """See `Gap`."""
        node = (t / schedule.noisiest * self.count).ceil().clamp(1, self.count)
        return node * (schedule.noisiest / self.count), (node - 1.0) * (schedule.noisiest / self.count)


class Goal(ABC):
    """Chooses the level s that the student's map is asked for.

    Class attributes:
        two_times: whether it is another one from sample to sample, so that the network must be told.
    """

    two_times: bool

    @abstractmethod
    def __call__(self, latest: Tensor, keys: Keys) -> Tensor:
        """Times s in [0, latest], float64 `(batch,)`."""


class Clean(Goal):
    """Clean data: the student is a consistency function of one time."""

    two_times = False

    def __call__(self, latest: Tensor, keys: Keys) -> Tensor:
        """Zeros."""
        return torch.zeros_like(latest)


class Anywhere(Goal):
    """Any level on the way to clean data: the student is a flow map of two times.

    Args:
        clean: share of the examples whose goal is clean data.
        nearest: share of those whose goal is the latest allowed, where the student is a denoiser. The rest is uniform between.
    """

    two_times = True

    def __init__(self, clean: float = 0.25, nearest: float = 0.25) -> None:
        self.clean, self.nearest = clean, nearest

    def __call__(self, latest: Tensor, keys: Keys) -> Tensor:
        """See `Goal`."""
        u = keys.uniform()
        inner = ((u - self.clean) / max(1.0 - self.clean - self.nearest, 1e-9)).clamp(0.0, 1.0)
        return latest * inner


def time_at(schedule: Schedule, sigma: Tensor) -> Tensor:
    """The time of a noise level sigma/alpha; exactly 0 where sigma <= 0."""
    positive = sigma > 0.0
    return torch.where(positive, schedule.time_of(-2.0 * torch.where(positive, sigma, 1.0).log()), 0.0)


def levels(schedule: Schedule, *times: Tensor) -> tuple[Level, ...]:
    """The levels at times `(batch,)`."""
    return tuple(schedule.at(t) for t in times)
