# SPDX-License-Identifier: Apache-2.0
"""`diagnose` on recipes that take a second: what it writes, what it refuses, and its part of the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_world import DIGITS, POINTS, recipe

from ornstein.base.errors import UsageError
from ornstein.run import diagnose as action
from ornstein.run.diagnose import diagnose
from ornstein.run.recipe import Recipe
from ornstein.run.report import report
from ornstein.run.train import train
from ornstein.run.yaml_strict import Document


@pytest.fixture(scope="module", params=["digits", "points"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosed") / request.param
    made = recipe(DIGITS, "train.steps=2") if request.param == "digits" else recipe(POINTS, "train.steps=2")
    train(made, folder, resume=False, init_from=None, show=lambda _: None)
    return folder


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough to run everything once."""
    for name, value in {"_MOST": 30, "_PATH_MOVES": 4, "_FINE": 6, "_MOVES": (2, 3)}.items():
        monkeypatch.setattr(action, name, value)


def test_a_diagnosis_is_written_told_and_shown(run: Path) -> None:
    page = report(run)
    assert "ornstein diagnose" in page.read_text()
    told: list[dict[str, object]] = []
    found = diagnose(run, told.append, count=3, solvers=["euler"])
    document = json.loads((run / "diagnostics.json").read_text(), parse_constant=pytest.fail)
    assert document == json.loads(json.dumps(found))
    groups = document["shares"]["groups"]
    for name in ("loss_share", "gradient_share", "pull"):
        assert sum(group[name] for group in groups) == pytest.approx(1)
    plan = document["schedule"]["plan"]
    assert len(plan["gained"]) == len(plan["cost"]) == 2  # of 3 moves; the one into clean data has no finite gain
    solvers = document["discretisation"]["solvers"]
    assert set(solvers) == {"ddim", "dpm++2m", "heun", "euler"}
    assert solvers["ddim"]["evaluations"] == solvers["ddim"]["moves"]
    assert document["paths"]["samples"] == 3
    assert all(value >= 1 for value in document["paths"]["stretch"])
    assert {"measuring": "steps of heun"} in told
    text = report(run).read_text()
    for words in ("Loss and gradient by noise level", "Turning of the paths", "Error against evaluations", "Information of the moves"):
        assert f"<h3>{words}</h3>" in text


def test_what_cannot_be_diagnosed_is_refused_before_any_work(run: Path) -> None:
    before = (run / "diagnostics.json").read_bytes() if (run / "diagnostics.json").exists() else None
    for options, words in (({"solvers": ["ddpm"]}, "ddpm draws noise"), ({"count": 1}, "1 samples"), ({"solvers": ["hune"]}, "hune")):
        with pytest.raises(UsageError, match=words):
            diagnose(run, lambda _: None, **options)  # type: ignore[arg-type]
    assert ((run / "diagnostics.json").read_bytes() if before is not None else None) == before


def test_a_damaged_diagnosis_costs_its_own_section_only(run: Path) -> None:
    (run / "diagnostics.json").write_text('{"shares": 3}')
    text = report(run).read_text()
    assert "holds no diagnosis" in text
    assert "Samples" in text


@pytest.mark.parametrize(("objective", "jumps"), [("guidance", False), ("mean-flow", True)])
def test_students_are_diagnosed_unless_they_jump(run: Path, tmp_path: Path, objective: str, jumps: bool) -> None:
    if run.name != "points":
        pytest.skip("one kind of data is enough")
    short = {"steps": 2, "batch_size": 16, "warmup": 1, "evaluate_every": 2, "checkpoint_every": 2, "log_every": 1, "device": "cpu"}
    document = {"name": "student", "train": short, "teacher": {"run": str(run)}, "objective": {"kind": objective}}
    document["sample"] = {"solver": {"kind": "ddim"}, "steps": 2, "micro_batch": 16}
    document["evaluate"] = {"solver": {"kind": "ddim"}}
    train(Recipe.parse(Document(document)), tmp_path, resume=False, init_from=None, show=lambda _: None)
    if jumps:
        with pytest.raises(UsageError, match="jumps along the paths"):
            diagnose(tmp_path, lambda _: None, count=2)
        return
    groups = diagnose(tmp_path, lambda _: None, count=2)["shares"]["groups"]
    assert sum(group["gradient_share"] for group in groups) == pytest.approx(1)
