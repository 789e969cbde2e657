# SPDX-License-Identifier: Apache-2.0
"""What `ornstein sample` may be told beyond the recipe: who guides, what to start from, what to keep, what was measured.

Torch-free. Words are taken apart here, and what contradicts itself is refused before any run is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from ornstein.base.errors import UsageError

TASKS = ("super-resolution", "deblur", "inpaint")
METHODS = ("pigdm", "dps")


class Task(NamedTuple):
    """A linear measurement: its name and its number (factor of super-resolution, width of a blur in pixels, or None)."""

    name: str
    value: float | None


class Source(NamedTuple):
    """Another run and which of its checkpoints: "newest", "best" or a step."""

    folder: Path
    checkpoint: str


@dataclass(frozen=True)
class Control:
    """Options of a drawing; None and False ask for nothing.

    Args:
        negative: class to be guided away from.
        compose: several classes with weights, as in "3:1,8:-0.5".
        classifier: run of a noisy classifier that guides, as RUN[:STEP].
        bad: run of a worse model that guides, as RUN[:STEP].
        init: picture to start from; with `task`, the measurement.
        strength: how far towards noise the picture is taken, in (0, 1].
        invert: carry the picture up by solving instead of by adding noise.
        init_label: class of the picture, for `invert`.
        mask: picture that is white where something is to be filled in.
        resample: how often each stretch of a filling-in is walked, >= 1.
        task: a linear inverse problem, NAME or NAME:VALUE.
        method: how it is solved, one of `METHODS`.
        noise: standard deviation of the measurement's noise, in the model's range of 2 for black to white.
    """

    negative: int | None = None
    compose: str | None = None
    classifier: str | None = None
    bad: str | None = None
    init: Path | None = None
    strength: float | None = None
    invert: bool = False
    init_label: int | None = None
    mask: Path | None = None
    resample: int | None = None
    task: str | None = None
    method: str | None = None
    noise: float | None = None

    @property
    def guides(self) -> bool:
        """Whether something other than the recipe's classifier-free guidance guides."""
        return any(value is not None for value in (self.compose, self.classifier, self.bad))

    def given(self) -> dict[str, Any]:
        """The options that ask for something, as JSON values."""
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) if isinstance(value, Path) else value for name, value in every.items() if value not in (None, False)}

    def check(self, label: int | None, guidance: float | None) -> None:
        """Raise UsageError for options that contradict each other or lie outside their ranges."""
        if self.guides and guidance is not None and not 0.0 <= guidance <= 100.0:
            raise UsageError(f"--guidance {guidance:g} is no scale.", "Give a number from 0 to 100; 1 is the conditional model alone.")
        for what, fix in (*self._together(label, guidance), *self._ranges()):
            raise UsageError(what, fix)

    def _together(self, label: int | None, guidance: float | None) -> Iterator[tuple[str, str]]:
        several = [f"--{name}" for name in ("compose", "classifier", "bad", "negative") if getattr(self, name) is not None]
        if len(several) > 1:
            yield f"{' and '.join(several)} were given together, and only one of them can guide.", "Keep one of them."
        if self.compose is not None and (label is not None or guidance is not None):
            other = "--label" if label is not None else "--guidance"
            yield f"--compose and {other} were both given.", "Say classes and weights in --compose alone, as in 3:1,8:0.5."
        needs = (("strength", self.strength), ("mask", self.mask), ("task", self.task), ("invert", self.invert or None))
        for name in (name for name, value in needs if value is not None and self.init is None):
            yield f"--{name} was given without a picture.", "Give the picture with --init FILE."
        for name in ("method", "noise"):
            if getattr(self, name) is not None and self.task is None:
                yield f"--{name} says nothing without --task.", f"Name what was measured, as in --task {TASKS[0]}:2."
        if self.task is not None and (self.strength is not None or self.invert):
            yield "--task starts from noise, and --strength or --invert was given too.", "Leave one of them out."
        if self.resample is not None and (self.mask is None or self.task is not None):
            yield "--resample belongs to filling in by --mask without --task.", "Give --mask FILE, or leave --resample out."
        if self.init_label is not None and not self.invert:
            yield "--init-label says nothing without --invert.", "Give --invert, or leave it out."
        if self.invert and self.mask is not None:
            yield "--invert and --mask were both given.", "Fill in from noise, or invert the whole picture."
        if self.method == "dps" and self.noise is not None:
            yield "--noise says nothing to dps, which takes steps of one length.", "Leave --noise out, or use --method pigdm."

    def _ranges(self) -> Iterator[tuple[str, str]]:
        if self.strength is not None and not 0.0 < self.strength <= 1.0:
            yield f"--strength {self.strength:g} does not lie in (0, 1].", "Give a share of the way to noise, for example 0.6."
        if self.resample is not None and not 1 <= self.resample <= 1000:
            yield f"--resample {self.resample} is no number of passes.", "Give 1 to 1000; 10 is common."
        if self.noise is not None and not 0.0 <= self.noise <= 100.0:
            yield f"--noise {self.noise:g} is no standard deviation.", "Give a number from 0 to 100; black and white are 2 apart."
        if self.method is not None and self.method not in METHODS:
            yield f"There is no method '{self.method}'.", f"Choose one of: {', '.join(METHODS)}."
        if self.task is not None:
            name = self.asked_task().name
            if name == "inpaint" and self.mask is None:
                yield "--task inpaint was given without a mask.", "Give --mask FILE, white where something is to be filled in."
            if name != "inpaint" and self.mask is not None:
                yield f"--task {name} takes no mask.", "Leave --mask out, or use --task inpaint."

    def asked_task(self) -> Task:
        """The task, taken apart. Raises UsageError."""
        name, colon, value = (self.task or "").partition(":")
        if name not in TASKS:
            raise UsageError(f"There is no task '{name}'.", f"Choose one of: {', '.join(TASKS)}.")
        if name == "inpaint":
            if colon:
                raise UsageError(f"--task inpaint takes no number, and '{value}' was given.", "Write --task inpaint.")
            return Task(name, None)
        number = _number(value)
        if name == "deblur" and number is not None and 0.0 < number <= 100.0:
            return Task(name, number)
        if name == "super-resolution" and number is not None and number in range(2, 65):
            return Task(name, number)
        wants = "a factor from 2 to 64" if name == "super-resolution" else "the blur's width in pixels, above 0 and up to 100"
        raise UsageError(f"--task {name} needs {wants}, not '{value}'.", f"Write --task {name}:2.")

    def terms(self) -> tuple[tuple[int, float], ...]:
        """The classes and weights of `compose`. Raises UsageError."""
        found = []
        for word in (self.compose or "").split(","):
            label, colon, weight = word.partition(":")
            number = _number(weight) if colon else 1.0
            if not label.strip().isdecimal() or number is None or abs(number) > 100.0:
                what = f"'{word}' in --compose is no class with a weight from -100 to 100."
                raise UsageError(what, "Write it as in --compose 3:1,8:-0.5.")
            found.append((int(label), number))
        return tuple(found)


NOTHING = Control()
"""The control of a plain drawing."""


def source(word: str) -> Source:
    """RUN, RUN:STEP, RUN:newest or RUN:best; a folder whose own name holds a colon is taken as it is."""
    head, colon, tail = word.rpartition(":")
    if colon and head and (tail.isdecimal() or tail in ("newest", "best")) and not Path(word).exists():
        return Source(Path(head), tail)
    return Source(Path(word), "newest")


def _number(text: str) -> float | None:
    """A finite number, None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
