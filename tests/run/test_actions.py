# SPDX-License-Identifier: Apache-2.0
"""Train, sample and evaluate as the commands call them, on recipes that take a second."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from run_world import DIGITS, POINTS, recipe

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.run import curves as by_level
from ornstein.run import evaluate as measuring
from ornstein.run.draw import DrawOptions, draw
from ornstein.run.evaluate import evaluate
from ornstein.run.folder import RunFolder
from ornstein.run.pictures import read_metadata
from ornstein.run.recipe import Recipe
from ornstein.run.report import report
from ornstein.run.train import dry_run, train
from ornstein.train.checkpoint import load_weights


def run(made: Recipe, folder: Path, *, resume: bool = False, init_from: Path | None = None) -> list[dict]:
    records: list[dict] = []
    train(made, folder, resume=resume, init_from=init_from, show=records.append)
    return records


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run(recipe(DIGITS), folder)
    return folder


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "samples.npz", allow_pickle=False) as stored:
        return dict(stored)


def drawn(folder: Path, out: Path, **options: object) -> dict[str, np.ndarray]:
    draw(folder, DrawOptions(out=out, **options), lambda _: None)  # type: ignore[arg-type]
    return arrays(out)


def weights(folder: Path, step: int | str = "newest") -> dict[str, torch.Tensor]:
    return load_weights(folder, "ema", step)[0]


@pytest.mark.parametrize("solver", ["dpm++2m", "ddpm"])
def test_a_seed_has_one_picture_whatever_else_is_asked_for(digits: Path, tmp_path: Path, solver: str) -> None:
    many = drawn(digits, tmp_path / "many", count=21, seed=5, solver=solver)
    for offset, count in ((3, 1), (11, 2)):
        few = drawn(digits, tmp_path / f"{offset}", count=count, seed=5 + offset, solver=solver)
        for name in ("samples", "labels", "seeds"):
            assert np.array_equal(few[name], many[name][offset : offset + count])
    assert len(np.unique(many["samples"], axis=0)) == 21


def test_classes_cycle_by_seed_and_a_label_fixes_them(digits: Path, tmp_path: Path) -> None:
    assert drawn(digits, tmp_path / "a", count=12, seed=3)["labels"].tolist() == [3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
    fixed = drawn(digits, tmp_path / "b", count=3, seed=3, label=7)
    assert fixed["labels"].tolist() == [7, 7, 7]
    # Seed 7 has label 7 by itself, so asking for it changes nothing.
    assert np.array_equal(
        drawn(digits, tmp_path / "c", count=1, seed=7)["samples"], drawn(digits, tmp_path / "d", count=1, seed=7, label=7)["samples"]
    )


def test_every_png_says_how_it_was_made(digits: Path, tmp_path: Path) -> None:
    drawn(digits, tmp_path, count=3, seed=4, steps=2, guidance=1.5)
    singles = sorted(path for path in tmp_path.glob("*.png") if path.name != "grid.png")
    assert len(singles) == 3
    for i, path in enumerate(singles):
        told = read_metadata(path)
        assert (told["seed"], told["label"], told["steps"], told["guidance"]) == (4 + i, 4 + i, 2, 1.5)
        assert told["recipe_hash"] == RunFolder(digits).recipe().hash
        assert told["checkpoint"] == 6
    assert read_metadata(tmp_path / "grid.png")["seed"] == 4
    assert read_metadata(digits / "samples" / "previews" / "step-6.png")["recipe_hash"] == RunFolder(digits).recipe().hash


def test_an_evaluation_budget_becomes_moves(digits: Path, tmp_path: Path) -> None:
    made = draw(digits, DrawOptions(count=1, solver="heun", evaluations=7, out=tmp_path), lambda _: None)
    assert made["steps"] == 4  # three Heun moves of two calls, and one into clean data
    with pytest.raises(UsageError, match="both given"):
        draw(digits, DrawOptions(steps=3, evaluations=3, out=tmp_path), lambda _: None)


@pytest.mark.parametrize(
    ("options", "words"), [({"label": 10}, "no class 10"), ({"count": 0}, "0 samples"), ({"solver": "eluer"}, "euler")]
)
def test_what_cannot_be_drawn_is_refused_in_words(digits: Path, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        draw(digits, DrawOptions(out=tmp_path / "out", **options), lambda _: None)
    assert not (tmp_path / "out").exists()


def test_stopping_and_resuming_changes_no_bit(digits: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(record: dict) -> None:
        if record["event"] == "checkpoint" and record["step"] == 4:
            raise StopError

    folder = tmp_path / "stopped"
    with pytest.raises(StopError):
        train(recipe(DIGITS), folder, resume=False, init_from=None, show=stop)
    run(RunFolder(folder).recipe(), folder, resume=True)
    assert (folder / "metrics.jsonl").read_bytes() == (digits / "metrics.jsonl").read_bytes()
    whole, resumed = weights(digits), weights(folder)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_finished_run_says_so_and_can_be_extended(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    shutil.copytree(digits, folder)
    notes = [record["text"] for record in run(RunFolder(folder).recipe(), folder, resume=True) if record["event"] == "note"]
    assert any("finished" in note for note in notes)
    extended = run(RunFolder(folder).recipe().override(["train.steps=8"]), folder, resume=True)
    assert any("learning rate" in record.get("text", "") for record in extended)
    assert extended[-1]["event"] == "finished"
    assert RunFolder(folder).recipe().train.steps == 8
    assert load_weights(folder, "ema", "newest")[1]["step"] == 8


def test_resume_refuses_what_would_be_another_run(digits: Path) -> None:
    before = (digits / "recipe.yaml").read_bytes()
    changed = RunFolder(digits).recipe().override(["train.learning_rate=0.5", "network.blocks=2"])
    with pytest.raises(UsageError, match=r"network\.blocks.*train\.learning_rate|train\.learning_rate.*network\.blocks"):
        run(changed, digits, resume=True)
    assert (digits / "recipe.yaml").read_bytes() == before


def test_training_again_into_a_run_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--resume"):
        run(recipe(DIGITS), digits)
    with pytest.raises(UsageError, match="no run to resume"):
        run(recipe(DIGITS), tmp_path / "none", resume=True)


def test_a_new_run_can_start_from_the_weights_of_another(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "next"
    run(
        recipe(DIGITS, "train.steps=1", "train.warmup=0", "train.learning_rate=1e-9", "train.weight_decay=0", "train.seed=1"),
        folder,
        init_from=digits,
    )
    old, new = weights(digits), weights(folder)
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old)
    assert RunFolder(folder).facts()["init_from"]["step"] == 6
    with pytest.raises(CheckpointError, match="do not fit"):
        run(recipe(DIGITS, "network.channels=[8, 16]"), tmp_path / "other", init_from=digits)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals and curves from as little as they can be made of."""
    for place, name, value in ((measuring, "_FEW", 8), (measuring, "_MANY", 8), (by_level, "LEVELS", 2), (by_level, "MOST", 24)):
        monkeypatch.setattr(place, name, value)


@pytest.mark.usefixtures("few")
def test_evaluation_and_report(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    shutil.copytree(digits, folder)
    told = evaluate(folder, lambda _: None, full=True)
    stored = json.loads((folder / "evaluation.json").read_text())
    assert stored == json.loads(json.dumps(told))
    assert [row["name"] for row in stored["rows"]] == ["real train", "model", "model, guided", "class Gaussians", "noisy copies"]
    for row in stored["rows"]:
        for metric in row["metrics"].values():
            assert metric["n"] == 897
            assert metric["seed"] == 0
            assert metric["eye"]
            assert metric["low"] <= metric["value"] <= metric["high"]
    curves = stored["by_level"]["curves"]
    ways = [(kind, name) for name in ("given the class", "without a class") for kind in ("estimate", "reconstruction")]
    assert [(curve["kind"], curve["name"]) for curve in curves] == ways
    for curve in curves:
        for figure in (curve["squared_error"], curve["accuracy"]):
            assert all(low <= value <= high for low, value, high in zip(figure["low"], figure["value"], figure["high"], strict=True))
            assert len(figure["value"]) == 2
    assert stored["rows"][0]["metrics"]["frechet"]["value"] < stored["rows"][1]["metrics"]["frechet"]["value"]
    for name in ("film.png", "nearest.png", "samples/report/grid.png"):
        assert read_metadata(folder / name)["recipe_hash"] == stored["recipe_hash"] == RunFolder(folder).recipe().hash
    page = report(folder).read_text()
    assert page.count("data:image/png;base64,") >= 3
    again = evaluate(folder, lambda _: None)
    assert again == told  # what only --full measures is kept as long as the model is the same
    assert measuring._kept(RunFolder(folder), {**again, "model_hash": "another"}) == {}


def test_weights_that_cannot_be_used_are_refused_before_anything_is_measured(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        evaluate(digits, lambda _: None, inception=tmp_path / "weights.pth")
    assert not (digits / "evaluation.json").exists()


@pytest.mark.usefixtures("few")
def test_points_train_sample_and_measure(tmp_path: Path) -> None:
    folder = tmp_path / "points"
    run(recipe(POINTS), folder)
    made = drawn(folder, tmp_path / "drawn", count=20, seed=9)
    assert made["samples"].shape == (20, 2)
    assert made["samples"].dtype == np.float32
    alone = drawn(folder, tmp_path / "alone", count=1, seed=12)
    assert np.array_equal(alone["samples"][0], made["samples"][3])
    told = evaluate(folder, lambda _: None, full=True)
    assert {"sliced_wasserstein", "energy"} <= set(told["rows"][0]["metrics"])
    assert [set(curve) for curve in told["by_level"]["curves"]] == [{"kind", "name", "squared_error"}] * 2
    with pytest.raises(UsageError, match="Inception looks at images"):
        evaluate(folder, lambda _: None, inception=tmp_path / "weights.safetensors")
    assert "<svg" in report(folder).read_text()


def test_a_dry_run_writes_nothing_and_counts_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: Path) -> None:
    monkeypatch.chdir(tmp_path)
    told = dry_run(recipe(DIGITS, "train.steps=600", "train.micro_batch=4"))
    assert told["parameters"] == RunFolder(digits).facts()["parameters"]
    assert told["train_examples"] == 900
    assert told["minutes"] == pytest.approx(told["seconds_per_step"] * 10, abs=0.02)
    assert list(tmp_path.iterdir()) == []
