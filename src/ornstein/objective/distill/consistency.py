# SPDX-License-Identifier: Apache-2.0
r"""Consistency: two points of one path must be mapped to one place (Song et al. 2023, arXiv 2303.01469).

From x_t the path is followed a little way, to x_r. The student's map from x_t to s is then held against the move t to r
followed by its own map from x_r, with weights theta- that are not differentiated:

    target = w D + (1 - w) x_0(x_r, r, s; theta-),     D the x_0 of the move t to r, w as in `moves`.

Where s is clean w = 0 and this is the paper's loss; where s = r it asks for D, the denoiser. Where r is clean the target
is D as well. D of a teacher makes it consistency distillation (eq. 7, with the trapezoidal rule), D of the data
consistency training (eq. 10); goals anywhere make the student a flow map of two times (Kim et al. 2024, arXiv 2310.02279).

The loss of an example is  weight |error of x_0|^2 / dimensions,  or with the pseudo-Huber metric of Song & Dhariwal 2024
(arXiv 2310.14189, eq. 8)  weight (sqrt(|error|^2 / dimensions + c^2) - c),  which forgives outliers.
"""

from __future__ import annotations

from typing import Any

import torch

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.objective.distill.drift import Drift
from ornstein.objective.distill.follow import followed, holding, weights_of, with_weights
from ornstein.objective.distill.moves import factor, joined, moved, output_for, spread, where
from ornstein.objective.distill.spans import Gap, Goal, levels
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler
from ornstein.objective.weighting import Weighting

_TARGET, _SEEN = "target", "seen"


class Consistency(Objective):
    """Discrete consistency distillation or training.

    Args:
        times: where t is drawn.
        weighting: weight on the squared error of x_0.
        drift: the flow that is followed from t to r.
        gap: r for t.
        goal: s.
        target_decay: of the average theta- of the student's weights, in [0, 1); at 0 it is the student itself.
        huber: c of the pseudo-Huber metric; None for the squared error.
    """

    def __init__(
        self,
        times: TimeSampler,
        weighting: Weighting,
        drift: Drift,
        gap: Gap,
        goal: Goal,
        target_decay: float = 0.0,
        huber: float | None = None,
    ) -> None:
        self.times, self.weighting, self.drift, self.gap, self.goal = times, weighting, drift, gap, goal
        self.target_decay, self.huber = target_decay, huber

    def init(self) -> dict[str, Any]:
        """The progress at which the average was last moved, -1 before it is begun."""
        return {_SEEN: -1.0} if self.target_decay > 0.0 else {}

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`."""
        state = self._followed(model, progress, state)
        (clean, cond), process = batch, model.process
        drawn, importance = self.times(keys.of("time"))
        now, before = self.gap(process.schedule, drawn, progress)
        t, r, s = levels(process.schedule, now, before, self.goal(before, keys.of("goal")))
        x = process.corrupt(clean, process.draw(clean.shape[1:], keys.of("noise")).to(clean), t)
        with torch.no_grad():
            first = self.drift.between(clean, x, t, r, cond)
            lands = torch.as_tensor(r.sigma) == 0.0  # there x_r is the answer, and the student is not asked
            known = spread(lands, x)
            middle = where(lands, t, r)
            x_r = torch.where(known, x, moved(process, x, first, t, r))
            then = self._target(model, state)(x_r, middle, cond, s).x0
            goal = torch.where(known, first, joined(first, then, t, middle, s))
        error = (model.raw(x, t, cond, s) - output_for(model, goal, x, t)).square().flatten(1).mean(1)
        scale = factor(model, self.weighting, t, importance, x)
        if self.huber is None:
            per_example = scale * error
        else:
            in_x0 = error / model.prediction.loss_scale(t).to(error)  # type: ignore[union-attr]
            weight = (importance * self.weighting(t)).to(error)
            per_example = weight * ((in_x0 + self.huber**2).sqrt() - self.huber)
        return LossRecord({"model": per_example.mean()}, per_example.detach().to(torch.float64), t.t), state  # type: ignore[arg-type]

    def _target(self, model: Model, state: dict[str, Any]) -> Model:
        return with_weights(model, state, _TARGET) if state.get(_SEEN, -1.0) >= 0.0 else model

    def _followed(self, model: Model, progress: float, state: dict[str, Any]) -> dict[str, Any]:
        """The state with the average moved once per update: micro-batches share a progress, and evaluations only look."""
        if self.target_decay == 0.0 or not model.network.training or progress == state[_SEEN]:
            return state
        if state[_SEEN] < 0.0:
            return holding(state, _TARGET, weights_of(model.network)) | {_SEEN: progress}
        return followed(state, _TARGET, model.network, self.target_decay) | {_SEEN: progress}
