# SPDX-License-Identifier: Apache-2.0
"""The figures of an evaluation as a report reads them, without torch: `evaluation.json`, in the form of `evaluate/table.py`.

An evaluation has sources of samples, the first of them the floor (real data in the place of samples), and of each
source figures by name. A figure that this version does not know is kept under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ornstein.base.errors import CheckpointError


class Kind(NamedTuple):
    """How a figure is shown: its title, which way is better ("lower", "higher" or ""), and whether as a share of 100 or of 1."""

    title: str
    better: str
    whole: int = 1


KINDS = {
    "frechet": Kind("Frechet", "lower"),
    "kernel": Kind("kernel", "lower"),
    "energy": Kind("energy", "lower"),
    "sliced_wasserstein": Kind("sliced W", "lower"),
    "precision": Kind("precision", "higher"),
    "recall": Kind("recall", "higher"),
    "density": Kind("density", "higher"),
    "coverage": Kind("coverage", "higher"),
    "accuracy": Kind("accuracy", "higher", 100),
    "nearest": Kind("nearest", "higher"),
    "copies": Kind("copies", "lower", 100),
}


def kind_of(name: str) -> Kind:
    """The kind of a figure, a plain one for a name not known."""
    return KINDS.get(name, Kind(name.replace("_", " "), ""))


@dataclass(frozen=True)
class Figure:
    """One number and what it depends on; None where it has no value, with the reason."""

    value: float | None = None
    spread: float | None = None
    ratio: float | None = None
    words: str = ""
    conditions: str = ""
    reason: str = ""


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
    value, spread, ratio = (numeric(metric.get(key)) for key in ("value", "spread", "ratio_to_floor"))
    conditions = [f"{key} {metric[key]}" for key in ("n", "draws", "seed") if metric.get(key) is not None]
    conditions += [str(metric["eye"])] if metric.get("eye") else []
    words = str(metric.get("identity") or "").partition(":")[0]
    return Figure(value, spread, ratio, words, ", ".join(conditions), str(metric.get("reason") or ""))
