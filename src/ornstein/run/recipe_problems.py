# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a recipe, in words: pydantic's findings turned into problems with dotted path, line and nearest name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ornstein.base.errors import Problem
from ornstein.base.registry import likeness, nearest
from ornstein.run.recipe_parts import choices_of, keys_below, mark_at, section_at, without_tags
from ornstein.run.yaml_strict import Path, dotted, shown

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a section of keys",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_CLOSE, _SURE = 0.6, 0.85  # likeness from which a key beside, or one in another section, is what was meant


def problems_of(error: ValidationError, model: type[BaseModel], data: Any, line_of: Callable[[Path], int | None]) -> dict[Path, Problem]:
    """Every finding of a failed validation, by path.

    Args:
        error: the failure.
        model: what was validated.
        data: what was validated against it.
        line_of: line of a path in the file, None where it came from elsewhere.
    """
    found: dict[Path, Problem] = {}
    for detail in error.errors(include_url=False):
        path = without_tags(detail["loc"])
        unknown_kind = detail["type"] == "union_tag_invalid"
        place = (*path, "kind") if unknown_kind else path
        found.setdefault(path, Problem(dotted(place) or "(top)", _message(detail, path, model, data), line_of(place)))
    return found


def _message(detail: ErrorDetails, path: Path, model: type[BaseModel], data: Any) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return _unknown_key(path, model, data)
    if kind.startswith("union_tag"):
        return _no_part(path, model, data, value)
    if kind == "literal_error":
        return f"must be {context['expected']}, not {shown(value)}"
    if kind == "finite_number":
        return f"must be a finite number, not {shown(value)}"
    if kind in _BOUNDS:
        bound, word = _BOUNDS[kind]
        return f"must be {word} {context[bound]:g}, not {shown(value)}"
    if kind == "multiple_of":
        return f"must be a multiple of {context['multiple_of']:g}, not {shown(value)}"
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, not {_said(value)}"
    if kind == "value_error":
        return str(context["error"])
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, not {shown(value)}"


def _unknown_key(path: Path, model: type[BaseModel], data: Any) -> str:
    """Names the nearest key beside it, or one in another section where none beside is close."""
    parent = section_at(model, data, path[:-1])
    word = str(path[-1])
    beside = list(parent.model_fields) if parent is not None else []
    near = nearest(word, beside) if beside else ""
    far = max(keys_below(model, data), key=lambda keys: likeness(word, keys[-1]))
    elsewhere = not beside or (likeness(word, near) < _CLOSE and likeness(word, far[-1]) >= _SURE)
    return f"is not a key; the nearest is '{dotted(far) if elsewhere else near}'"


def _no_part(path: Path, model: type[BaseModel], data: Any, value: Any) -> str:
    """The section names no part, or one that does not exist."""
    parent = section_at(model, data, path[:-1])
    mark = mark_at(parent, str(path[-1])) if parent is not None else None
    choices: Iterable[str] = choices_of(mark.kind, mark.depth) if mark is not None else ()
    listed = ", ".join(choices)
    if not isinstance(value, Mapping):
        return f"must be a section with a kind (one of {listed}), not {_said(value)}"
    if "kind" not in value:
        return f"needs a kind: one of {listed}"
    said = value["kind"]
    near = f"; the nearest is '{nearest(said, choices)}'" if isinstance(said, str) else ""
    return f"must be one of {listed}, not {_said(said)}{near}"


def _said(value: Any) -> str:
    """A value with the type a YAML reader took it for, so that quotes and spellings are not puzzling."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    words = {str: "the text", int: "the whole number", float: "the number", list: "the list", dict: "the section"}
    return f"{words.get(type(value), 'the value')} {shown(value)}"
