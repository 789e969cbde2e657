# SPDX-License-Identifier: Apache-2.0
"""What a run folder tells, read leniently: a report shows what is there, of whatever version, and leaves out the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ornstein.base.errors import CheckpointError
from ornstein.base.files import read_json, read_lines
from ornstein.run.folder import RunFolder
from ornstein.run.page.sources import Source, numeric, sources_of

Record = dict[str, Any]
T = TypeVar("T")
Curve = tuple[list[float], list[float]]


class Story:
    """The files of one run, each read when first asked for.

    Args:
        folder: the run. Raises UsageError where it holds no recipe.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder.open(folder)
        self.path = folder

    @cached_property
    def recipe_text(self) -> str:
        """recipe.yaml as it is."""
        return self.folder.recipe_file.read_text(encoding="utf-8", errors="replace")

    @cached_property
    def _recipe(self) -> Record:
        try:
            value = yaml.safe_load(self.recipe_text)
        except (yaml.YAMLError, RecursionError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    @cached_property
    def facts(self) -> Record:
        """run.json; empty where it is missing. Raises CheckpointError where it is damaged."""
        return read_json(self.folder.facts_file) if self.folder.facts_file.exists() else {}

    @cached_property
    def metrics(self) -> list[Record]:
        """Lines of metrics.jsonl. Raises CheckpointError where one is damaged."""
        return records(self.path / "metrics.jsonl")

    @cached_property
    def best_step(self) -> float | None:
        """Step of the best checkpoint, if one is named."""
        path = self.path / "best.json"
        return numeric(read_json(path).get("step")) if path.exists() else None

    @cached_property
    def last_step(self) -> int:
        """The last step in the log or of a checkpoint; 0 where there is neither."""
        saved = [float(step) for step, _ in _numbered(self.folder.checkpoints, "step-*")]
        return int(max([*saved, *_steps(_unless_damaged(lambda: self.metrics) or [])], default=0))

    @property
    def is_points(self) -> bool:
        """Whether the data are points in the plane rather than images."""
        return "points" in (self.fact("data", "kind"), self.setting("data", "kind"))

    @property
    def classes(self) -> int:
        """Number of classes; 0 without labels."""
        return int(numeric(self.fact("data", "classes")) or 0)

    def setting(self, *keys: str) -> Any:
        """A value of the recipe by its path, None where there is none."""
        return _within(self._recipe, keys)

    def fact(self, *keys: str) -> Any:
        """A value of run.json by its path, None where there is none or the file is damaged."""
        return _within(_unless_damaged(lambda: self.facts) or {}, keys)

    def curve(self, key: str) -> Curve:
        """Steps and values of one figure of the log, where it is a number."""
        pairs = [(numeric(record.get("step")), numeric(record.get(key))) for record in self.metrics]
        known = [(step, value) for step, value in pairs if step is not None and value is not None]
        return [step for step, _ in known], [value for _, value in known]

    def levels(self) -> list[tuple[int, Curve]]:
        """(step, loss by noise level) of every evaluation in the log that has it."""
        found = []
        for record in self.metrics:
            pairs = record.get("by_level")
            if isinstance(pairs, list) and (curve := _pairs(pairs))[0]:
                found.append((int(numeric(record.get("step")) or 0), curve))
        return found

    def grid(self) -> Path | None:
        """The sample grid to show: that of the report, else the newest."""
        own = self.folder.samples / "report" / "grid.png"
        others = sorted(self.folder.samples.glob("*/grid.png"), key=lambda path: (path.stat().st_mtime, path.name))
        return own if own.exists() else others[-1] if others else None

    def points(self) -> Path | None:
        """The samples to show of a run on points: those of the report, else the newest."""
        own = self.folder.samples / "report" / "samples.npz"
        others = sorted(self.folder.samples.glob("*/samples.npz"), key=lambda path: (path.stat().st_mtime, path.name))
        return own if own.exists() else others[-1] if others else None

    def previews(self) -> list[tuple[int, Path]]:
        """(step, picture) of the previews drawn during training, in order."""
        return _numbered(self.folder.samples / "previews", "step-*.png")

    def seconds(self) -> float | None:
        """Wall time of the training in seconds, over all resumptions; None where it was not logged."""
        lines = _unless_damaged(lambda: records(self.path / "times.jsonl")) or []
        return max((time for line in lines if (time := numeric(line.get("seconds"))) is not None), default=None)

    @cached_property
    def evaluation(self) -> Record:
        """evaluation.json; empty where the run was not evaluated. Raises CheckpointError where it is damaged."""
        return read_json(self.folder.evaluation_file) if self.folder.evaluation_file.exists() else {}

    @cached_property
    def diagnostics(self) -> Record:
        """diagnostics.json; empty where the run was not diagnosed. Raises CheckpointError where it is damaged."""
        return read_json(self.folder.diagnostics_file) if self.folder.diagnostics_file.exists() else {}

    @cached_property
    def sources(self) -> list[Source]:
        """What was measured, the floor first; none where the run was not evaluated. Raises CheckpointError."""
        return sources_of(self.evaluation)


def records(path: Path) -> list[Record]:
    """Lines of a JSON-lines file that are objects. Raises CheckpointError where a line is no JSON."""
    return [record for record in read_lines(path) if isinstance(record, dict)]


def _unless_damaged(read: Callable[[], T]) -> T | None:
    """What `read` gives, None where the file is damaged: the section it belongs to says so."""
    try:
        return read()
    except CheckpointError:
        return None


def _steps(lines: Iterable[Record]) -> list[float]:
    return [step for line in lines if (step := numeric(line.get("step"))) is not None]


def _numbered(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """(N, path) of what is named step-N in a folder, in order."""
    found = [(re.fullmatch(r"step-(\d+)", path.stem), path) for path in folder.glob(pattern)]
    return sorted((int(match[1]), path) for match, path in found if match)


def _pairs(values: Iterable[Any]) -> Curve:
    """Numbers of [[x, y], ...], x ascending; what is no pair of numbers is left out."""
    pairs = [(numeric(pair[0]), numeric(pair[1])) for pair in values if isinstance(pair, list) and len(pair) == 2]
    known = sorted((x, y) for x, y in pairs if x is not None and y is not None)
    return [x for x, _ in known], [y for _, y in known]


def _within(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
