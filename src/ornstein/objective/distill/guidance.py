# SPDX-License-Identifier: Apache-2.0
r"""Guidance distillation: one pass instead of two (Meng et al. 2023, arXiv 2210.03142, section 3.1).

The student is told the guidance scale w beside the time and learns the guided estimate of its teacher,

    x_0(x_t, t, w) = uncond + w (cond - uncond),      w uniform in an interval (the paper's w is one less).

It is sampled at any scale of the interval with any solver, and can be the teacher of a further distillation.
"""

from __future__ import annotations

from typing import Any

import torch

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.model.denoiser import Denoiser, Model
from ornstein.model.telling import TimeAndScale
from ornstein.objective.distill.moves import factor, output_for
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler
from ornstein.objective.weighting import Weighting
from ornstein.process.level import over


class GuidanceDistillation(Objective):
    """Regression onto the guided estimate of a teacher trained with dropped conditions.

    Args:
        times: where t is drawn.
        weighting: weight on the squared error of x_0.
        teacher: unguided.
        lowest: smallest scale, >= 0.
        highest: largest scale.
    """

    def __init__(self, times: TimeSampler, weighting: Weighting, teacher: Denoiser, lowest: float = 1.0, highest: float = 4.0) -> None:
        self.times, self.weighting, self.teacher, self.lowest, self.highest = times, weighting, teacher, lowest, highest

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`. Raises UsageError for data without conditions."""
        (clean, cond), process = batch, model.process
        if cond.label is None and cond.vector is None:
            raise UsageError("Guidance cannot be distilled on data without classes.", "Use data with labels, or another objective.")
        drawn, importance = self.times(keys.of("time"))
        t = process.schedule.at(drawn)
        x = process.corrupt(clean, process.draw(clean.shape[1:], keys.of("noise")).to(clean), t)
        scale = self.lowest + (self.highest - self.lowest) * keys.of("scale").uniform()
        with torch.no_grad():
            told, untold = self.teacher(x, t, cond).x0, self.teacher(x, t, cond.null()).x0
            goal = untold + over(scale, x) * (told - untold)
        student = model.replaced(telling=TimeAndScale(scale))
        error = (student.raw(x, t, cond) - output_for(model, goal, x, t)).square().flatten(1).mean(1)
        per_example = factor(model, self.weighting, t, importance, x) * error
        return LossRecord({"model": per_example.mean()}, per_example.detach().double(), drawn), state
