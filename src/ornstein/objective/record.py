# SPDX-License-Identifier: Apache-2.0
"""The contract between objectives and the trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model


class Batch(NamedTuple):
    """Clean data `(batch, ...)` in the model's range, and what is known of it."""

    x0: Tensor
    cond: Cond


@dataclass(frozen=True)
class LossRecord:
    """What an objective says of one batch.

    Args:
        losses: the scalar to minimise, by optimiser group; a plain objective has the one group "model".
        per_example: loss of every example, importance weights included, float64 `(batch,)`, detached.
        t: time at which every example was corrupted, float64 `(batch,)`.
        parts: named scalars worth logging.
        is_bound: whether the loss is an upper bound on the negative log-likelihood.
    """

    losses: dict[str, Tensor]
    per_example: Tensor
    t: Tensor
    parts: dict[str, float] = field(default_factory=dict)
    is_bound: bool = False


class Objective(ABC):
    """Denoiser + clean data -> loss. What it remembers between batches is a state it is handed and hands back."""

    def init(self) -> dict[str, Any]:
        """State before the first batch; JSON values and tensors, part of every checkpoint."""
        return {}

    @abstractmethod
    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch.

        Args:
            model: the model in training.
            batch: clean data and conditions.
            keys: one key per example; every random number comes from them.
            progress: share of the training done, in [0, 1].
            state: what `init` or the last call returned.
        """

    def remember(self, state: Mapping[str, Any], t: Tensor, losses: Tensor) -> dict[str, Any]:
        """The state after an update, told the times and losses of the whole global batch in the order of its draws.

        It is called once per update that was made, with the same numbers on every rank.
        """
        return dict(state)

    def at_rest(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state for evaluations: without what would make two of them look at different levels."""
        return dict(state)
