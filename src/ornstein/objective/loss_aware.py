# SPDX-License-Identifier: Apache-2.0
r"""Times drawn where the loss is loud (Nichol & Dhariwal 2021, arXiv 2102.09672, section 3.3).

The range of t is cut into equal bins. With L^2_k the mean square of the last losses seen in bin k, bin k is drawn with probability

    p_k = (1 - floor) sqrt(L^2_k) / sum_j sqrt(L^2_j) + floor / bins,

which minimises the variance of the loss's estimate, and each example is weighted by 1 / (bins p_k), which leaves its expectation and
that of the gradient as they are under uniform times. Until every bin has a full history the times are uniform.

The memory is a value: two tensors in the objective's state, and therefore in every checkpoint. It is updated once per global
batch, so neither micro-batches nor ranks change what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.objective.times import START, TimeSampler, strata_of
from ornstein.process.schedule import Schedule

_SQUARES, _SEEN = "times.squares", "times.seen"


class LossAware(TimeSampler):
    """Second-moment importance sampling of t.

    Args:
        schedule: gives the cleanest and the noisiest time.
        strata: examples in a global batch.
        start: smallest time, in (0, 1).
        bins: equal parts of the range, >= 1.
        history: losses remembered per bin, >= 1.
        floor: share of the draws that stays uniform, in (0, 1].
    """

    def __init__(
        self, schedule: Schedule, strata: int, start: float = START, bins: int = 64, history: int = 10, floor: float = 0.001
    ) -> None:
        self.start = max(start, schedule.cleanest)
        self.length, self.strata = schedule.noisiest - self.start, strata
        self.bins, self.history, self.floor = bins, history, floor

    def init(self) -> dict[str, Any]:
        """No loss seen: squares float64 `(bins, history)`, and how many of each bin were seen, int64 `(bins,)`."""
        squares = torch.zeros(self.bins, self.history, dtype=torch.float64)
        return {_SQUARES: squares, _SEEN: torch.zeros(self.bins, dtype=torch.int64)}

    def given(self, state: Mapping[str, Any]) -> TimeSampler:
        """A sampler for the memory as it stands."""
        return _Drawn(self, self.shares(state))

    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """Uniform draws, which is what an empty memory gives."""
        return self.given(self.init())(keys)

    def remember(self, state: Mapping[str, Any], t: Tensor, losses: Tensor) -> dict[str, Any]:
        """The memory after one global batch; `losses` are those of the record, importance weights included."""
        places, squares, seen = self.place(t), state[_SQUARES].clone(), state[_SEEN].clone()
        plain = losses * self.bins * self.shares(state)[places]
        for place, loss in zip(places.tolist(), plain.tolist(), strict=True):
            squares[place, int(seen[place]) % self.history] = loss * loss
            seen[place] += 1
        return {_SQUARES: squares, _SEEN: seen}

    def place(self, t: Tensor) -> Tensor:
        """The bin of each time."""
        return ((t - self.start) / self.length * self.bins).long().clamp(0, self.bins - 1)

    def shares(self, state: Mapping[str, Any]) -> Float[Tensor, " bins"]:
        """p_k, float64; equal until every bin has a full history."""
        root: Tensor = state[_SQUARES].mean(1).sqrt()
        if bool((state[_SEEN] < self.history).any()) or not float(root.sum()) > 0.0:
            return torch.full((self.bins,), 1.0 / self.bins, dtype=torch.float64)
        return (1.0 - self.floor) * root / root.sum() + self.floor / self.bins


class _Drawn(TimeSampler):
    """Times of a piecewise constant density, by its inverse distribution function at stratified uniform numbers."""

    def __init__(self, sampler: LossAware, shares: Tensor) -> None:
        self.sampler, self.shares = sampler, shares

    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        """See `TimeSampler`."""
        u, ends, bins = strata_of(keys, self.sampler.strata), self.shares.cumsum(0), self.sampler.bins
        place = torch.searchsorted(ends, u, right=True).clamp_max(bins - 1)
        share = self.shares[place]
        inside = ((u - (ends[place] - share)) / share).clamp(0.0, 1.0)
        return self.sampler.start + self.sampler.length * (place + inside) / bins, 1.0 / (bins * share)
