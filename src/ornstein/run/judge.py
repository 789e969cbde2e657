# SPDX-License-Identifier: Apache-2.0
"""Figures of a noisy classifier: how often it names the class of test data, at several noise levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ornstein.base.errors import DataError
from ornstein.base.keys import Keys
from ornstein.data.dataset import Split
from ornstein.evaluate.metrics import Metric, Row
from ornstein.evaluate.table import Table
from ornstein.process.level import Level
from ornstein.run.build import codec_of
from ornstein.run.trained import Trained

_RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)  # sigma/alpha
_PIECE = 256
_MOST = 10_000


def judged(model: Trained, split: Split, show: Callable[[dict[str, Any]], None]) -> Table:
    """Accuracy on test data by noise level, with chance as the floor.

    Args:
        model: a classifier.
        split: its data.
        show: is told {"measuring": name, "drawn": n, "count": n}.

    Raises DataError where the data has no labels.
    """
    test, seed = split.test, model.recipe.train.seed
    if test.labels is None:
        raise DataError("A classifier was to be measured on data without classes.", "Use the data that it was trained on.")
    n = min(len(test), _MOST)
    labels = test.labels[:n]

    def metric(value: float) -> dict[str, Metric]:
        return {"accuracy": Metric("accuracy", value, None, None, n, 1, seed, "noisy data")}

    rows = [Row("chance", "The share of the commonest class.", metric(float(labels.bincount().max()) / n))]
    for i, ratio in enumerate(_RATIOS):
        show({"measuring": "classifier", "drawn": i + 1, "count": len(_RATIOS)})
        told = _told(model, test.raw[:n], model.model.process.schedule.at_log_snr(-2.0 * math.log(ratio)), seed)
        note = f"Test data with noise of {ratio:g} times the signal's scale."
        rows.append(Row(f"model at noise {ratio:g}", note, metric(float((told == labels).to(torch.float64).mean()))))
    return Table(tuple(rows))


def _told(model: Trained, raw: Tensor, level: Level, seed: int) -> Tensor:
    """The class that the classifier names for each example, with noise by its number."""
    named = []
    for start in range(0, len(raw), _PIECE):
        x0 = codec_of(model.facts).encode(raw[start : start + _PIECE]).to(model.device)
        noise = model.model.process.draw(tuple(x0.shape[1:]), Keys.for_draws(seed, start, len(x0), "judge")).to(x0)
        with torch.no_grad():
            named.append(model.model.raw(model.model.process.corrupt(x0, noise, level), level).argmax(1).cpu())
    return torch.cat(named)
