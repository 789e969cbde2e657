# SPDX-License-Identifier: Apache-2.0
"""Where a run stands: the numbers that go into `state.json`. Every one is required on resume; none has a silent default."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ornstein.base.errors import CheckpointError
from ornstein.train.heldout import Overfitting


@dataclass
class Progress:
    """Numbers that change during a run.

    Args:
        step: global batches consumed; batch k is made of the draws k x batch_size onward, so this places data and noise.
        skipped: batches that were not finite and made no update; step - skipped is the number of optimiser updates.
        skipped_in_row: of them, those since the last update.
        ema_updates: averages made.
        evaluated: step of the last held-out evaluation.
        loss_sum: loss of the batches since the last log line, summed.
        norm_sum: their gradient norms.
        summed: how many they are.
        log_bytes: length of metrics.jsonl when this was saved.
        examples: size of the training split, of which the order is a permutation.
        data: identity of the training split.
        overfitting: what the held-out evaluations have shown.
    """

    step: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    ema_updates: int = 0
    evaluated: int = 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    summed: int = 0
    log_bytes: int = 0
    examples: int = 0
    data: str = ""
    overfitting: Overfitting = field(default_factory=Overfitting)

    @property
    def updates(self) -> int:
        """Optimiser updates made."""
        return self.step - self.skipped

    def add(self, loss: float, norm: float) -> None:
        """Note an update: its batch's loss and gradient norm."""
        self.loss_sum, self.norm_sum, self.summed = self.loss_sum + loss, self.norm_sum + norm, self.summed + 1
        self.skipped_in_row = 0

    def take_means(self) -> tuple[float | None, float | None]:
        """Mean loss and gradient norm since the last log line, which this begins anew; None where there was no update."""
        means = (self.loss_sum / self.summed, self.norm_sum / self.summed) if self.summed else (None, None)
        self.loss_sum, self.norm_sum, self.summed = 0.0, 0.0, 0
        return means

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(path: Path, value: dict[str, Any]) -> Progress:
        """The inverse of `to_json`; other keys are not looked at. Raises CheckpointError naming `path` and the key."""
        numbers: dict[str, Any] = {}
        for item in fields(Progress):
            if item.name != "overfitting":
                number = value.get(item.name)
                if type(number) is not type(item.default) or (type(number) is int and number < 0):
                    raise CheckpointError(f"{path} has no usable '{item.name}'.", "Use another checkpoint.")
                numbers[item.name] = number
        return Progress(**numbers, overfitting=Overfitting.from_json(path, value.get("overfitting")))
