# SPDX-License-Identifier: Apache-2.0
r"""Continuous-time consistency: the limit of a vanishing gap, kept stable (Lu & Song 2024, arXiv 2410.11081, section 4).

The network's output y is pulled along the correction of `identity`, written in its own space and bounded:

    target = y- + g / (|g| + c),      |g| the root mean square over the dimensions of an example, c = 0.1,
    g      = output space of  (1 - u) (D - x_0) + u correction,      u growing from 0 to 1 over the warm-up,

so that the student starts as the denoiser its teacher is and leaves it gently (the paper fades the derivative in likewise).
The boundary x_0 = x_t at clean data is kept by the prediction; predicting x_0 itself would not keep it.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.objective.distill.drift import Drift
from ornstein.objective.distill.identity import correction
from ornstein.objective.distill.moves import factor, output_for
from ornstein.objective.distill.spans import Goal, levels
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler
from ornstein.objective.weighting import Weighting

_NEVER_ZERO = 0.1


class ContinuousConsistency(Objective):
    """Continuous-time consistency distillation or training.

    Args:
        times: where t is drawn.
        weighting: weight on the squared error of x_0.
        drift: the flow that is followed.
        goal: where the map leads.
        warmup: share of the training over which the derivative is faded in, in [0, 1].
    """

    def __init__(self, times: TimeSampler, weighting: Weighting, drift: Drift, goal: Goal, warmup: float = 0.25) -> None:
        self.times, self.weighting, self.drift, self.goal, self.warmup = times, weighting, drift, goal, warmup

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`."""
        (clean, cond), process = batch, model.process
        drawn, importance = self.times(keys.of("time"))
        t, s = levels(process.schedule, drawn, self.goal(drawn, keys.of("goal")))
        x = process.corrupt(clean, process.draw(clean.shape[1:], keys.of("noise")).to(clean), t)
        drift = self.drift.at(clean, x, t, cond)
        x0, added = correction(model, x, t, s, drift, cond)
        share = 1.0 if self.warmup == 0.0 else min(progress / self.warmup, 1.0)
        wanted = x0 + (1.0 - share) * (drift - x0) + share * added
        tangent = output_for(model, wanted, x, t) - output_for(model, x0, x, t)
        y = model.raw(x, t, cond, s)
        error = (y - y.detach() - bounded(tangent)).square().flatten(1).mean(1)
        per_example = factor(model, self.weighting, t, importance, x) * error
        return LossRecord({"model": per_example.mean()}, per_example.detach().double(), drawn), state


def bounded(tangent: Tensor) -> Tensor:
    """g / (|g| + c), per example."""
    size = tangent.flatten(1).square().mean(1).sqrt()
    return tangent / (size + _NEVER_ZERO).reshape(-1, *(1,) * (tangent.ndim - 1))
