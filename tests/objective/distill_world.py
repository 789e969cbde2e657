# SPDX-License-Identifier: Apache-2.0
"""Worlds whose flow map is known: a Gaussian with independent coordinates, and networks that put it out exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ornstein.base.keys import Keys
from ornstein.exact.mixture import GaussianMixture
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.prediction import Edm, Prediction
from ornstein.model.telling import Telling, TwoTimes
from ornstein.objective.distill.drift import Drift
from ornstein.objective.distill.moves import output_for, reach
from ornstein.objective.record import Batch
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level, over
from ornstein.process.schedule import Schedule

MEAN = torch.tensor([0.3, -0.2], dtype=torch.float64)
VARIANCE = torch.tensor([0.5, 0.1], dtype=torch.float64)
WORLD = GaussianMixture([1.0], MEAN[None], torch.diag(VARIANCE)[None])


def mapped(x: Tensor, t: Level, s: Level) -> Tensor:
    """The probability flow from t to s: coordinates keep their number of standard deviations."""
    spread_t = (over(t.alpha, x) ** 2 * VARIANCE + over(t.sigma, x) ** 2) ** 0.5
    spread_s = (over(s.alpha, x) ** 2 * VARIANCE + over(s.sigma, x) ** 2) ** 0.5
    return over(s.alpha, x) * MEAN + spread_s / spread_t * (x - over(t.alpha, x) * MEAN)


def clean_of(x: Tensor, t: Level, s: Level) -> Tensor:
    """The x_0 whose DDIM move from t to s lands on the flow; the denoiser where s = t."""
    inner = over(reach(t, s), x)
    ahead = (mapped(x, t, s) - over(torch.as_tensor(s.sigma / t.sigma), x) * x) / inner
    return torch.where(torch.as_tensor(inner) == 0.0, WORLD.expectation(x, t), ahead)


class ExactMap(nn.Module):
    """A network of two times that puts out the exact flow map; `off` bends its answer."""

    def __init__(self, process: GaussianProcess, prediction: Prediction, off: float = 0.0) -> None:
        super().__init__()
        self.model = Model(nn.Identity(), process, prediction, telling=TwoTimes())
        self.off = nn.Parameter(torch.tensor(off, dtype=torch.float64))
        schedule = process.schedule
        self.level_of: Callable[[Tensor], Level] = schedule.at
        if isinstance(prediction, Edm):  # its feature at clean data is clamped
            self.level_of = lambda feature: schedule.at(torch.where(feature < -2.3, 0.0, schedule.time_of(-8.0 * feature)))

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        t, s = self.level_of(features[:, 0]), self.level_of(features[:, -1].detach())  # s does not move along the path
        scale = self.model.prediction.input_scale(t)
        x = x / over(scale, x)
        return output_for(self.model, clean_of(x, t, s) + self.off * torch.tanh(x), x, t)


class ExactDrift(Drift):
    """The probability flow of the Gaussian, without error."""

    def at(self, clean: Tensor, x: Tensor, t: Level, cond: Cond) -> Tensor:
        return WORLD.expectation(x, t)

    def between(self, clean: Tensor, x: Tensor, t: Level, r: Level, cond: Cond) -> Tensor:
        return clean_of(x, t, r)


def student(schedule: Schedule, prediction: Prediction, telling: Telling | None = None, off: float = 0.0) -> Model:
    """The exact flow map as a model."""
    process = GaussianProcess(schedule)
    return Model(ExactMap(process, prediction, off), process, prediction, telling=telling or TwoTimes())


def batch(n: int, key: str = "data") -> Batch:
    """Examples of the Gaussian, in float64."""
    return Batch(WORLD.sample(Keys.for_draws(5, 0, n, key)).x0, Cond())
