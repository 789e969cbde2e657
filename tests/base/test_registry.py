# SPDX-License-Identifier: Apache-2.0
"""The registry names what exists: every target imports, and its arguments are exactly those written here."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ornstein.base.errors import UsageError
from ornstein.base.parts import REQUIRED, Entry
from ornstein.base.registry import build, entry, kinds, likeness, load, names, nearest

ENTRIES = [entry(kind, name) for kind in kinds() for name in names(kind)]
IDS = [f"{part.kind}-{part.name}" for part in ENTRIES]


@pytest.mark.parametrize("part", ENTRIES, ids=IDS)
def test_arguments_and_defaults_are_those_of_the_target(part: Entry) -> None:
    signature = inspect.signature(load(part)).parameters
    assert set(signature) == {*part.params, *part.parts, *part.wired}
    for name, param in part.params.items():
        default = signature[name].default
        assert (REQUIRED if default is inspect.Parameter.empty else default) == param.default


@pytest.mark.parametrize("part", ENTRIES, ids=IDS)
def test_types_are_those_of_the_target(part: Entry) -> None:
    words = {int: "int", float: "float", str: "str", bool: "bool"}
    signature = inspect.signature(load(part)).parameters
    for name, param in part.params.items():
        written = str(signature[name].annotation)
        if param.type is tuple:
            assert "int" in written
        elif param.type is str:
            assert any(word in written for word in ("str", "Path", "Literal"))
        else:
            assert words[param.type] in written
        assert ("None" in written) == param.optional


@pytest.mark.parametrize("part", ENTRIES, ids=IDS)
def test_defaults_lie_within_bounds_and_are_explained(part: Entry) -> None:
    for param in part.params.values():
        assert param.help
        if param.choices:
            assert param.default in param.choices
        elif param.type in (int, float, tuple):
            low, high = (float(end) for end in param.within[1:-1].split(","))
            assert low < high
            values = param.default if param.type is tuple else () if param.default in (None, REQUIRED) else (param.default,)
            for value in values:
                assert low < value or (param.within[0] == "[" and low == value)
                assert value < high or (param.within[-1] == "]" and high == value)
                assert value % param.multiple_of == 0 or param.multiple_of == 1


def values_of(part: Entry) -> dict[str, Any]:
    """A part's section with every default, the parts it is made of included."""
    inner = {key: {"kind": name, **values_of(entry(kind, name))} for key, (kind, name) in part.parts.items()}
    return {name: param.default for name, param in part.params.items()} | inner


def section_of(values: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(**{key: section_of(value) if isinstance(value, dict) else value for key, value in values.items()})


SMALL = [part for part in ENTRIES if part.kind in ("schedule", "prediction", "times", "weighting", "solver", "gap", "goal")]


@pytest.mark.parametrize("part", SMALL, ids=lambda part: f"{part.kind}-{part.name}")
def test_parts_are_built_from_a_section(part: Entry) -> None:
    from ornstein.process.schedule import Flow

    wired = {"schedule": Flow(), "strata": 8}
    made = build(part.kind, section_of({"kind": part.name, **values_of(part)}), **{name: wired[name] for name in part.wired})
    assert made is not None


def test_build_hands_over_values_and_wired_arguments() -> None:
    from ornstein.process.schedule import EDM, Cosine

    schedule = build("schedule", SimpleNamespace(kind="cosine", offset=0.02, end=0.9))
    assert isinstance(schedule, Cosine)
    assert (schedule.offset, schedule.end) == (0.02, 0.9)
    nodes = build("plan", SimpleNamespace(kind="karras", sigma_min=0.1, sigma_max=80.0, rho=3.0), schedule=EDM(), moves=5)
    assert len(nodes) == 6
    assert nodes[-2].sigma == pytest.approx(0.1)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="nearest is 'dpm\\+\\+2m'"):
        entry("solver", "dpm2m")
    assert nearest("lr", ["steps", "learning_rate", "name"]) == "learning_rate"
    assert nearest("x" * 100_000, ["ab", "xx"]) == "xx"
    assert likeness("steps", "steps") > likeness("steps", "stops") > likeness("steps", "qqq") == 0.0


def test_traits_follow_the_values() -> None:
    cosine = entry("schedule", "cosine")
    assert "zero-terminal-snr" in cosine.traits({"offset": 0.008, "end": 1.0})
    assert "zero-terminal-snr" not in cosine.traits({"offset": 0.008, "end": 0.995})


@pytest.mark.parametrize("part", [part for part in ENTRIES if part.kind == "schedule"], ids=lambda part: part.name)
def test_zero_terminal_snr_says_what_the_schedule_does(part: Entry) -> None:
    values = values_of(part)
    schedule = build("schedule", section_of({"kind": part.name, **values}))
    assert schedule.at(schedule.noisiest).is_noise == ("zero-terminal-snr" in part.traits(values))


@pytest.mark.parametrize("part", [part for part in ENTRIES if part.kind == "solver"], ids=lambda part: part.name)
def test_stochastic_says_what_the_solver_does(part: Entry) -> None:
    values = values_of(part)
    for noise in ({}, *({name: 0.0} for name in ("eta", "tau") if name in values)):
        made = build("solver", section_of({"kind": part.name, **values, **noise}))
        assert made.stochastic == ("stochastic" in part.traits({**values, **noise}))


@pytest.mark.parametrize("part", [part for part in ENTRIES if part.kind == "schedule"], ids=lambda part: part.name)
def test_variance_preserving_says_what_the_schedule_does(part: Entry) -> None:
    values = values_of(part)
    middle = build("schedule", section_of({"kind": part.name, **values})).at(0.4)
    assert (abs(middle.alpha**2 + middle.sigma**2 - 1.0) < 1e-12) == ("variance-preserving" in part.traits(values))


def test_traits_pass_through_schedules_made_of_others() -> None:
    shifted, cut, zero = (entry("schedule", name) for name in ("shifted", "truncated", "zero-terminal-snr"))
    flow, table = {"kind": "flow"}, {"kind": "ddpm", "steps": 1000, "beta_start": 1e-4, "beta_end": 0.5}
    assert shifted.traits({"factor": 2.0, "base": flow}) == {"zero-terminal-snr"}
    assert cut.traits({"lowest": -9.0, "highest": 9.0, "base": {"kind": "shifted", "factor": 2.0, "base": flow}}) == set()
    assert shifted.traits({"factor": 2.0, "base": table}) == {"variance-preserving", "table", "vanishing-signal"}
    assert zero.traits({"base": table}) == {"variance-preserving", "table", "vanishing-signal", "zero-terminal-snr"}


@pytest.mark.parametrize(("steps", "end"), [(1000, 0.02), (1000, 0.2), (10_000, 0.02), (10, 0.99), (1, 0.5)])
def test_vanishing_signal_says_what_the_table_does(steps: int, end: float) -> None:
    values = {"steps": steps, "beta_start": 1e-4, "beta_end": end}
    part = entry("schedule", "ddpm")
    alpha = load(part)(**values).at(1.0).alpha
    assert (alpha < 9.4e-14) == ("vanishing-signal" in part.traits(values))


def test_the_worlds_are_those_of_the_data_room() -> None:
    from ornstein.data.points import WORLDS

    assert entry("data", "points").params["world"].choices == WORLDS


def test_unlabelled_says_which_worlds_have_no_classes() -> None:
    from ornstein.data.points import WORLDS, split

    for world in WORLDS:
        assert ("unlabelled" in entry("data", "points").traits({"world": world})) == (split(world, 4).train.labels is None)


def test_the_registry_imports_no_torch() -> None:
    code = "import sys, ornstein.base.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
