# SPDX-License-Identifier: Apache-2.0
r"""Sliced score matching of corrupted data (Song et al. 2019, arXiv 1905.07088), over the noise levels of NCSN (arXiv 1907.05600).

The score of q(x_t) is learnt without ever using the noise that was added. With s the model's score and v a random direction,

    E |s - score|^2 = E[ |s|^2 + 2 v^T (ds/dx) v ] + constant        (eq. 8 there, the form with |s|^2 in place of (v^T s)^2),

for E v v^T = I; the derivative is one more pass backwards. At equal estimates of x_0 the error of the score is alpha^2/sigma^4 that
of x_0, so the loss of an example

    w sigma^4/alpha^2 (|s|^2 + 2 v^T (ds/dx) v) / dimensions

is, up to a constant of the data, `Matching` with the weighting w. It may be negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler
from ornstein.objective.view import View, view_of
from ornstein.objective.weighting import Weighting
from ornstein.process.level import over


class SlicedScore(Objective):
    """Sliced score matching with directions of random signs; needs second derivatives of the network, and alpha > 0.

    Args:
        times: where on the schedule to look.
        weighting: weight on the squared error of x_0.
        directions: per example, >= 1.
        condition_drop: probability in [0, 1] with which an example loses its condition.
    """

    def __init__(self, times: TimeSampler, weighting: Weighting, directions: int = 1, condition_drop: float = 0.0) -> None:
        self.times, self.weighting, self.directions, self.condition_drop = times, weighting, directions, condition_drop

    def init(self) -> dict[str, Any]:
        """What the time sampler remembers."""
        return dict(self.times.init())

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`."""
        view = view_of(model, batch, keys, self.times.given(state), self.condition_drop)
        level = view.level
        factor = view.importance * self.weighting(level) * (level.sigma**2 / level.alpha) ** 2
        per_example = factor.to(view.x0) * self._sliced(model, view, keys) / view.x0[0].numel()
        return LossRecord({"model": per_example.mean()}, per_example.detach().to(torch.float64), view.t), state

    def remember(self, state: Mapping[str, Any], t: Tensor, losses: Tensor) -> dict[str, Any]:
        """See `Objective`."""
        return {**state, **self.times.remember(state, t, losses)}

    def at_rest(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """With the times of a fresh sampler."""
        return {**state, **self.times.init()}

    def _sliced(self, model: Model, view: View, keys: Keys) -> Tensor:
        """|s|^2 + 2 v^T (ds/dx) v, averaged over the directions: `(batch,)`, on the graph where gradients are wanted."""
        wanted = torch.is_grad_enabled()
        with torch.enable_grad():
            x = view.x.detach().requires_grad_()
            score = model.prediction.to_eps(model.raw(x, view.level, view.cond), x, view.level) / over(-view.level.sigma, x)
            total = score.square().flatten(1).sum(1)
            for i in range(self.directions):
                v = (keys.of("direction").of(i).uniform(x.shape[1:]) < 0.5).to(x) * 2.0 - 1.0
                (turned,) = torch.autograd.grad((score * v).sum(), x, create_graph=wanted, retain_graph=True)
                total = total + 2.0 / self.directions * (turned * v).flatten(1).sum(1)
        return total if wanted else total.detach()
