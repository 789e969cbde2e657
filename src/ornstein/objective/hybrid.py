# SPDX-License-Identifier: Apache-2.0
r"""Learned variance (Nichol & Dhariwal 2021, arXiv 2102.09672, section 3.1).

The network puts out twice the channels: the target of its prediction, and a number v in the same shape whose (v + 1)/2 places the
log-variance of a move between those of the posterior (0) and of the forward step (1); an untrained network stands in the middle.
The mean is taught as ever, the variance by the bound:

    L = L_simple + weight L_vlb,      L_vlb = steps KL( q(x_s | x_t, x_0) || p(x_s | x_t) ) / dimensions,      s = t - noisiest/steps,

in nats, with the mean of p out of the gradient's reach, so that the noisy bound cannot disturb it. E L_vlb is the bound of a walk
of `steps` equal moves per dimension, but for its last move: into clean data the variance is never used, and nothing is learnt of it.
With the exact mean the minimum is the exact variance of x_s given x_t in each dimension: that of q(x_s | x_t, x_0) plus
that of its mean, which moves with x_0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.objective.matching import matched
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler
from ornstein.objective.view import View, view_of
from ornstein.objective.weighting import Weighting
from ornstein.process.estimate import Gaussian
from ornstein.process.steps import step_kl


class Hybrid(Objective):
    """Matching for the mean and the bound for the variance.

    Args:
        times: where on the schedule to look.
        weighting: weight on the squared error of x_0 in L_simple.
        steps: moves of the walk whose variances are learnt.
        weight: of L_vlb.
        condition_drop: probability in [0, 1] with which an example loses its condition.
    """

    def __init__(
        self, times: TimeSampler, weighting: Weighting, steps: int = 1000, weight: float = 0.001, condition_drop: float = 0.0
    ) -> None:
        self.times, self.weighting, self.steps, self.weight, self.condition_drop = times, weighting, steps, weight, condition_drop

    def init(self) -> dict[str, Any]:
        """What the time sampler remembers."""
        return dict(self.times.init())

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`. `parts` has both losses."""
        view = view_of(model, batch, keys, self.times.given(state), self.condition_drop)
        y, spread = model.heads(view.x, view.level, view.cond)
        simple, bound = matched(model, view, y, self.weighting), self._bound(model, view, y.detach(), spread)
        per_example = view.importance.to(view.x0) * (simple + self.weight * bound)
        parts = {"simple": float(simple.detach().mean()), "bound": float(bound.detach().mean())}
        return LossRecord({"model": per_example.mean()}, per_example.detach().to(torch.float64), view.t, parts), state

    def remember(self, state: Mapping[str, Any], t: Tensor, losses: Tensor) -> dict[str, Any]:
        """See `Objective`."""
        return {**state, **self.times.remember(state, t, losses)}

    def at_rest(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """With the times of a fresh sampler."""
        return {**state, **self.times.init()}

    def _bound(self, model: Model, view: View, y: Tensor, spread: Tensor | None) -> Tensor:
        """L_vlb of each example, 0 where the move would end in clean data."""
        schedule = model.process.schedule
        goal = view.t - schedule.noisiest / self.steps
        ends_noisy = goal > schedule.cleanest
        s = schedule.at(torch.where(ends_noisy, goal, 0.5 * view.t))
        estimate = Gaussian(model.prediction.to_x0(y, view.x, view.level), spread)
        cost = step_kl(model.process, view.x0, estimate, view.x, view.level, s)
        return torch.where(ends_noisy.to(cost.device), self.steps * cost / view.x0[0].numel(), 0.0)
