# SPDX-License-Identifier: Apache-2.0
"""Every key of every section, set to every kind of wrong value: refused at its dotted path and its line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ornstein.base.errors import RecipeError
from ornstein.base.parts import REQUIRED, Param
from ornstein.base.registry import entry, kinds, names
from ornstein.run.recipe import Evaluate, Recipe, Sample, Teacher, Train, shipped
from ornstein.run.recipe_parts import model_of
from ornstein.run.yaml_strict import read

PLACES = {
    **{kind: (kind,) for kind in ("data", "schedule", "prediction", "network", "objective")},
    **{
        "times": ("objective", "times"),
        "weighting": ("objective", "weighting"),
        "coupling": ("objective", "coupling"),
        "solver": ("sample", "solver"),
        "plan": ("evaluate", "plan"),
        "drift": ("objective", "drift"),
        "gap": ("objective", "gap"),
        "goal": ("objective", "goal"),
    },
}
HOSTS = {"drift": "consistency", "gap": "consistency", "goal": "consistency"}
"""The objective that has a part of the kind, where it is not the usual one."""
PARTS = [(kind, name) for kind in kinds() for name in names(kind)]
WRONG = {
    int: [
        "text",
        "1.5",
        "1e3",
        "true",
        "null",
        "[1]",
        "{a: 1}",
        ".nan",
        ".inf",
        "-.inf",
        "'1'",
        "１２",
        "²",
        "1_000",
        "no",
        "9" * 60,
        "-" + "9" * 60,
    ],
    float: [
        "text",
        "true",
        "null",
        "[1.0]",
        "{a: 1}",
        ".nan",
        ".inf",
        "-.inf",
        "'1.0'",
        "1e999",
        "-1e999",
        "１.５",
        "∞",
        "1,5",
        "9" * 60,
        "-9e60",
    ],
    bool: ["1", "0", "yes", "no", "on", "'true'", "null", "[true]", "1.0", "ｔｒｕｅ"],
    str: ["1", "true", "null", "[a]", "{a: 1}", "1.5", "''", '"a\\u0000b"', '"a\\nb"'],
    tuple: [
        "1",
        "text",
        "null",
        "{a: 1}",
        "[a]",
        "[1.5]",
        "[true]",
        "['1']",
        "[.nan]",
        "[[1]]",
        "[1e3]",
        "[" + "9" * 60 + "]",
        "[-1]",
        str([1] * 65),
    ],
}


def block(data: dict[str, Any], indent: int = 0) -> Iterator[str]:
    """A recipe with one key per line, so that every key has a line of its own."""
    for key, value in data.items():
        if isinstance(value, dict):
            yield " " * indent + f"{key}:"
            yield from block(value, indent + 2)
        else:
            yield " " * indent + f"{key}: {value}"


def base(**sections: dict[str, Any]) -> dict[str, Any]:
    data = {"format": 1, "name": "fuzz", "data": {"kind": "digits"}, "schedule": {"kind": "cosine"}, "prediction": {"kind": "v"}}
    return {**data, "network": {"kind": "unet"}, "objective": {"kind": "matching"}, **sections}


def faults(lines: list[str]) -> dict[str, int | None]:
    """Path -> line of what is wrong with a recipe of these lines; empty for a sound one."""
    try:
        Recipe.parse(read("\n".join(lines).encode()))
    except RecipeError as error:
        return {problem.path: problem.line for problem in error.problems}
    return {}


def refused(data: dict[str, Any], place: tuple[str, ...], wrong: dict[str, str]) -> None:
    """Set keys of a section to wrong values, all at once: every one is reported there, on its line, or at an entry of its list."""
    section = data
    for step in place:
        section = section.setdefault(step, {})
    section |= {key: f"MARKED {key}" for key in wrong}
    lines = list(block(data))
    at = {key: next(i for i, line in enumerate(lines) if line.endswith(f": MARKED {key}")) for key in wrong}
    for key, value in wrong.items():
        lines[at[key]] = lines[at[key]].replace(f"MARKED {key}", value)
    found = faults(lines)
    for key, value in wrong.items():
        dotted = ".".join((*place, key))
        hits = {line for path, line in found.items() if path == dotted or path.startswith(f"{dotted}.")}
        assert hits == {at[key] + 1}, f"{dotted}: {value} gave {found}"


def in_turn(values: dict[str, list[str]]) -> Iterator[dict[str, str]]:
    """The first value of every key, then the second of every key that has one, and so on."""
    for i in range(max(map(len, values.values()), default=0)):
        yield {key: of[i] for key, of in values.items() if i < len(of)}


def outside(interval: str) -> list[str]:
    """Numbers just beyond an interval such as "(0, 1]"; none where there is no interval."""
    if not interval:
        return []
    low, high = (float(end) for end in interval[1:-1].split(","))
    return [f"{low if interval[0] == '(' else low - 1:g}", f"{high if interval[-1] == ')' else high + 1:.17g}".replace("e+", "e")]


def part_data(kind: str, name: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A recipe that uses a part, with required values given, and where the part stands."""
    section: dict[str, Any] = {"kind": name}
    section |= {key: "somewhere" for key, param in entry(kind, name).params.items() if param.default is REQUIRED}
    place = PLACES[kind]
    data = base()
    if len(place) == 1:
        data[place[0]] = section
    else:
        data.setdefault(place[0], {})[place[1]] = section
        if kind in HOSTS:
            data["objective"]["kind"] = HOSTS[kind]
    return data, place


def wrong_values(param: Param) -> list[str]:
    values = list(WRONG[param.type])
    if param.choices:
        values += ["nonsense", "ünïcode", "x" * 5000] if param.type is str else ["0", "2", "-1", "99"]
    elif param.type is str:
        values += ["x" * 5000]
    elif param.type is not tuple:
        values += [value for value in outside(param.within) if param.type is float or "." not in value]
    return [value for value in values if not (param.optional and value == "null")]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_every_parameter_of_every_part(kind: str, name: str) -> None:
    for wrong in in_turn({key: wrong_values(param) for key, param in entry(kind, name).params.items()}):
        data, place = part_data(kind, name)
        refused(data, place, wrong)


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_unknown_and_duplicate_keys_and_kinds_of_every_part(kind: str, name: str) -> None:
    data, place = part_data(kind, name)
    for key in ("knid", "größe", "x" * 300, "__class__", "model_config", "kind_"):
        refused_key(data, place, key)
    for value in ("nonsense", "3", "true", "[]", "ünïcode", "x" * 5000, "{a: 1}", ".nan"):
        fresh, place = part_data(kind, name)
        refused(fresh, place, {"kind": value})
    lines = list(block(data))
    at = lines.index(" " * 2 * len(place) + f"kind: {name}")
    assert faults([*lines[: at + 1], lines[at], *lines[at + 1 :]]).get(".".join((*place, "kind"))) == at + 2


def refused_key(data: dict[str, Any], place: tuple[str, ...], key: str) -> None:
    section = data
    for step in place:
        section = section[step]
    section[key] = "MARKED"
    lines = list(block(data))
    del section[key]
    line = next(i for i, text in enumerate(lines) if text.endswith(": MARKED"))
    found = faults(lines)
    named = [path for path, at in found.items() if at == line + 1 and path.startswith(".".join(place))]
    assert named, f"{key} at {place} gave {found}"


FIXED: list[tuple[str, type[BaseModel]]] = [("train", Train), ("sample", Sample), ("evaluate", Evaluate), ("teacher", Teacher)]
NULLABLE = {"micro_batch": int, "threads": int, "max_minutes": float}
INTERVALS = ["[0]", "[0, 1, 1]", "[-1, 0]", "[0, 2]", "[.nan, 1]", "[1, 0]", "0", "[a, b]", "{}"]


def wrong_settings(key: str, default: Any) -> list[str]:
    if key == "guidance_interval":
        return INTERVALS
    kind = NULLABLE.get(key, type(default))
    values = [value for value in WRONG[kind] if not (key in NULLABLE and value == "null")]
    return values + {int: ["-1", "10000000000000000000"], float: ["-1", "1e300"], str: ["nonsense", "ünïcode"] if default else []}.get(
        kind, []
    )


@pytest.mark.parametrize(("section", "model"), FIXED)
def test_every_key_of_the_fixed_sections(section: str, model: type[BaseModel]) -> None:
    fields = {key: field for key, field in model.model_fields.items() if key not in ("solver", "plan")}
    keys = {key: "" if field.is_required() else field.default for key, field in fields.items()}
    for wrong in in_turn({key: wrong_settings(key, default) for key, default in keys.items()}):
        refused(base(), (section,), wrong)


@pytest.mark.parametrize("section", [name for name, _ in FIXED])
def test_unknown_duplicate_and_misshapen_fixed_sections(section: str) -> None:
    data = base(**{section: {"steps": 100}})
    for key in ("stps", "größe", "x" * 300, "model_fields"):
        refused_key(data, (section,), key)
    lines = list(block(data))
    assert faults([*lines, f"{section}: {{steps: 3}}"]).get(section) == len(lines) + 1
    assert faults([*lines, "  steps: 3"]).get(f"{section}.steps") == len(lines) + 1
    for value in ("3", "[]", "text", "true", *(() if section == "teacher" else ("null",))):
        refused(base(), (), {section: value})


@pytest.mark.parametrize("value", ["2", "0", "'1'", "1.0", "null", "true"])
def test_other_formats(value: str) -> None:
    refused(base(), (), {"format": value})


@pytest.mark.parametrize("value", ["''", "a b", "../up", "/root", "ünïcode", "x" * 65, ".hidden", "3", "null", "[a]", '"a\\n"'])
def test_names_that_are_no_folder_names(value: str) -> None:
    refused(base(), (), {"name": value})


def test_every_section_and_part_is_fuzzed() -> None:
    """A new kind of part or section must be put into the tables above."""
    assert set(PLACES) == set(kinds())
    assert set(Recipe.model_fields) == {"format", "name", *(place[0] for place in PLACES.values()), *(name for name, _ in FIXED)}
    assert all(model_of(kind, name).model_fields for kind, name in PARTS)


_LINES = sorted({line for path in shipped().values() for line in path.read_text().splitlines() if not line.startswith("#")})
_PIECES = st.sampled_from(
    [*_LINES, "kind: flow", "  steps: 1e3", "x: {a: [1, 2", "null", "<<: *a", "- 1", "train: {steps: .inf}", "\t", "ä: ö"]
)
_KEYS = st.sampled_from(
    ["train.steps", "schedule.kind", "network", "network.channels", "sample.plan.kind", "x.y.z", "name", "train", "", "a=b", "data.size"]
)
_VALUES = st.sampled_from(["1", "flow", "[1, 2]", "{kind: mlp}", "null", "1e-4", "'", "[", "-1", ".nan", "9" * 70, "karras"]) | st.text(
    max_size=6
)


@settings(max_examples=500, deadline=None)
@given(st.lists(_PIECES, max_size=12), st.lists(st.tuples(_KEYS, _VALUES).map("=".join), max_size=4))
def test_shuffled_recipes_and_overrides_raise_only_recipe_errors(lines: list[str], words: list[str]) -> None:
    with contextlib.suppress(RecipeError):
        Recipe.parse(read("\n".join(lines).encode()), words)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(shipped())), st.integers(0, 3000), st.integers(0, 12), st.text(max_size=4))
def test_recipes_with_a_wound_raise_only_recipe_errors(name: str, at: int, length: int, put: str) -> None:
    text = shipped()[name].read_text()
    with contextlib.suppress(RecipeError):
        Recipe.parse(read((text[:at] + put + text[at + length :]).encode(errors="surrogatepass")))
