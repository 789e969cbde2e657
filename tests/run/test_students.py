# SPDX-License-Identifier: Apache-2.0
"""Recipes with a teacher: what they inherit, what they refuse, and that every student trains, resumes, draws and is measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_world import POINTS, recipe

from ornstein.base.errors import RecipeError, UsageError
from ornstein.run.draw import DrawOptions, draw
from ornstein.run.evaluate import evaluate
from ornstein.run.folder import RunFolder
from ornstein.run.recipe import Recipe
from ornstein.run.train import dry_run, train
from ornstein.run.yaml_strict import Document, read
from ornstein.train.checkpoint import load_weights

STUDENT: dict[str, Any] = {
    "name": "student",
    "train": {"steps": 6, "batch_size": 16, "warmup": 2, "evaluate_every": 3, "checkpoint_every": 2, "log_every": 1, "device": "cpu"},
    "sample": {"solver": {"kind": "ddim"}, "steps": 2, "micro_batch": 16},
    "evaluate": {"draws": 1, "solver": {"kind": "ddim"}, "steps": 2, "few_steps": [1, 4]},
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "consistency": {"drift": {"kind": "teacher"}, "goal": {"kind": "anywhere"}, "target_decay": 0.5},
    "consistency-training": {"kind": "consistency", "huber": 0.03},
    "continuous-consistency": {},
    "mean-flow": {},
    "progressive": {"first": 8, "last": 2},
    "guidance": {},
    "reflow": {},
}


def student(teacher: Path | str, name: str, *words: str) -> Recipe:
    """The tiny student of a teacher, by the name of its objective."""
    document = STUDENT | {"teacher": {"run": str(teacher), "pairs": 40}, "objective": {"kind": name} | OBJECTIVES[name]}
    return Recipe.parse(Document(document), words)


def run(made: Recipe, folder: Path, resume: bool = False) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    train(made, folder, resume=resume, init_from=None, show=records.append)
    return records


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teachers") / "points"
    run(recipe(POINTS, "objective.kind=matching", "objective.condition_drop=0.1", "sample.solver.kind=heun"), folder)
    return folder


def test_what_is_left_out_is_the_teachers_and_is_written_down(teacher: Path) -> None:
    made, taught = student(teacher, "mean-flow"), RunFolder(teacher).recipe()
    assert (made.data, made.schedule, made.prediction, made.network) == (taught.data, taught.schedule, taught.prediction, taught.network)
    assert student(teacher, "mean-flow", "network.width=32").network.width == 32
    again = Recipe.parse(read(made.to_yaml().replace(str(teacher), "gone").encode()))
    assert again.network == made.network
    changed = Recipe.parse(Document(STUDENT | {"teacher": {"run": str(teacher)}, "network": {"time_scale": 4}}))
    assert changed.network == taught.network.model_copy(update={"time_scale": 4.0})
    assert student("digits", "mean-flow", f"teacher.run={teacher}").data.kind == "points"
    assert student("digits", "mean-flow").network.kind == "unet"


def refusal(teacher: Path | str, name: str, *words: str) -> str:
    with pytest.raises(RecipeError) as caught:
        student(teacher, name, *words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("mean-flow", ["sample.guidance=2"], "a student cannot be guided"),
        ("guidance", ["sample.guidance=9"], "outside the 1 to 4"),
        ("guidance", ["sample.guidance_interval=[0.1, 0.9]"], "distilled guidance acts at all times"),
        ("guidance", ["teacher.guidance=2"], "guides its teacher by itself"),
        ("guidance", ["objective.lowest=5"], "above highest"),
        ("progressive", ["sample.steps=3"], "knows the 2 moves of the uniform plan"),
        ("progressive", ["evaluate.plan.kind=log-snr"], "knows the 2 moves of the uniform plan"),
        ("progressive", ["objective.first=6"], "cannot be halved"),
        ("mean-flow", ["sample.solver.kind=heun"], "takes small steps along a flow"),
        ("mean-flow", ["objective.goal.clean=0.9"], "shares of one whole"),
        ("continuous-consistency", ["prediction.kind=x0"], "leaves clean data as they are"),
        ("consistency", ["objective.gap={kind: grid, sigma_min: 3, sigma_max: 2}"], "not below sigma_max"),
        ("consistency", ["teacher=null"], "learns from a teacher"),
        ("consistency", ["teacher.runn=x"], "the nearest is 'run'"),
    ],
)
def test_what_contradicts_itself_is_refused_in_words(teacher: Path, name: str, words: list[str], said: str) -> None:
    assert said in refusal(teacher, name, *words)


def test_a_teacher_that_is_no_recipe_or_a_circle_is_named(tmp_path: Path) -> None:
    assert "teacher.run: does not lead to a recipe: There is no recipe 'nowhere'" in refusal("nowhere", "mean-flow")
    path = tmp_path / "circle.yaml"
    path.write_text(f"name: circle\nteacher: {{run: {path}}}\nobjective: {{kind: mean-flow}}\n")
    with pytest.raises(RecipeError, match="its own teacher"):
        Recipe.load(path)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_students_train_resume_bit_for_bit_and_need_no_teacher_to_draw(teacher: Path, tmp_path: Path, name: str) -> None:
    class StopError(Exception):
        pass

    def stop(record: dict[str, Any]) -> None:
        if record.get("event") == "checkpoint" and record["step"] == 4:
            raise StopError

    mine, whole, stopped = tmp_path / "teacher", tmp_path / "whole", tmp_path / "stopped"
    shutil.copytree(teacher, mine)
    made = student(mine, name)
    run(made, whole)
    with pytest.raises(StopError):
        train(made, stopped, resume=False, init_from=None, show=stop)
    run(RunFolder(stopped).recipe(), stopped, resume=True)
    assert (whole / "metrics.jsonl").read_bytes() == (stopped / "metrics.jsonl").read_bytes()
    one, other = (load_weights(folder, "ema", "newest")[0] for folder in (whole, stopped))
    assert all(torch.equal(one[key], other[key]) for key in one)
    told = RunFolder(whole).facts()["teacher"]
    assert (told["checkpoint"], told["recipe_hash"]) == (6, RunFolder(teacher).recipe().hash)
    shutil.rmtree(mine)
    draw(whole, DrawOptions(count=3, out=tmp_path / "drawn"), lambda _: None)
    with np.load(tmp_path / "drawn" / "samples.npz") as stored:
        assert np.isfinite(stored["samples"]).all()


def test_the_table_names_the_student_in_few_steps_and_its_teacher(teacher: Path, tmp_path: Path) -> None:
    folder, warnings = tmp_path / "student", []
    run(student(teacher, "mean-flow"), folder)
    evaluate(folder, lambda record: warnings.append(record.get("warning")))
    rows = json.loads((folder / "evaluation.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["real train", "model", "model, 1 step", "model, 4 steps", "teacher"]
    assert [row["note"].split(",")[0] for row in rows[1:]] == [
        *("2 steps of ddim on a uniform plan", "1 step of ddim on a uniform plan", "4 steps of ddim on a uniform plan"),
        "3 steps of dpm++2m on a uniform plan",
    ]
    facts = RunFolder(folder).facts()
    RunFolder(folder).add_facts({"teacher": facts["teacher"] | {"model_hash": "other"}})
    assert [row["name"] for row in evaluate(folder, lambda record: warnings.append(record.get("warning")))["rows"]][-1] == "model, 4 steps"
    assert any("no longer the teacher" in text for text in warnings if text)


def test_a_student_starts_as_its_teacher(teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    run(student(teacher, "mean-flow", "train.steps=1", "train.warmup=0", "train.learning_rate=1e-9", "train.weight_decay=0"), folder)
    taught, learnt = (load_weights(place, "ema", "newest")[0] for place in (teacher, folder))
    wide = "embedding.first.weight"
    half = taught[wide].shape[1]
    assert torch.allclose(learnt[wide][:, :half], taught[wide], atol=1e-6)
    assert float(learnt[wide][:, half:].abs().max()) < 1e-6
    assert all(torch.allclose(learnt[key], taught[key], atol=1e-6) for key in taught if key != wide)
    notes = run(student(teacher, "mean-flow", "network.width=32"), tmp_path / "other")
    assert any("random weights" in record.get("text", "") for record in notes)
    assert RunFolder(tmp_path / "other").facts()["starts_from_teacher"] is False


def test_a_student_with_slower_waves_begins_near_its_teacher(teacher: Path) -> None:
    from ornstein.run.build import Facts, model_of
    from ornstein.run.inherited_weights import start_from

    facts = Facts.read(RunFolder(teacher).facts())
    taught = model_of(RunFolder(teacher).recipe(), facts)
    for parameter in taught.network.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
    taught.network.embedding.first.weight.data[:, [0, 1, 2, 3, 8, 9, 10, 11]] *= 0.01  # the fast waves hardly matter
    learnt = model_of(student(teacher, "mean-flow", "network.time_scale=5"), facts)
    assert start_from(learnt, taught)
    level, x = taught.process.schedule.at(torch.linspace(0.05, 1.0, 64)), torch.ones(64, 2)
    with torch.no_grad():
        given, begun = taught.raw(x, level), learnt.raw(x, level)
    assert float((given - begun).square().mean()) < 0.05 * float(given.var(0).mean())
    assert not any(parameter.grad is not None for parameter in learnt.network.parameters())


def test_a_recipe_as_teacher_is_trained_first_and_once(tmp_path: Path) -> None:
    path = tmp_path / "points.yaml"
    path.write_text(POINTS)
    folder = tmp_path / "student"
    records = run(student(path, "consistency"), folder)
    assert any("is trained first" in record.get("text", "") for record in records)
    assert {record["of"] for record in records if "stage" in record} == {6}
    assert RunFolder(folder / "teacher").recipe().name == "tiny-points"
    longer = RunFolder(folder).recipe().override(["train.steps=8"])
    assert not any("is trained first" in record.get("text", "") for record in run(longer, folder, resume=True))


def test_a_changed_teacher_is_noticed(teacher: Path, tmp_path: Path) -> None:
    mine, folder = tmp_path / "teacher", tmp_path / "student"
    shutil.copytree(teacher, mine)
    run(student(mine, "mean-flow"), folder)
    run(RunFolder(mine).recipe().override(["train.steps=8"]), mine, resume=True)
    with pytest.raises(UsageError, match="has other weights"):
        run(RunFolder(folder).recipe().override(["train.steps=8"]), folder, resume=True)


def test_pairs_are_drawn_once_and_belong_to_the_teacher(teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    made = student(teacher, "reflow")
    assert any(record.get("measuring") == "the teacher's pairs" for record in run(made, folder))
    [kept] = (folder / "pairs").iterdir()
    assert not any("measuring" in record for record in run(made.override(["train.steps=8"]), folder, resume=True))
    kept.write_bytes(kept.read_bytes()[:-4])
    run(made.override(["train.steps=9"]), folder, resume=True)
    assert [path.name for path in (folder / "pairs").iterdir()] == [kept.name]


def test_a_teacher_that_samples_at_random_makes_no_pairs(teacher: Path, tmp_path: Path) -> None:
    mine = tmp_path / "teacher"
    shutil.copytree(teacher, mine)
    run_folder = RunFolder(mine)
    run_folder.write_recipe(run_folder.recipe().override(["sample.solver.kind=ddpm"]))
    with pytest.raises(UsageError, match="draws noise on the way"):
        run(student(mine, "reflow"), tmp_path / "student")


def test_a_dry_run_trains_no_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "points.yaml").write_text(POINTS)
    for name in ("progressive", "reflow"):
        assert dry_run(student("points.yaml", name))["parameters"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["points.yaml"]
