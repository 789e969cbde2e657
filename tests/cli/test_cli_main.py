# SPDX-License-Identifier: Apache-2.0
"""Help, version, errors, exit codes and signals of the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_calls import Call

from ornstein import __version__
from ornstein.base import errors
from ornstein.cli import main as entry
from ornstein.cli.main import EXIT_CODES, main

COMMANDS = ["demo", "train", "sample", "evaluate", "report", "fit-solver", "diagnose", "doctor", "recipes", "data"]
INNER = ["recipes list", "recipes show", "recipes copy", "data fetch", "data check"]
PATHS = [[], *(path.split() for path in (*COMMANDS, *INNER))]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_has_help(call: Call, path: list[str]) -> None:
    outcome = call(*path, "--help")
    assert outcome.code == 0
    assert "Usage: ornstein" in outcome.out
    assert outcome.err == ""


def test_help_lists_the_commands_and_the_exit_codes(call: Call) -> None:
    text = " ".join(call("--help").out.split())
    assert all(command in text for command in COMMANDS)
    for code in ("0 done", "2 usage", "3 data", "4 checkpoint", "5 non-finite", "130", "143"):
        assert code in text
    assert "5 non-finite" in " ".join(call("train", "--help").out.split())


def loaded(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after some code."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "80"})
    return set(done.stderr.split())


@pytest.mark.parametrize("line", ["--help", "train --help", "recipes list", "train digits train.steps=-1", "train nothing", "sample x"])
def test_help_and_refused_recipes_never_import_torch(line: str) -> None:
    modules = loaded(f"from ornstein.cli.main import main; main({line.split()!r})")
    assert "typer" in modules
    assert not {"torch", "numpy", "PIL"} & modules


def test_help_imports_no_models_of_recipes() -> None:
    assert not {"pydantic", "yaml"} & loaded("from ornstein.cli.main import main; main(['--help'])")


def test_version(call: Call) -> None:
    assert call("--version") == (0, f"ornstein {__version__}\n", "")


def test_no_words_give_help(call: Call) -> None:
    assert "Usage" in "".join(call()[1:])


@pytest.mark.parametrize("line", ["trian", "train", "sample x -n 0", "sample x --seed no", "sample x", "--nothing", "recipes show x"])
def test_usage_errors_leave_with_2(call: Call, line: str) -> None:
    outcome = call(*line.split())
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err


ERRORS = [
    (errors.UsageError("It cannot.", "Do that."), 2),
    (errors.RecipeError([errors.Problem("train.steps", "is wrong", 3)]), 2),
    (errors.MissingExtra("tensorboard", "tensorboard", "to write logs"), 2),
    (errors.DataError("It cannot.", "Do that."), 3),
    (errors.CheckpointError("It cannot.", "Do that."), 4),
    (errors.StorageError("It cannot.", "Do that."), 4),
    (errors.NonFiniteError("It cannot.", "Do that."), 5),
    (errors.Interrupted("It cannot.", "Do that.", signal.SIGINT), 130),
    (errors.Interrupted("It cannot.", "Do that.", signal.SIGTERM), 143),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_are_sentences_with_their_exit_code(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: errors.OrnsteinError, code: int, as_json: bool
) -> None:
    def fail(*words: object) -> None:
        raise error

    monkeypatch.setattr("ornstein.run.recipe.shipped", fail)
    outcome = call("recipes", "list", *(["--json"] if as_json else []))
    assert outcome.code == code
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert error.what.strip() in outcome.err
    assert error.fix in outcome.err
    assert f"{code} " in EXIT_CODES


def test_debug_shows_the_traceback_wherever_it_stands(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise errors.DataError("It cannot.", "Do that.")

    monkeypatch.setattr("ornstein.run.recipe.shipped", fail)
    for words in (["--debug", "recipes", "list"], ["recipes", "list", "--debug"]):
        outcome = call(*words)
        assert outcome.code == 3
        assert "Traceback" in outcome.err
        assert "Do that." in outcome.err


def test_a_defect_is_called_one(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("oops")

    monkeypatch.setattr("ornstein.run.recipe.shipped", fail)
    outcome = call("recipes", "list")
    assert outcome.code == 1
    assert "defect" in outcome.err
    assert "oops" in outcome.err
    assert "Traceback" not in outcome.err
    assert "Traceback" in call("recipes", "list", "--debug").err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_outside_training_leaves_with_its_code(call: Call, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    monkeypatch.setattr("ornstein.run.recipe.shipped", lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    outcome = call("recipes", "list")
    assert (outcome.code, outcome.out) == (code, "")
    assert signal.getsignal(number) is before is not entry._stop


def test_a_closed_pipe_is_no_defect() -> None:
    script = "import sys; from ornstein.cli.main import main; main(['recipes', 'show', 'digits'])"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", script], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert "defect" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_installed_command_is_this_one() -> None:
    from importlib.metadata import entry_points

    (found,) = entry_points(group="console_scripts", name="ornstein")
    assert found.load() is main
    assert entry.app.info.name == "ornstein"


# -- recipes -----------------------------------------------------------------------------------------------------------


def test_recipes_list_show_copy(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = call("recipes", "list")
    assert "digits" in listed.out
    assert set(call("recipes", "list", "--json").json["recipes"]) >= {"digits", "mnist", "cifar10", "folder", "points"}
    text = call("recipes", "show", "points").out
    assert "kind: mlp" in text
    assert call("recipes", "show", "points", "--json").json["text"].strip() == text.strip()
    assert call("recipes", "copy", "points").code == 0
    assert (tmp_path / "points.yaml").read_text().strip() == text.strip()
    again = call("recipes", "copy", "points")
    assert (again.code, again.out) == (2, "")
    assert call("recipes", "copy", "points", "other.yaml", "--json").json == {"file": "other.yaml"}
    assert "nearest is 'points'" in call("recipes", "show", "pionts").err
