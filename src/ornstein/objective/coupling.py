# SPDX-License-Identifier: Apache-2.0
"""Which noise meets which example: couplings of a batch of data with a batch of noise."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from ornstein.model.condition import Cond


class Coupling(ABC):
    """Arranges the noise of a batch; no number of it is changed, so the noise stays standard normal."""

    @abstractmethod
    def __call__(self, x0: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        """The noise in the order in which it meets the rows of x0; a function of its arguments alone."""


class Independent(Coupling):
    """As drawn: what DDPM, EDM and the variational bound assume."""

    def __call__(self, x0: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        """The noise unchanged."""
        return noise
