# SPDX-License-Identifier: Apache-2.0
"""A denoiser answers one question: given x_t and its level, what is the clean data?

`Denoiser` is the contract that solvers, guidance and exact worlds share; `Model` is the one made of a network. Guidance
is a denoiser around a denoiser, so every solver gets every guidance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from ornstein.model.condition import Cond
from ornstein.model.prediction import Prediction
from ornstein.model.reading import Plain, Reading
from ornstein.model.telling import OneTime, Telling, stacked
from ornstein.network.precision import autocast_for
from ornstein.process.estimate import Estimate, Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level, over
from ornstein.process.schedule import Schedule


class Denoiser(ABC):
    """x_t and a level in, an estimate of x_0 out.

    Attributes:
        process: the corruption it undoes.
        flow_map: whether it answers with the x_0 whose deterministic (DDIM) move to `towards` lands on the probability
            flow through x_t (consistency models, MeanFlow), instead of with an expectation. Such a model needs no small steps.
    """

    process: GaussianProcess
    flow_map: bool = False

    @abstractmethod
    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Estimate:
        """Estimate of the clean data.

        Args:
            x: x_t, `(batch, ...)`.
            level: its noise level, floats or tensors `(batch,)`.
            cond: what is known of the samples; None for nothing.
            towards: the level the caller will move to; only models of flow maps use it.
        """


class Model(Denoiser):
    """Network + process + prediction.

    Args:
        network: called as `network(x, features, cond)` with features `(batch, k)`, k = `telling.features`.
        process: the corruption the network was trained to undo.
        prediction: the row of the prediction table that the network's output means.
        precision: "fp32" or "bf16": the precision inside the network; input, output and all coefficients keep x's.
        telling: what the network is told of the levels: one time, two for a flow map, or a time and a guidance scale.
        reading: what the network's output holds beside the target.
    """

    def __init__(
        self,
        network: nn.Module,
        process: GaussianProcess,
        prediction: Prediction,
        precision: str = "fp32",
        telling: Telling = OneTime(),
        reading: Reading = Plain(),
    ) -> None:
        self.network, self.process, self.prediction, self.precision = network, process, prediction, precision
        self.telling, self.flow_map, self.reading = telling, telling.flow_map, reading

    @property
    def weights(self) -> nn.Module:
        """Everything that is trained, averaged and saved: the network, with the schedule beside it where that is learned."""
        schedule = self.process.schedule
        return nn.ModuleDict({"network": self.network, "schedule": schedule}) if isinstance(schedule, nn.Module) else self.network

    def holding(self, weights: nn.Module) -> Model:
        """The same model with other weights, a module like `weights` (the average of them, say)."""
        if not isinstance(self.process.schedule, nn.Module):
            return self.replaced(network=weights)
        assert isinstance(weights, nn.ModuleDict)
        schedule = weights["schedule"]
        assert isinstance(schedule, Schedule)
        return self.replaced(network=weights["network"], process=GaussianProcess(schedule))

    def raw(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Tensor:
        """The network's output in target space, in x's dtype; losses are computed from it (through x_0 they lose digits)."""
        return self.heads(x, level, cond, towards)[0]

    def heads(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> tuple[Tensor, Tensor | None]:
        """The output in target space, and the spread where the network puts one out; both in x's dtype."""
        scale = self.prediction.input_scale(level)
        features = stacked(self.telling(self.prediction, level, towards), x)
        scaled = x if isinstance(scale, float) and scale == 1.0 else over(scale, x) * x
        with autocast_for(self.precision, x.device):
            y: Tensor = self.network(scaled, features, Cond() if cond is None else cond)
        return self.reading(y.to(x.dtype))

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Estimate of x_0 from one pass of the network; see `Denoiser`. Raises SingularPrediction where d = 0."""
        y, spread = self.heads(x, level, cond, towards)
        return Gaussian(self.prediction.to_x0(y, x, level), spread)

    def replaced(self, **parts: Any) -> Model:
        """The same model with other parts, by the names of its arguments (its network in another state, another telling, ...)."""
        given = {name: getattr(self, name) for name in ("network", "process", "prediction", "precision", "telling", "reading")}
        return Model(**(given | parts))
