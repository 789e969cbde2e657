# SPDX-License-Identifier: Apache-2.0
"""A solver fitted to a run: what is stored, when it is used, and that it is better on noise it has not seen."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from run_world import DIGITS, POINTS, recipe

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.run.draw import DrawOptions, draw
from ornstein.run.fit import FitOptions, fit_solver
from ornstein.run.fitted import file_of, stored
from ornstein.run.folder import RunFolder
from ornstein.run.pictures import read_metadata
from ornstein.run.recipe import Recipe
from ornstein.run.train import train


def clock() -> Callable[[], float]:
    """A clock by which every look at it takes ten seconds, so that fits are as long on any machine."""
    ticks = itertools.count()
    return lambda: 10.0 * next(ticks)


def trained_in(folder: Path, made: Recipe) -> Path:
    train(made, folder, resume=False, init_from=None, show=lambda _: None)
    return folder


def fitted(folder: Path, **options: object) -> dict:
    told = {"evaluations": 4, "seconds": 30.0} | options
    return fit_solver(folder, FitOptions(**told), lambda _: None, clock())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of digits with a fitted solver; tests that change it copy it."""
    folder = trained_in(tmp_path_factory.mktemp("fit") / "tiny", recipe(DIGITS))
    fitted(folder)
    return folder


def drawn(folder: Path, out: Path, **options: object) -> tuple[np.ndarray, list[str]]:
    told: list[dict] = []
    draw(folder, DrawOptions(count=3, out=out, **options), told.append)  # type: ignore[arg-type]
    with np.load(out / "samples.npz", allow_pickle=False) as arrays:
        return arrays["samples"], [record["note"] for record in told if "note" in record]


def test_what_is_stored_says_what_it_is_for(kept: Path) -> None:
    document = json.loads(file_of(RunFolder(kept), 4).read_text())
    assert document["error"]["fitted"] < document["error"]["unfitted"]
    assert document["guidance"]["guidance"] == 2.0
    assert document["unfitted"] == {"solver": "dpm++2m", "plan": "karras", "steps": 4}
    (fit_first, fit_count), (judge_first, judge_count) = document["seeds"]["fitted"], document["seeds"]["judged"]
    assert not {*range(fit_first, fit_first + fit_count)} & {*range(judge_first, judge_first + judge_count)}
    assert document["recipe_hash"] == RunFolder(kept).recipe().hash
    rule = stored(RunFolder(kept), 4).rule  # type: ignore[union-attr]
    assert list(rule.ratios) == document["ratios"]
    assert [len(row.estimates) for row in rule.shares] == [1, 2, 3, 4]


def test_samples_use_it_for_its_checkpoint_and_guidance_alone(kept: Path, tmp_path: Path) -> None:
    by_steps, notes = drawn(kept, tmp_path / "a", steps=4)
    assert notes == ["Using the solver fitted for 4 evaluations of this checkpoint and guidance; --solver overrides it."]
    by_evaluations, _ = drawn(kept, tmp_path / "b", evaluations=4)
    plain, silent = drawn(kept, tmp_path / "c", steps=4, solver="dpm++2m")
    assert np.array_equal(by_steps, by_evaluations)
    assert not np.array_equal(by_steps, plain)
    assert silent == []
    other, notes = drawn(kept, tmp_path / "d", steps=4, guidance=3.0)
    assert ["not used" in note and "guidance 2" in note and "guidance 3" in note for note in notes] == [True]
    assert np.array_equal(other, drawn(kept, tmp_path / "e", steps=4, guidance=3.0, solver="dpm++2m")[0])
    _, notes = drawn(kept, tmp_path / "f", steps=4, checkpoint="4")
    assert ["not used" in note and "weights" in note for note in notes] == [True]
    assert drawn(kept, tmp_path / "g", steps=3)[1] == []


def test_pictures_say_how_they_were_drawn(kept: Path, tmp_path: Path) -> None:
    drawn(kept, tmp_path, steps=4)
    told = read_metadata(tmp_path / "grid.png")
    assert (told["solver"], told["plan"], told["steps"]) == ("fitted", "fitted", 4)
    assert told["sample"]["plan"]["ratios"] == json.loads(file_of(RunFolder(kept), 4).read_text())["ratios"]


def test_points_from_pure_noise_and_a_stochastic_solver(tmp_path: Path) -> None:
    folder = trained_in(tmp_path / "points", recipe(POINTS, "sample.solver.kind=ddpm"))
    told = fitted(folder, evaluations=3, seconds=200.0)
    assert told["unfitted"]["solver"] == "dpm++2m"
    assert told["error"]["fitted"] < told["error"]["unfitted"]
    samples, notes = drawn(folder, tmp_path / "out", steps=3)
    assert samples.shape == (3, 2)
    assert len(notes) == 1


def test_what_is_no_better_is_not_stored(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(kept, tmp_path / "run"))
    before = file_of(RunFolder(folder), 4).read_bytes()
    monkeypatch.setattr("ornstein.run.fit.end_error", lambda solver, plan, given: 0.0)
    told = fitted(folder)
    assert told["stored"] is None
    assert file_of(RunFolder(folder), 4).read_bytes() == before


@pytest.mark.parametrize("count", [1, 21])
def test_budgets_beyond_reason_are_refused(kept: Path, count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} evaluations"):
        fitted(kept, evaluations=count)
    assert not file_of(RunFolder(kept), count).exists()


_TOO_LONG = [{"pull": 0.0, "estimates": [1.0, 1.0]}] * 4
DAMAGE = [{"format": 2}, {"ratios": [1.0, 2.0, 0.5]}, {"rows": []}, {"rows": _TOO_LONG}, {"guidance": 3}, {"ratios": None}]


@pytest.mark.parametrize("change", DAMAGE)
def test_a_damaged_file_is_named(kept: Path, tmp_path: Path, change: dict) -> None:
    folder = Path(shutil.copytree(kept, tmp_path / "run"))
    path = file_of(RunFolder(folder), 4)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"evaluations-4\.json holds no fitted solver.*fit-solver"):
        draw(folder, DrawOptions(steps=4, out=tmp_path / "out"), lambda _: None)
    assert not (tmp_path / "out").exists()
