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
from ornstein.model.telling import OneTime, Telling, stacked
from ornstein.network.precision import autocast_for
from ornstein.process.estimate import Estimate, Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level, over


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
    """

    def __init__(
        self,
        network: nn.Module,
        process: GaussianProcess,
        prediction: Prediction,
        precision: str = "fp32",
        telling: Telling = OneTime(),
    ) -> None:
        self.network, self.process, self.prediction, self.precision = network, process, prediction, precision
        self.telling, self.flow_map = telling, telling.flow_map

    def raw(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Tensor:
        """The network's output in target space, in x's dtype; losses are computed from it (through x_0 they lose digits)."""
        scale = self.prediction.input_scale(level)
        features = stacked(self.telling(self.prediction, level, towards), x)
        scaled = x if isinstance(scale, float) and scale == 1.0 else over(scale, x) * x
        with autocast_for(self.precision, x.device):
            y: Tensor = self.network(scaled, features, Cond() if cond is None else cond)
        return y.to(x.dtype)

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Estimate of x_0 from one pass of the network; see `Denoiser`. Raises SingularPrediction where d = 0."""
        return Gaussian(self.prediction.to_x0(self.raw(x, level, cond, towards), x, level))

    def replaced(self, **parts: Any) -> Model:
        """The same model with other parts, by the names of its arguments (its network in another state, another telling, ...)."""
        given = {name: getattr(self, name) for name in ("network", "process", "prediction", "precision", "telling")}
        return Model(**(given | parts))
