# SPDX-License-Identifier: Apache-2.0
"""A denoiser answers one question: given x_t and its level, what is the clean data?

`Denoiser` is the contract that solvers, guidance and exact worlds share; `Model` is the one made of a network. Guidance
is a denoiser around a denoiser, so every solver gets every guidance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ornstein.model.condition import Cond
from ornstein.model.prediction import Prediction
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
        network: called as `network(x, features, cond)` with features `(batch, 1)`.
        process: the corruption the network was trained to undo.
        prediction: the row of the prediction table that the network's output means.
        precision: "fp32" or "bf16": the precision inside the network; input, output and all coefficients keep x's.
    """

    def __init__(self, network: nn.Module, process: GaussianProcess, prediction: Prediction, precision: str = "fp32") -> None:
        self.network, self.process, self.prediction, self.precision = network, process, prediction, precision

    def raw(self, x: Tensor, level: Level, cond: Cond | None = None) -> Tensor:
        """The network's output in target space, in x's dtype; losses are computed from it (through x_0 they lose digits)."""
        feature, scale = self.prediction.feature(level), self.prediction.input_scale(level)
        features = feature.to(x)[:, None] if isinstance(feature, Tensor) else x.new_full((len(x), 1), feature)
        scaled = x if isinstance(scale, float) and scale == 1.0 else over(scale, x) * x
        with autocast_for(self.precision, x.device):
            y: Tensor = self.network(scaled, features, Cond() if cond is None else cond)
        return y.to(x.dtype)

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Estimate of x_0 from one pass of the network; see `Denoiser`. Raises SingularPrediction where d = 0."""
        return Gaussian(self.prediction.to_x0(self.raw(x, level, cond), x, level))
