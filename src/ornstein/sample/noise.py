# SPDX-License-Identifier: Apache-2.0
"""Noise for sampling: a pure function of each sample's seed, so no sample depends on its neighbours.

Solver moves are given the increments of one Brownian motion per sample and stretch (see `ornstein.sample.brownian`): a function
of (seed, stretch, interval). What has no interval (renoising, further stages of a move) is keyed by (seed, move, stage).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.process.gaussian import Noise
from ornstein.process.level import Level
from ornstein.sample.brownian import Path


class MoveNoise:
    """The random numbers of one move; satisfies `ornstein.process.gaussian.Noise`."""

    def __init__(self, seeds: tuple[int, ...], move: int) -> None:
        self._seeds, self._move = seeds, move

    def _keys(self, stage: int, kind: str) -> Keys:
        return Keys.for_seeds(self._seeds, self._move, f"sample/{kind}/{stage}")

    def normal(self, like: Tensor, stage: int = 0) -> Tensor:
        """Standard normal numbers of the shape, dtype and device of `like`."""
        return self._keys(stage, "normal").normal(like.shape[1:], like.dtype).to(like.device)

    def uniform(self, like: Tensor, stage: int = 0) -> Tensor:
        """Numbers in [0, 1) of the shape and device of `like`, float64."""
        return self._keys(stage, "uniform").uniform(like.shape[1:], torch.float64).to(like.device)


class Scaled:
    """Noise whose normal numbers have a standard deviation of their own; satisfies `ornstein.process.gaussian.Noise`.

    Args:
        noise: the noise to scale.
        scale: its standard deviation.
    """

    def __init__(self, noise: Noise, scale: float) -> None:
        self._noise, self._scale = noise, scale

    def normal(self, like: Tensor, stage: int = 0) -> Tensor:
        """Normal numbers with the deviation, of the shape, dtype and device of `like`."""
        return self._scale * self._noise.normal(like, stage)

    def uniform(self, like: Tensor, stage: int = 0) -> Tensor:
        """Numbers in [0, 1), unscaled."""
        return self._noise.uniform(like, stage)


class IntervalNoise:
    """The random numbers of a move along an interval; satisfies `ornstein.process.gaussian.Noise`.

    Stage 0 is the increment of the sample's Brownian motion over the interval, standardised; further stages and uniform
    numbers are those of the move.
    """

    def __init__(self, stretch: Stretch, move: MoveNoise, t: Level, s: Level) -> None:
        self._stretch, self._move, self._t, self._s = stretch, move, t, s

    def normal(self, like: Tensor, stage: int = 0) -> Tensor:
        """Standard normal numbers of the shape, dtype and device of `like`; not to be modified."""
        if stage or isinstance(self._t.t, Tensor) or isinstance(self._s.t, Tensor):
            return self._move.normal(like, stage)
        return self._stretch.path.increment(self._t, self._s, like)

    def uniform(self, like: Tensor, stage: int = 0) -> Tensor:
        """Numbers in [0, 1) of the shape and device of `like`, float64."""
        return self._move.uniform(like, stage)


class Stretch:
    """The noise of a batch of samples along the levels between two renoises.

    Args:
        noise: of the batch.
        number: how many renoises lie before.
        levels: of the stretch.
    """

    def __init__(self, noise: SampleNoise, number: int, levels: tuple[Level, ...]) -> None:
        self._noise, self._number, self._levels = noise, number, levels

    @cached_property
    def path(self) -> Path:
        """The Brownian motions, made when they are first asked for."""
        return Path(self._noise.seeds, self._number, self._levels)

    def move(self, i: int, t: Level, s: Level) -> Noise:
        """The numbers of move i, from t to s."""
        return IntervalNoise(self, self._noise.move(i), t, s)


class SampleNoise:
    """All noise of a batch of samples, by the seed of each.

    Args:
        seeds: one seed per sample of the batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = tuple(seeds)

    def move(self, i: int) -> MoveNoise:
        """The numbers of move i where it has no interval."""
        return MoveNoise(self.seeds, i)

    def stretch(self, number: int, levels: tuple[Level, ...]) -> Stretch:
        """The numbers of the moves along the levels that follow the first `number` renoises."""
        return Stretch(self, number, levels)

    def prior_keys(self) -> Keys:
        """Keys of the noise that sampling starts from."""
        return Keys.for_seeds(self.seeds, 0, "sample/prior")
