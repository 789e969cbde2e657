# SPDX-License-Identifier: Apache-2.0
r"""Is the model still learning, or has it begun to learn by heart?

Held-out loss is taken at fixed (t, noise): example i of an evaluation is corrupted by the numbers of draw i, keyed apart
from training and independent of the step, so two evaluations differ by the weights alone. The same draws serve as many
training examples, so the two losses differ by the images alone. The averaged weights are measured.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.base.keys import Keys, permutation
from ornstein.codec.pixels import Codec
from ornstein.data.dataset import Dataset, Split
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.objective.record import Batch, Objective

_LEVELS = 10
_MOST = 512
_PATIENCE = 3
_MEMORISED = 0.5


def batch_of(examples: Dataset, rows: Int[Tensor, " batch"], codec: Codec, device: torch.device) -> Batch:
    """The named rows as clean data and their condition, on the device."""
    labels = None if examples.labels is None else examples.labels[rows].to(device)
    return Batch(codec.encode(examples.raw[rows].to(device)), Cond(label=labels))


def finite_or_none(value: float | None) -> float | None:
    """A number as JSON knows it: NaN and infinity are null."""
    return value if value is not None and math.isfinite(value) else None


class Measure(NamedTuple):
    """One evaluation: mean loss of held-out and of training examples, and [t, loss] of the held-out ones by noise level."""

    heldout: float
    train_fixed: float
    by_level: list[list[float]]

    def to_json(self) -> dict[str, Any]:
        """As JSON values, which know no NaN: a loss that is not finite is null."""
        levels = [[t, finite_or_none(loss)] for t, loss in self.by_level]
        return {"heldout": finite_or_none(self.heldout), "train_fixed": finite_or_none(self.train_fixed), "by_level": levels}


class Heldout:
    """The fixed examples of a run's evaluations.

    Args:
        objective: whose loss is measured.
        codec: raw data to x_0.
        split: training and held-out data; as many of each are used as there are of the fewer, up to 512.
        seed: of the choice of examples and of their (t, noise).
        micro_batch: examples in one forward pass.
    """

    def __init__(self, objective: Objective, codec: Codec, split: Split, seed: int, micro_batch: int) -> None:
        self.objective, self.codec, self.split, self.seed, self.micro_batch = objective, codec, split, seed, micro_batch
        self.count = min(len(split.test.raw), len(split.train.raw), _MOST)
        if self.count == 0:
            raise UsageError("There is no held-out example.", "Give data with a test split, or enough of it to set some aside.")

    @torch.no_grad()
    def measure(self, model: Model, device: torch.device, progress: float, state: dict[str, Any]) -> Measure:
        """Losses of a model whose network is in evaluation mode; `progress` and `state` are the objective's."""
        state = self.objective.at_rest(state)
        heldout, t = self._losses(model, self.split.test, device, progress, state)
        train, _ = self._losses(model, self.split.train, device, progress, state)
        return Measure(float(heldout.mean()), float(train.mean()), by_level(t, heldout))

    def _losses(
        self, model: Model, examples: Dataset, device: torch.device, progress: float, state: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        rows = permutation(len(examples.raw), self.seed, "heldout")[: self.count]
        losses, times = [], []
        for start in range(0, self.count, self.micro_batch):
            part = rows[start : start + self.micro_batch]
            keys = Keys.for_draws(self.seed, start, len(part), "heldout")
            record, _ = self.objective(model, batch_of(examples, part, self.codec, device), keys, progress, state)
            losses.append(record.per_example.cpu())
            times.append(record.t.cpu())
        return torch.cat(losses), torch.cat(times)


def by_level(t: Float[Tensor, " n"], losses: Float[Tensor, " n"]) -> list[list[float]]:
    """[middle of the level, mean loss] of ten equal parts of t in [0, 1]; parts without an example are left out."""
    places = (t * _LEVELS).long().clamp(0, _LEVELS - 1)
    present = sorted(set(places.tolist()))
    return [[(place + 0.5) / _LEVELS, float(losses[places == place].mean())] for place in present]


@dataclass(frozen=True)
class Overfitting:
    """What the evaluations so far say; `after` gives the next one.

    Args:
        best_step: step with the lowest held-out loss; None before the first evaluation.
        best_heldout: that loss.
        best_train: training loss at that step; None where it was not finite.
        worse: evaluations in a row since, all above it.
    """

    best_step: int | None = None
    best_heldout: float | None = None
    best_train: float | None = None
    worse: int = 0

    def after(self, step: int, measure: Measure) -> Overfitting:
        """With one more evaluation. One that is not finite never is the best."""
        if self.best_heldout is None or measure.heldout < self.best_heldout:
            return Overfitting(step, measure.heldout, finite_or_none(measure.train_fixed)) if math.isfinite(measure.heldout) else self
        return Overfitting(self.best_step, self.best_heldout, self.best_train, self.worse + 1)

    def note(self, measure: Measure, memorised: float | None) -> str | None:
        """Overfitting or memorising in one sentence, or None.

        Overfitting: held-out loss above its best for 3 evaluations in a row, while training loss is below what it was at
        that best. Memorising: samples lie, in the median, at less than half the distance to their nearest training
        image that this image has to its own nearest.
        """
        notes = []
        if self.worse >= _PATIENCE and self.best_train is not None and measure.train_fixed < self.best_train:
            notes.append(
                f"overfitting: held-out loss rose from {self.best_heldout:.4g} at step {self.best_step} to {measure.heldout:.4g} "
                f"while training loss fell to {measure.train_fixed:.4g}; the checkpoint of step {self.best_step} is the best"
            )
        if memorised is not None and memorised < _MEMORISED:
            notes.append(f"memorising: samples lie at {memorised:.2g} of the usual distance from their nearest training example")
        return "; ".join(notes) or None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(path: Path, value: Any) -> Overfitting:
        """The inverse of `to_json`. Raises CheckpointError naming `path`."""
        keys = set(Overfitting().to_json())
        if isinstance(value, dict) and value.keys() == keys and type(value["worse"]) is int:
            kinds = [type(value[key]) for key in ("best_step", "best_heldout", "best_train")]
            if kinds in ([type(None)] * 3, [int, float, float], [int, float, type(None)]):
                return Overfitting(**value)
        raise CheckpointError(f"{path} has no usable 'overfitting'.", "Use another checkpoint.")
