# SPDX-License-Identifier: Apache-2.0
"""Matching: corrupt, predict, compare. DDPM, v-prediction, EDM and flow matching are this with different arguments.

The loss of an example is  w(level) |x_0 - x_0^|^2 / dimensions.  It is computed from the network's output y in target
space, where it reads  w / (d/sigma)^2 |y - y^|^2,  because going through x_0 loses three digits at tiny sigma.
"""

from __future__ import annotations

from typing import Any

import torch

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler
from ornstein.objective.weighting import Weighting


class Matching(Objective):
    """Regression onto the model's own target.

    Args:
        times: where on the schedule to look.
        weighting: weight on the squared error of x_0.
        condition_drop: probability in [0, 1] with which an example loses its condition (for classifier-free guidance).
    """

    def __init__(self, times: TimeSampler, weighting: Weighting, condition_drop: float = 0.0) -> None:
        self.times, self.weighting, self.condition_drop = times, weighting, condition_drop

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`."""
        x0, cond = batch.x0, batch.cond
        t, importance = self.times(keys.of("time"))
        level = model.process.schedule.at(t)
        noise = model.process.draw(x0.shape[1:], keys.of("noise")).to(x0)
        x = model.process.corrupt(x0, noise, level)
        if self.condition_drop > 0.0:
            cond = cond.drop(self.condition_drop, keys.of("drop"))
        error = model.raw(x, level, cond) - model.prediction.target(x0, noise, level)
        factor = (importance * self.weighting(level) / model.prediction.loss_scale(level)).to(x0)
        per_example = factor * error.square().flatten(1).mean(1)
        loss = per_example.mean()
        return LossRecord({"model": loss}, per_example.detach().to(torch.float64), t), state
