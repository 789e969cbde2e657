# SPDX-License-Identifier: Apache-2.0
"""What a denoiser is told beside x_t: a typed record that knows what "no condition" is.

The null condition is owned here and nowhere else: training drops conditions to it per sample, classifier-free guidance
asks for it, networks embed it. A new kind of condition is one field and its null value in `_NULL`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ornstein.base.keys import Keys

NULL_LABEL = -1
"""The label of a sample without a class."""


@dataclass(frozen=True)
class Cond:
    """Condition of a batch; absent fields are None.

    Args:
        label: class index, int64 `(batch,)`, 0..classes-1 or `NULL_LABEL`.
        vector: any features, float `(batch, d)`; the zero vector is the null.
    """

    label: Tensor | None = None
    vector: Tensor | None = None

    def _map(self, change: Callable[[str, Tensor], Tensor]) -> Cond:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return Cond(**{name: None if value is None else change(name, value) for name, value in given.items()})

    def null(self) -> Cond:
        """The same fields and batch with every sample unconditioned."""
        return self._map(lambda name, value: torch.full_like(value, _NULL[name]))

    def drop(self, probability: float, keys: Keys) -> Cond:
        """Replace whole samples by their null with the given probability, decided per sample by its key."""
        dropped = keys.uniform() < probability
        null = self.null()

        def choose(name: str, value: Tensor) -> Tensor:
            mask = dropped.to(value.device).reshape(-1, *(1,) * (value.ndim - 1))
            return torch.where(mask, getattr(null, name), value)

        return self._map(choose)

    def concat(self, other: Cond) -> Cond:
        """Both batches, one after the other. Both must have the same fields."""
        return self._map(lambda name, value: torch.cat([value, getattr(other, name)]))

    def take(self, rows: Tensor | slice) -> Cond:
        """The given rows of the batch."""
        return self._map(lambda _, value: value[rows])

    def repeat(self, n: int) -> Cond:
        """The one row of this condition n times."""
        return self._map(lambda _, value: value.expand(n, *value.shape[1:]))

    def to(self, device: torch.device | str) -> Cond:
        """The same condition on a device."""
        return self._map(lambda _, value: value.to(device))


_NULL: dict[str, float] = {"label": NULL_LABEL, "vector": 0.0}
