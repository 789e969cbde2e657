# SPDX-License-Identifier: Apache-2.0
r"""MeanFlow: learn the map of a flow from its differential equation (Geng et al. 2025, arXiv 2505.13447).

The target of x_0(x_t, t, s) is itself plus the correction of `identity`, not differentiated. With the velocity as
prediction on the straight path this is the paper's loss (eq. 9 to 11); other schedules and predictions follow the same
map. The weight of an example is divided by (error + 1e-3)^power, not differentiated (section 4.3), where the error is the mean
square of that of the network's output.
"""

from __future__ import annotations

from typing import Any

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.objective.distill.drift import Drift
from ornstein.objective.distill.identity import correction
from ornstein.objective.distill.moves import factor, output_for
from ornstein.objective.distill.spans import Goal, levels
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler
from ornstein.objective.weighting import Weighting

_FLOOR = 1e-3


class MeanFlow(Objective):
    """Continuous-time training of a flow map, from data or along a teacher's flow.

    Args:
        times: where t is drawn.
        weighting: weight on the squared error of x_0.
        drift: the flow whose map is learnt.
        goal: where the map leads.
        power: of the error in the weight; 0 leaves the squared error.
    """

    def __init__(self, times: TimeSampler, weighting: Weighting, drift: Drift, goal: Goal, power: float = 1.0) -> None:
        self.times, self.weighting, self.drift, self.goal, self.power = times, weighting, drift, goal, power

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`."""
        (clean, cond), process = batch, model.process
        drawn, importance = self.times(keys.of("time"))
        t, s = levels(process.schedule, drawn, self.goal(drawn, keys.of("goal")))
        x = process.corrupt(clean, process.draw(clean.shape[1:], keys.of("noise")).to(clean), t)
        x0, added = correction(model, x, t, s, self.drift.at(clean, x, t, cond), cond)
        error = (model.raw(x, t, cond, s) - output_for(model, x0 + added, x, t)).square().flatten(1).mean(1)
        adapted = (error.detach() + _FLOOR) ** -self.power
        per_example = factor(model, self.weighting, t, importance, x) * adapted * error
        return LossRecord({"model": per_example.mean()}, per_example.detach().double(), drawn), state
