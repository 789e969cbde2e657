# SPDX-License-Identifier: Apache-2.0
"""Figures that can be compared: every source is measured at the same n, against the same reference, over the same draws.

The reference is n real test items, n = the size of the test set (of the training set, if that is smaller). A source of
samples is measured in several draws of n and the figures are averaged. Draw i holds the first n items of a permutation
of the training set keyed by (seed, i): the floor takes those very items, the baselines and a conditional model their
labels. So rows differ in nothing but where the items come from.

The floor is what real data reach: distances and coverage between draws of training items and the reference. What images
show by themselves, class accuracy and copies, is taken there from the test images, because the extractor has seen the
training images and each of them is a copy of itself.

A floor belongs to its split. Halves of the digits drawn at random stand at a Frechet distance of 2.3 from one another,
with a standard deviation of 0.75, so ratios to the floor are to be compared within one split only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from ornstein.base.errors import DataError
from ornstein.base.keys import permutation
from ornstein.evaluate.distances import KernelDistance
from ornstein.evaluate.intervals import Halves, agreed, around, shared
from ornstein.evaluate.kinds import KINDS, NEIGHBOURS

Figures = Mapping[str, float | KernelDistance]


@dataclass(frozen=True)
class Metric:
    """One figure and all it depends on.

    Attributes:
        name: a key of `KINDS`.
        value: mean over the draws; None where `reason` says why there is none.
        spread: standard deviation over the draws, None with fewer than two. All draws meet one reference, and draws of
            nearly the whole training set are nearly equal: it says how far the mean can be trusted for this reference.
        error: standard error of one draw by the estimate itself, for kernel distances; it counts the reference in.
        n, draws, seed: items per draw, number of draws, seed of the draws.
        eye: in what it was measured: an extractor with its hash, pixels, or coordinates.
        reason: why there is no value.
        low, high: ends of the interval of `evaluate/intervals.py`; None where there is none.
    """

    name: str
    value: float | None
    spread: float | None
    error: float | None
    n: int
    draws: int
    seed: int
    eye: str
    reason: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def conditions(self) -> str:
        """n, draws, seed and eye as one line."""
        return f"n {self.n}, draws {self.draws}, seed {self.seed}, {self.eye}"

    @property
    def identity(self) -> str:
        """What the figure is and under which conditions it was taken, as one line."""
        return f"{KINDS[self.name].words}: {self.conditions}"


@dataclass(frozen=True)
class Row:
    """One source of samples: its name, a sentence on what it is, its figures by name."""

    name: str
    note: str
    metrics: Mapping[str, Metric]


class Samples(NamedTuple):
    """Images uint8 `(n, c, h, w)` and their labels int64 `(n,)`; None without classes."""

    images: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"] | None = None

    def at(self, indices: Int[Tensor, " m"]) -> Samples:
        """The items at these places."""
        return Samples(self.images[indices], None if self.labels is None else self.labels[indices])


@dataclass(frozen=True)
class Draws:
    """Which real items each draw holds.

    Attributes:
        train: number of training items; test: number of test items.
        count: how many draws; seed: their key.
        limit: the largest n, where sampling as many as there are test items would take too long.
        replicates: how many subsets an interval is read from.

    Raises DataError when fewer than 6 items are left on either side.
    """

    train: int
    test: int
    count: int = 5
    seed: int = 0
    limit: int | None = None
    replicates: int = 100

    def __post_init__(self) -> None:
        if self.n <= NEIGHBOURS:
            raise DataError(f"Only {self.n} items to measure with.", f"Give at least {NEIGHBOURS + 1} training and as many test items.")

    @property
    def n(self) -> int:
        """Items per draw and in the reference."""
        return min(self.train, self.test, self.limit or self.test)

    def indices(self, draw: int) -> Int[Tensor, " n"]:
        """Training items of one draw, none twice."""
        return permutation(self.train, self.seed, "draw", draw)[: self.n]

    def reference(self) -> Int[Tensor, " n"]:
        """Test items that every draw is measured against, in ascending order."""
        return permutation(self.test, self.seed, "reference")[: self.n].sort().values

    def check(self, sizes: Sequence[int]) -> None:
        """Raise ValueError unless every draw of a source holds n items."""
        if not sizes or set(sizes) != {self.n}:
            raise ValueError(f"Every draw must hold n = {self.n} samples, these hold {list(sizes)}.")

    def halves(self, draws: int | float) -> Halves:
        """Subsets for the intervals of a source that was measured in so many independent draws."""
        return Halves(self.n, draws, self.seed, self.replicates)

    @property
    def shared(self) -> float:
        """Independent draws that the draws of training items are worth, which have most items in common."""
        return shared(self.count, self.n, self.train)

    def summarise(
        self, figures: Sequence[Figures], eyes: Mapping[str, str], deviations: Mapping[str, Tensor] | None = None
    ) -> dict[str, Metric]:
        """Metrics from the same figures of one or more draws.

        Args:
            figures: by name, of each draw.
            eyes: by name, in what it was measured.
            deviations: by name, those of the replicates; None for no intervals.
        """
        spreads = {} if deviations is None else deviations
        return {name: self._metric(name, [draw[name] for draw in figures], eyes[name], spreads.get(name)) for name in figures[0]}

    def absent(self, name: str, eye: str, reason: str) -> Metric:
        """A metric that has no value, and why."""
        return Metric(name, None, None, None, self.n, self.count, self.seed, eye, reason)

    def _metric(self, name: str, draws: list[float | KernelDistance], eye: str, deviations: Tensor | None) -> Metric:
        estimates = [draw if isinstance(draw, KernelDistance) else KernelDistance(draw, math.nan) for draw in draws]
        values, errors = torch.tensor(estimates, dtype=torch.float64).unbind(1)
        if not values.isfinite().all():
            return self.absent(name, eye, "the samples hold, or lead to, numbers that are not finite")
        spread = float(values.std()) if len(values) > 1 else None
        error = float(errors.mean()) if errors.isfinite().all() else None
        value = float(values.mean())
        metric = Metric(name, value, spread, error, self.n, len(values), self.seed, eye)
        if deviations is None or not bool(deviations.isfinite().all()):
            return metric
        kind = KINDS[name]
        low, high = around(value, deviations, kind.least, kind.most)
        if kind.most == 1.0 and low == high:
            low, high = agreed(value, self.halves(1).base * len(values), kind.most)
        return replace(metric, low=low, high=high)
