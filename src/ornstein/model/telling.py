# SPDX-License-Identifier: Apache-2.0
r"""What a network is told of the noise levels, and with it what kind of model it makes.

A plain model knows the level of x_t. A flow map knows two levels, where x_t is and where it is to go, and answers with
the x_0 whose DDIM move from t to s lands on its map,

    map(x_t, t, s) = (sigma_s/sigma_t) x_t + (alpha_s - alpha_t sigma_s/sigma_t) x_0(x_t, t, s),

so that plain DDIM samples from it in as few steps as one likes. With s = t it is the ordinary denoiser, with s clean a
consistency function (Song et al. 2023, arXiv 2303.01469); on the straight path the velocity (x_t - x_0)/t is MeanFlow's
average velocity (Geng et al. 2025, arXiv 2505.13447, eq. 3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ornstein.model.prediction import Prediction
from ornstein.process.level import Level, Scalar


class Telling(ABC):
    """Levels -> the features of a network.

    Class attributes:
        features: how many numbers per sample.
        flow_map: whether the model's answer is one of a flow map; see `Denoiser`.
    """

    features: int = 1
    flow_map: bool = False

    @abstractmethod
    def __call__(self, prediction: Prediction, level: Level, towards: Level | None) -> tuple[Scalar, ...]:
        """The numbers, each a float or `(batch,)`.

        Args:
            prediction: says by which number a level is known.
            level: of x_t.
            towards: where the caller will move to, None where it did not say.
        """


class OneTime(Telling):
    """The level of x_t alone.

    Args:
        flow_map: whether the model answers with the end of the flow through x_t, a consistency function, whatever it is to move to.
    """

    def __init__(self, flow_map: bool = False) -> None:
        self.flow_map = flow_map

    def __call__(self, prediction: Prediction, level: Level, towards: Level | None) -> tuple[Scalar, ...]:
        """See `Telling`."""
        return (prediction.feature(level),)


class TwoTimes(Telling):
    """The level of x_t and the one to move to; where the caller does not say, the level of x_t again, which asks for the denoiser."""

    features, flow_map = 2, True

    def __call__(self, prediction: Prediction, level: Level, towards: Level | None) -> tuple[Scalar, ...]:
        """See `Telling`."""
        return prediction.feature(level), prediction.feature(level if towards is None else towards)


class TimeAndScale(Telling):
    """The level of x_t and the guidance scale that the answer is to have (Meng et al. 2023, arXiv 2210.03142, section 3.1).

    Args:
        scale: of the guidance: one number, or one per sample `(batch,)`. The network is told scale / 10.
    """

    features = 2

    def __init__(self, scale: Scalar = 1.0) -> None:
        self.scale = scale

    def __call__(self, prediction: Prediction, level: Level, towards: Level | None) -> tuple[Scalar, ...]:
        """See `Telling`."""
        return prediction.feature(level), self.scale / 10.0


def stacked(numbers: tuple[Scalar, ...], x: Tensor) -> Tensor:
    """Numbers per sample as the features `(batch, k)` of a network, in x's dtype."""
    if len(numbers) == 1 and not isinstance(numbers[0], Tensor):
        return x.new_full((len(x), 1), numbers[0])
    columns = [number.to(x) if isinstance(number, Tensor) else x.new_tensor(number) for number in numbers]
    return torch.stack([column.expand(len(x)) for column in columns], dim=1)
