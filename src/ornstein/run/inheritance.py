# SPDX-License-Identifier: Apache-2.0
"""What a student takes over from its teacher's recipe, before anything is checked and before torch is imported.

A recipe with a `teacher` may leave out what decides the kind of model: data, schedule, prediction and network are then the
teacher's; a section without a `kind` is the teacher's with changes. The resolved recipe says them all, so that a run folder
needs its teacher for training only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ornstein.base.errors import OrnsteinError, Problem, RecipeError
from ornstein.run import yaml_strict

INHERITED = ("data", "schedule", "prediction", "network")
_KEY = "teacher.run"


def inherit(
    data: dict[str, Any], words: Sequence[str], load: Callable[[str, tuple[str, ...]], dict[str, Any]], students: tuple[str, ...]
) -> tuple[dict[str, Any], list[Problem]]:
    """A recipe's data with what its teacher decides.

    Args:
        data: what the recipe says; not changed.
        words: overrides, of which only `teacher.run` is looked at.
        load: (teacher, students) -> the whole recipe of a run folder or recipe as data; raises OrnsteinError.
        students: recipes that this one teaches, so that a circle is noticed.

    Returns the data, and what is wrong with the teacher.
    """
    missing = [key for key in INHERITED if key not in data or _is_change(data[key])]
    run = _named(data, words)
    if run is None or not missing:
        return data, []
    if run in students:
        return data, [Problem(_KEY, f"'{run}' would be its own teacher")]
    try:
        taught = load(run, (*students, run))
    except OrnsteinError as error:
        return data, [Problem(_KEY, f"does not lead to a recipe: {error.what.strip()}")]
    return data | {key: taught[key] | (data.get(key) or {}) for key in missing}, []


def _is_change(section: Any) -> bool:
    return isinstance(section, dict) and "kind" not in section


def _named(data: dict[str, Any], words: Sequence[str]) -> str | None:
    """The teacher that the overrides or the data name."""
    section = data.get("teacher")
    run = section.get("run") if isinstance(section, dict) else None
    for word in words:
        dotted, _, text = word.partition("=")
        if dotted == _KEY:
            try:
                run = yaml_strict.value_of(text, dotted)
            except RecipeError:
                return None  # said again, with its place, when the overrides are applied
    return run if isinstance(run, str) and run else None
