# SPDX-License-Identifier: Apache-2.0
"""What a network reads of a condition. The model room's `Cond` is one; a network knows only these fields."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

NULL_LABEL = -1
"""The label of a sample whose class is unknown or dropped."""


@runtime_checkable
class Condition(Protocol):
    """The fields a network may read; None where the batch carries no such condition."""

    @property
    def label(self) -> Tensor | None:
        """Class index, int64 `(batch,)`: 0..classes-1, or `NULL_LABEL`."""

    @property
    def vector(self) -> Tensor | None:
        """Any features, float `(batch, d)`; the zero vector is the null."""
