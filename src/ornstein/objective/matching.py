# SPDX-License-Identifier: Apache-2.0
"""Matching: corrupt, predict, compare. DDPM, v-prediction, EDM, denoising score matching and flow matching are this with
different arguments.

The loss of an example is  w(level) |x_0 - x_0^|^2 / dimensions.  It is computed from the network's output y in target
space, where it reads  w / (d/sigma)^2 |y - y^|^2,  because going through x_0 loses three digits at tiny sigma.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.objective.coupling import Coupling, Independent
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler
from ornstein.objective.view import View, view_of
from ornstein.objective.weighting import Weighting
from ornstein.process.level import Level


class Matching(Objective):
    """Regression onto the model's own target.

    Args:
        times: where on the schedule to look.
        weighting: weight on the squared error of x_0.
        condition_drop: probability in [0, 1] with which an example loses its condition (for classifier-free guidance).
        coupling: which noise meets which example.
    """

    def __init__(self, times: TimeSampler, weighting: Weighting, condition_drop: float = 0.0, coupling: Coupling = Independent()) -> None:
        self.times, self.weighting, self.condition_drop, self.coupling = times, weighting, condition_drop, coupling

    def init(self) -> dict[str, Any]:
        """What the time sampler remembers."""
        return dict(self.times.init())

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`."""
        view = view_of(model, batch, keys, self.times.given(state), self.condition_drop, self.coupling)
        per_example = view.importance.to(view.x0) * matched(model, view, model.raw(view.x, view.level, view.cond), self.weighting)
        quieten(view.level, per_example)
        return LossRecord({"model": per_example.mean()}, per_example.detach().to(torch.float64), view.t), state

    def remember(self, state: Mapping[str, Any], t: Tensor, losses: Tensor) -> dict[str, Any]:
        """See `Objective`."""
        return {**state, **self.times.remember(state, t, losses)}

    def at_rest(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """With the times of a fresh sampler, so that evaluations look at the same levels."""
        return {**state, **self.times.init()}


def matched(model: Model, view: View, y: Tensor, weighting: Weighting) -> Tensor:
    """w |x_0 error|^2 / dimensions of each example for the output y of the network, without importance weights: `(batch,)`."""
    error = y - model.prediction.target(view.x0, view.noise, view.level)
    factor = torch.as_tensor(weighting(view.level) / model.prediction.loss_scale(view.level)).to(view.x0)
    return factor * error.square().flatten(1).mean(1)


def quieten(level: Level, losses: Tensor) -> None:
    """Let a learned schedule descend the second moment of the losses, and not their mean.

    Under the weight of the bound the mean does not depend on the schedule between fixed ends, so that the second moment is the
    variance up to a constant (Kingma et al. 2021, arXiv 2107.00630, appendix I.2): what reaches the level's numbers of an example on
    the way back is multiplied by twice its loss. Schedules without parameters are left alone.
    """
    twice = 2.0 * losses.detach().to("cpu", torch.float64)
    for number in level:
        if isinstance(number, Tensor) and number.requires_grad:
            number.register_hook(lambda gradient: gradient * twice.to(gradient))  # type: ignore[no-untyped-call]
