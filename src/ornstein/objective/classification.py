# SPDX-License-Identifier: Apache-2.0
"""A noisy classifier: which class does x_t come from, at every level of the process?

The network answers with one logit per class and is taught by cross-entropy in nats; a model wires it like a denoiser, so
that input scaling and noise feature are those of the prediction and `Model.raw` gives the logits. What it learns is
log p(class | x_t) up to a constant, whose gradient guides a denoiser (Dhariwal & Nichol 2021, arXiv 2105.05233).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ornstein.base.errors import DataError
from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import TimeSampler


class Classification(Objective):
    """Cross-entropy of the class given noisy data.

    Args:
        times: where on the schedule to look.

    Raises:
        DataError: when called with a batch without labels.
    """

    def __init__(self, times: TimeSampler) -> None:
        self.times = times

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`. `parts` has the share of examples whose class comes first."""
        label = batch.cond.label
        if label is None:
            raise DataError("A classifier was to learn from data without classes.", "Use data with classes, one folder per class.")
        t, importance = self.times(keys.of("time"))
        level = model.process.schedule.at(t)
        noise = model.process.draw(batch.x0.shape[1:], keys.of("noise")).to(batch.x0)
        logits: Tensor = model.raw(model.process.corrupt(batch.x0, noise, level), level)
        per_example = importance.to(logits) * functional.cross_entropy(logits, label, reduction="none")
        right = float((logits.detach().argmax(1) == label).to(torch.float64).mean())
        record = LossRecord({"model": per_example.mean()}, per_example.detach().to(torch.float64), t, {"accuracy": right})
        return record, state
