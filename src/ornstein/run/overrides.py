# SPDX-License-Identifier: Apache-2.0
"""`dotted.key=value` words on top of a recipe's data.

A value is read by the rules of the recipe file. Setting a section's `kind` drops those of its other keys that the new kind
does not have, since they were written for the old one; whatever the same command line sets beside it stays and is checked.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from ornstein.base.errors import Problem, RecipeError
from ornstein.base.registry import names
from ornstein.run import yaml_strict
from ornstein.run.recipe_parts import kind_at, model_of, section_at

Keys = tuple[str, ...]


def apply(model: type[BaseModel], data: dict[str, Any], words: Sequence[str]) -> tuple[dict[str, Any], list[Keys], list[Problem]]:
    """Data with overrides.

    Args:
        model: the recipe's model, which knows where parts stand.
        data: what the file says; not changed.
        words: the overrides.

    Returns:
        the new data, the paths that were set, and what is wrong with the words themselves.
    """
    result, settings, problems = copy.deepcopy(data), dict[Keys, Any](), list[Problem]()
    for word in words:
        dotted, equals, text = word.partition("=")
        keys = tuple(dotted.split("."))
        if not equals or not all(keys):
            problems.append(Problem(yaml_strict.shown(word), "is no override; write dotted.key=value, for example train.steps=500"))
        elif keys in settings:
            problems.append(Problem(dotted, "is set twice on the command line"))
        else:
            try:
                settings[keys] = yaml_strict.value_of(text, dotted)
            except RecipeError as error:
                problems += error.problems
    # Whole sections before what is inside them, and a kind before the keys beside it.
    for keys in sorted(settings, key=lambda keys: (len(keys), keys[-1] != "kind")):
        if not _set(model, result, keys, settings[keys]):
            problems.append(Problem(yaml_strict.dotted(keys), "lies inside a value that is no section"))
    return result, list(settings), problems


def _set(model: type[BaseModel], data: dict[str, Any], keys: Keys, value: Any) -> bool:
    """Set one key, making sections on the way; False where a value is in the way."""
    section = data
    for depth, key in enumerate(keys[:-1]):
        if key not in section:
            section[key] = _default_kind(model, data, keys[: depth + 1])
        section = section[key]
        if not isinstance(section, dict):
            return False
    if keys[-1] == "kind":
        _forget(model, data, keys[:-1], section, value)
    section[keys[-1]] = value
    return True


def _default_kind(model: type[BaseModel], data: dict[str, Any], path: Keys) -> dict[str, Any]:
    """A section that the file leaves out, with the kind that leaving it out means."""
    parent = section_at(model, data, path[:-1])
    if parent is None or kind_at(parent, path[-1]) is None:
        return {}
    kind = getattr(parent.model_fields[path[-1]].default, "kind", None)
    return {} if kind is None else {"kind": kind}


def _forget(model: type[BaseModel], data: dict[str, Any], path: Keys, section: dict[str, Any], name: Any) -> None:
    """Drop the keys of a section that a part called `name` does not have."""
    parent = section_at(model, data, path[:-1])
    kind = kind_at(parent, path[-1]) if parent is not None and path else None
    if kind is not None and name in names(kind):
        kept = model_of(kind, name).model_fields
        for key in [key for key in section if key not in kept]:
            del section[key]
