# SPDX-License-Identifier: Apache-2.0
"""Worlds: data whose corrupted law is known in closed form, so that a sampler or a loss can be held against the truth.

A world knows, at every level of x_t = alpha x_0 + sigma eps, its log-density, its score and E[x_0 | x_t]. The last makes
it a `Denoiser` for any process, and through `Oracle` even a network that puts out exactly what a prediction asks for.
All arithmetic is float64 on the CPU; answers come back in the dtype and on the device of x.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor, nn

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.model.prediction import Prediction
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import CLEAN, Level, over


class World(ABC):
    """A law of x_0 of which everything is known.

    In each method `x` is x_t, `(batch, ...)`, whose trailing dimensions hold one sample; `level` holds floats or one
    number per sample; `label` restricts each sample to one class, -1 and None to none.
    """

    @abstractmethod
    def expectation(self, x: Tensor, level: Level, label: Int[Tensor, " batch"] | None = None) -> Tensor:
        """E[x_0 | x_t], the shape of x: the best estimate of clean data under squared error."""

    @abstractmethod
    def log_prob(self, x: Tensor, level: Level = CLEAN, label: Int[Tensor, " batch"] | None = None) -> Float[Tensor, " batch"]:
        """Log-density of x_t in nats."""

    @abstractmethod
    def score(self, x: Tensor, level: Level = CLEAN, label: Int[Tensor, " batch"] | None = None) -> Tensor:
        """Gradient of `log_prob` in x, the shape of x."""

    def denoiser(self, process: GaussianProcess) -> Denoiser:
        """The exact denoiser under a process; `cond.label` restricts it to classes."""
        return _Exact(self, process)


class _Exact(Denoiser):
    def __init__(self, world: World, process: GaussianProcess) -> None:
        self.world, self.process = world, process

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        return Gaussian(self.world.expectation(x, level, None if cond is None else cond.label))


class Oracle(nn.Module):
    """A network without weights whose output is the exact target of a prediction.

    Args:
        world: the data.
        prediction: whose target is put out, and whose input scale is undone.
        level_of: the level that a batch of features `(batch,)` stands for: `schedule.at` where the feature is t.
    """

    def __init__(self, world: World, prediction: Prediction, level_of: Callable[[Tensor], Level]) -> None:
        super().__init__()
        self.world, self.prediction, self.level_of = world, prediction, level_of

    def forward(self, x: Tensor, features: Float[Tensor, "batch k"], cond: Cond | None = None) -> Tensor:
        """a E[x_0 | x_t] + b E[eps | x_t] for the scaled input x."""
        level = self.level_of(features[:, 0])
        x = x / over(self.prediction.input_scale(level), x)
        x0 = self.world.expectation(x, level, None if cond is None else cond.label)
        eps = (x - over(level.alpha, x) * x0) / over(level.sigma, x)
        return self.prediction.target(x0, eps, level)
