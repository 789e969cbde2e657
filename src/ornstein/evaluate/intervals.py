# SPDX-License-Identifier: Apache-2.0
r"""Intervals: between which values a figure would lie with other samples and other test items of the same laws.

The bootstrap here draws without replacement, since a point drawn twice has itself for a nearest neighbour, which no set
of samples knows. A subset of m out of n items deviates from the whole by the variance (1/m - 1/n) s^2, so with

    m = n/2            it deviates as n fresh items would,                 s^2 / n,
    m = n D/(D + 1)    as the mean of D independent sets of n would,       s^2 / (n D)

(half-sampling: Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, chapter 8; Praestgaard & Wellner 1993
for weights of this kind). A replicate keeps m = n/2 reference items and n D/(D + 1) generated ones, of the first draw, and
measures them anew. The interval is percentile: the figure plus the 2.5 % and 97.5 % quantiles of the replicates' deviations
from their own mean. Centring them takes out what a figure owes to its number of items.

Where every item agrees, so that a share is 0 or 1 and all replicates are equal, the end away from it is the exact binomial one
(Clopper & Pearson 1934): 1 - 0.025^(1/n) of n items.

What it covers: the mean of the figure at this n, over samples of this model and test sets of this size. What it does not:
training once more, another extractor. Where a distance is 0 in truth, its deviations are of second order, and the interval
is too wide by up to sqrt(3) (as is that of every bootstrap).

Beyond `MOST` items the replicates are taken from the first `MOST`, and deviations scaled by sqrt(MOST / n).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ornstein.base.keys import permutation
from ornstein.evaluate.kinds import LEVEL

MOST = 2000

Part = Callable[[Bool[Tensor, "b n"], Bool[Tensor, "b m"]], Mapping[str, Float[Tensor, " b"]]]
"""Figures of many replicates at once, from which generated and which reference items each of them keeps."""


@dataclass(frozen=True)
class Halves:
    """The subsets of a source's replicates.

    Attributes:
        n: items per draw and in the reference.
        draws: independent draws that the figure is the mean of, >= 1; draws that share items count for less.
        seed: the reference subsets depend on nothing but it and n, so that sources are compared on equal ones.
        count: number of replicates.
    """

    n: int
    draws: int | float
    seed: int
    count: int

    @property
    def base(self) -> int:
        """Items that the replicates are taken from, the first of their set."""
        return min(self.n, MOST)

    def kept(self) -> tuple[Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Generated and reference items of each replicate, as masks with equally many items in each row."""
        generated = self._masks("generated", round(self.base * self.draws / (self.draws + 1)))
        return generated, self._masks("reference", self.base // 2)

    def _masks(self, side: str, size: int) -> Bool[Tensor, "b n"]:
        chosen = torch.stack([permutation(self.base, self.seed, "half", side, i)[:size] for i in range(self.count)])
        return torch.zeros(self.count, self.base, dtype=torch.bool).scatter_(1, chosen, True)

    def deviations(self, parts: Iterable[Part]) -> dict[str, Float[Tensor, " b"]]:
        """By figure, how far the replicates stand from their mean, as those of n items would."""
        generated, reference = self.kept()
        scale = math.sqrt(self.base / self.n)
        found = [part(generated, reference) for part in parts]
        return {name: scale * (values - values.mean()) for figures in found for name, values in figures.items()}


def around(value: float, deviations: Float[Tensor, " b"], least: float = -math.inf, most: float = math.inf) -> tuple[float, float]:
    """The interval of a figure that cannot leave [least, most]."""
    tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    low, high = (value + deviations.double().quantile(tails)).clamp(least, most).tolist()
    return low, high


def agreed(value: float, items: int, most: float) -> tuple[float, float]:
    """The interval of a share of `items` independent items that is 0 or `most`; any other value alone."""
    room = 1.0 - ((1 - LEVEL) / 2) ** (1.0 / items)
    return (most - room if value == most else value), (room if value == 0.0 else value)


def shared(draws: int, n: int, items: int) -> float:
    """Independent draws that `draws` sets of n out of the same `items` items are worth, none twice in a set.

    Two such sets have n^2 / items items in common, which correlates their means by n / items.
    """
    overlap = min(1.0, n / items)
    return 1.0 / (overlap + (1.0 - overlap) / draws)
