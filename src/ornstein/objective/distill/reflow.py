# SPDX-License-Identifier: Apache-2.0
r"""Reflow: match again on the pairs that a teacher's own sampler makes (Liu et al. 2023, arXiv 2209.03003, section 2.2).

A teacher carries noise eps to data x_0 by a deterministic solver. Matching on these pairs instead of independent ones keeps
the law of the data, and the paths of the new flow hardly cross: they are straighter, and few DDIM moves follow them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.objective.distill.moves import factor
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler
from ornstein.objective.weighting import Weighting

_KEPT = 0.1  # share of the pairs that only held-out losses see


class Pairs(NamedTuple):
    """What a teacher's sampler made of noise.

    Args:
        noise: standard normal, `(n, ...)`.
        x0: where it ended, like `noise`.
        cond: the condition of each, `(n, ...)`; empty where there is none.
    """

    noise: Tensor
    x0: Tensor
    cond: Cond

    def take(self, rows: Tensor) -> Pairs:
        """The given rows."""
        return Pairs(self.noise[rows], self.x0[rows], self.cond.take(rows))


class Reflow(Objective):
    """Matching on given pairs; of a batch only its size and device are used.

    Args:
        times: where t is drawn.
        weighting: weight on the squared error of x_0.
        pairs: at least ten; the last tenth is kept for held-out losses.
    """

    def __init__(self, times: TimeSampler, weighting: Weighting, pairs: Pairs) -> None:
        self.times, self.weighting, self.pairs = times, weighting, pairs
        self.kept = max(1, round(_KEPT * len(pairs.noise)))

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`."""
        noise, x0, cond = self._chosen(keys, model.network.training, batch.x0)
        drawn, importance = self.times(keys.of("time"))
        t = model.process.schedule.at(drawn)
        x = model.process.corrupt(x0, noise, t)
        error = (model.raw(x, t, cond) - model.prediction.target(x0, noise, t)).square().flatten(1).mean(1)
        per_example = factor(model, self.weighting, t, importance, x) * error
        return LossRecord({"model": per_example.mean()}, per_example.detach().double(), drawn), state

    def _chosen(self, keys: Keys, training: bool, like: Tensor) -> Pairs:
        """One pair per key, of those for training or of those kept."""
        learnt = len(self.pairs.noise) - self.kept
        first, count = (0, learnt) if training else (learnt, self.kept)
        rows = first + (keys.of("pair").uniform() * count).long().clamp_max(count - 1)
        pairs = self.pairs.take(rows)
        return Pairs(pairs.noise.to(like), pairs.x0.to(like), pairs.cond.to(like.device))
