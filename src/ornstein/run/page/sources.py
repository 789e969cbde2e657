# SPDX-License-Identifier: Apache-2.0
"""The figures of an evaluation as a report reads them, without torch: `evaluation.json`, in the form of `evaluate/table.py`.

An evaluation has sources of samples, the first of them the floor (real data in the place of samples), and of each
source figures by name. A figure that this version does not know is kept under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ornstein.base.errors import CheckpointError


@dataclass(frozen=True)
class Figure:
    """One number and what it depends on; None where it has no value, with the reason."""

    value: float | None = None
    spread: float | None = None
    ratio: float | None = None
    words: str = ""
    conditions: str = ""
    reason: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Source:
    """Where samples came from: name, a sentence on it, its figures, and whether it is the trained model."""

    name: str
    note: str
    figures: Mapping[str, Figure]
    is_model: bool

    def value(self, name: str) -> float | None:
        """The value of a figure, None where it has none."""
        return self.figures.get(name, Figure()).value


def sources_of(evaluation: Mapping[str, Any]) -> list[Source]:
    """The sources of an evaluation, none of an empty one. Raises CheckpointError for what is no evaluation."""
    if not evaluation:
        return []
    try:
        return [_source(row, i) for i, row in enumerate(evaluation["rows"])]
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError("evaluation.json holds no table of figures.", "Run `ornstein evaluate` on the run again.") from error


def numeric(value: Any) -> float | None:
    """A finite number as float, None for anything else."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if known else None


def _source(row: dict[str, Any], place: int) -> Source:
    """The rows of the trained model are named "model" and what follows; the first row is the floor whatever its name."""
    figures = {str(name): _figure(metric) for name, metric in row["metrics"].items()}
    name = str(row["name"])
    return Source(name, str(row.get("note") or ""), figures, place > 0 and name.startswith("model"))


def _figure(metric: dict[str, Any]) -> Figure:
    value, spread, ratio, low, high = (numeric(metric.get(key)) for key in ("value", "spread", "ratio_to_floor", "low", "high"))
    conditions = [f"{key} {metric[key]}" for key in ("n", "draws", "seed") if metric.get(key) is not None]
    conditions += [str(metric["eye"])] if metric.get("eye") else []
    words = str(metric.get("identity") or "").partition(":")[0]
    return Figure(value, spread, ratio, words, ", ".join(conditions), str(metric.get("reason") or ""), low, high)
