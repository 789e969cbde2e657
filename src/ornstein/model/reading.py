# SPDX-License-Identifier: Apache-2.0
"""What the numbers mean that a network puts out: the target of its prediction alone, or a variance beside it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Reading(ABC):
    """Cuts a network's output into what a model is made of.

    Attributes:
        width: channels of the output per channel of x.
    """

    width: int = 1

    @abstractmethod
    def __call__(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """(target, spread) of an output `(batch, width x channels, ...)`; spread as `Gaussian` has it, None where there is none."""


class Plain(Reading):
    """The target, and nothing said of the variance."""

    def __call__(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output itself."""
        return output, None


class WithSpread(Reading):
    """The target in the first half of the channels; of v in the second, (v + 1)/2 is the spread (arXiv 2102.09672, eq. 15)."""

    width = 2

    def __call__(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Both halves; an untrained network that puts out 0 stands in the middle between the two variances."""
        target, spread = output.chunk(2, dim=1)
        return target, 0.5 * (spread + 1.0)
