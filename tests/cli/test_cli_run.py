# SPDX-License-Identifier: Apache-2.0
"""Train, sample, evaluate, report and demo from the command line, on runs of a second."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_calls import Call, short

from ornstein.run.recipe import Recipe, changed

DIGITS = (
    *("data.size=8", "network.channels=[8, 16]", "network.head_width=8", "network.blocks=1", "train.device=cpu", "train.threads=1"),
    *("train.steps=4", "train.warmup=1", "train.batch_size=16", "train.checkpoint_every=2", "train.evaluate_every=4", "train.log_every=2"),
    *("evaluate.draws=1", "evaluate.steps=2", "evaluate.guided_steps=2", "sample.micro_batch=16", "sample.steps=2"),
)


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished tiny run, free to be changed."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def steps_of(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (folder / "checkpoints").iterdir())


def test_training_makes_a_run_folder(run: Path) -> None:
    assert changed(Recipe.load(run), Recipe.load("points", short())) == []
    assert steps_of(run) == [6, 12]
    assert (run / "report.html").stat().st_size > 1000
    facts = json.loads((run / "run.json").read_text())
    assert facts["threads"] == 1
    assert facts["matmul_precision"] == "highest"


def test_the_default_folder_is_runs_name(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call("train", "points", "name=mine", *short(steps=3), "--json")
    assert outcome.code == 0
    assert outcome.json["run"] == "runs/mine"
    assert (outcome.json["steps"], outcome.json["finished"]) == (3, True)
    assert (tmp_path / "runs" / "mine" / "recipe.yaml").is_file()
    assert "training" in outcome.err


def test_a_folder_with_checkpoints_is_not_overwritten(call: Call, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for words in (["train", run], ["train", "points", "--out", run, *short()], ["train", "points", "--out", run, "name=other"]):
        outcome = call(*words)
        assert (outcome.code, outcome.out) == (2, "")
        assert "--resume" in outcome.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_resume_of_a_finished_run_says_so_and_extends_when_told(call: Call, run: Path) -> None:
    weights = (run / "checkpoints" / "step-12" / "model.safetensors").read_bytes()
    outcome = call("train", run, "--resume")
    assert outcome.code == 0
    assert "finished its 12 steps" in outcome.err
    assert (run / "checkpoints" / "step-12" / "model.safetensors").read_bytes() == weights
    outcome = call("train", run, "--resume", "train.steps=15", "--json")
    assert (outcome.code, outcome.json["steps"]) == (0, 15)
    assert "learning rate" in outcome.err
    assert Recipe.load(run).train.steps == 15
    assert 15 in steps_of(run)
    outcome = call("train", run, "--resume", "train.batch_size=16")
    assert outcome.code == 2
    assert "train.batch_size" in outcome.err


def test_resume_goes_on_bit_for_bit(call: Call, run: Path, tmp_path: Path) -> None:
    whole = (run / "checkpoints" / "step-12" / "ema.safetensors").read_bytes()
    shutil.rmtree(run / "checkpoints" / "step-12")
    assert call("train", run, "--resume").code == 0
    assert (run / "checkpoints" / "step-12" / "ema.safetensors").read_bytes() == whole


def test_resume_of_nothing_is_refused_and_of_a_bare_recipe_starts(call: Call, tmp_path: Path) -> None:
    assert call("train", "points", "--out", tmp_path / "new", "--resume", *short()).code == 2
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "recipe.yaml").write_text(Recipe.load("points", short(steps=3)).to_yaml())
    outcome = call("train", tmp_path / "bare", "--resume", "--json")
    assert (outcome.code, outcome.json["steps"]) == (0, 3)


def test_init_from_starts_a_new_run(call: Call, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "next"
    outcome = call("train", "points", "--out", out, "--init-from", run, *short(steps=1, seed=5), "--json")
    assert (outcome.code, outcome.json["steps"]) == (0, 1)
    assert json.loads((out / "run.json").read_text())["init_from"]["step"] == 12
    assert call("train", run, "--resume", "--init-from", out).code == 2
    assert call("train", "points", "--out", tmp_path / "third", "--init-from", tmp_path / "nothing", *short()).code == 2


def test_the_recipe_is_written_before_torch_is_imported(tmp_path: Path) -> None:
    """A run that is killed while torch loads can be resumed."""
    code = """
import sys
from pathlib import Path
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            recipe = Path(sys.argv[1]) / "recipe.yaml"
            written = recipe.is_file() and "name: points" in recipe.read_text()
            import os
            os._exit(0 if written else 7)
sys.meta_path.insert(0, Guard())
from ornstein.cli.main import main
main(["train", "points", "--out", sys.argv[1]])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, check=False)
    assert done.returncode == 0


def test_a_signal_saves_the_run_and_leaves_with_its_code(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = "import sys; from ornstein.cli.main import main; main(sys.argv[1:])"
    words = ["train", "points", "--json", "--out", str(folder), *short(steps=10**6, checkpoint_every=10**6, evaluate_every=10**6)]
    child = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    patience = time.monotonic() + 60.0
    while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").stat().st_size:
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < patience
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (143, "")
    assert "Continue with --resume." in err
    assert "Traceback" not in err
    (saved,) = steps_of(folder)
    outcome = call("train", folder, "--resume", f"train.steps={saved + 2}", "--json")
    assert (outcome.code, outcome.json["steps"]) == (0, saved + 2)


def test_dry_run_prints_the_recipe_and_what_it_takes(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call("train", "points", "--dry-run", *short())
    assert outcome.code == 0
    assert "steps: 12" in outcome.out
    assert "parameters" in outcome.out
    assert "per step" in outcome.out
    found = call("train", "points", "--dry-run", "--json", *short()).json
    assert found["recipe"]["train"]["steps"] == 12
    assert found["parameters"] > 100
    assert not list(tmp_path.iterdir())


def test_a_refused_recipe_leaves_nothing(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = call("train", "points", "train.stps=3", "schedule.kind=cosin", "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert "train.stps" in outcome.err
    assert "nearest is 'cosine'" in outcome.err
    assert not list(tmp_path.iterdir())


def test_missing_data_leave_with_3(call: Call, tmp_path: Path) -> None:
    outcome = call("train", "mnist", f"data.path={tmp_path / 'none'}", "--out", tmp_path / "run")
    assert (outcome.code, outcome.out) == (3, "")
    assert str(tmp_path / "none") in outcome.err


def test_a_damaged_checkpoint_leaves_with_4(call: Call, run: Path) -> None:
    for path in run.glob("checkpoints/*/ema.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    outcome = call("sample", run)
    assert (outcome.code, outcome.out) == (4, "")
    assert "ema.safetensors" in outcome.err


def drawn(folder: Path) -> dict[str, Any]:
    with np.load(folder / "samples.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays}


def test_sample_writes_what_was_asked_for(call: Call, run: Path, tmp_path: Path) -> None:
    outcome = call("sample", run, "-n", 5, "--seed", 3, "--solver", "euler", "--steps", 3, "--out", tmp_path / "a", "--json")
    assert outcome.code == 0
    assert outcome.json["out"] == str(tmp_path / "a")
    assert (outcome.json["solver"], outcome.json["steps"]) == ("euler", 3)
    found = drawn(tmp_path / "a")
    assert found["samples"].shape == (5, 2)
    assert found["seeds"].tolist() == [3, 4, 5, 6, 7]
    call("sample", run, "-n", 1, "--seed", 6, "--solver", "euler", "--steps", 3, "--out", tmp_path / "b")
    assert (drawn(tmp_path / "b")["samples"][0] == found["samples"][3]).all()
    outcome = call("sample", run, "-n", 2, "--label", 1, "--plan", "karras", "--evaluations", 9, "--checkpoint", "6", "--json")
    assert (outcome.json["plan"], outcome.json["steps"], outcome.json["checkpoint"]) == ("karras", 5, 6)
    assert drawn(Path(outcome.json["out"]))["labels"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--solver", "eulr"], "'euler'"),
        (["--plan", "karas"], "'karras'"),
        (["--steps", 0], "sample.steps"),
        (["--steps", 3, "--evaluations", 3], "--evaluations"),
        (["--label", 99], "99"),
        (["--guidance", "nan"], "sample.guidance"),
        (["--guidance", 2], "dropped conditions"),
    ],
)
def test_options_that_cannot_be_served_are_refused(call: Call, run: Path, tmp_path: Path, words: list[object], said: str) -> None:
    outcome = call("sample", run, *words, "--out", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert not (tmp_path / "out").exists()


def test_evaluate_prints_the_table_and_writes_the_page(call: Call, run: Path) -> None:
    (run / "report.html").unlink()
    outcome = call("evaluate", run)
    assert outcome.code == 0
    assert "real train" in outcome.out
    assert (run / "evaluation.json").is_file()
    assert (run / "report.html").is_file()
    assert call("evaluate", run, "--json", "--checkpoint", "6").json["checkpoint"] == 6


def test_report_rewrites_the_page_without_torch(call: Call, run: Path) -> None:
    (run / "report.html").unlink()
    assert call("report", run, "--json").json == {"report": str(run / "report.html")}
    assert (run / "report.html").is_file()
    code = """
import sys
from ornstein.cli.main import main
try:
    main(["report", sys.argv[1]])
except SystemExit as left:
    sys.exit(left.code or "torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("command", ["sample", "evaluate", "report"])
def test_what_is_no_run_is_refused(call: Call, tmp_path: Path, command: str) -> None:
    outcome = call(command, tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert "recipe.yaml" in outcome.err


def test_diagnose_prints_its_findings_and_writes_the_page(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, tuple[str, ...]]] = []

    def found(folder: Path, show: Any, checkpoint: str, count: int, solvers: Sequence[str]) -> dict[str, Any]:
        asked.append((count, tuple(solvers)))
        return {"text": "findings"}

    monkeypatch.setattr("ornstein.run.diagnose.diagnose", found)
    outcome = call("diagnose", run, "-n", "3", "--solver", "euler", "--solver", "ddim")
    assert (outcome.code, outcome.out.splitlines()[0]) == (0, "findings")
    assert call("diagnose", run, "--json").json["report"] == str(run / "report.html")
    assert asked == [(3, ("euler", "ddim")), (64, ())]


def test_json_stays_pure_when_something_prints(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(folder: Path, show: Any, checkpoint: str, *options: Any) -> dict[str, Any]:
        sys.stdout.write("a library says hello\n")
        return {"text": "figures"}

    monkeypatch.setattr("ornstein.run.evaluate.evaluate", noisy)
    outcome = call("evaluate", run, "--json")
    assert outcome.json["text"] == "figures"
    assert "hello" in outcome.err


def test_demo_trains_draws_and_measures_and_uses_its_run_again(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def figures(folder: Path, show: Any, checkpoint: str, *options: Any) -> dict[str, Any]:
        return {"text": f"figures of {folder}"}

    monkeypatch.setattr("ornstein.run.evaluate.evaluate", figures)  # measuring itself takes eight seconds
    out = tmp_path / "digits"
    outcome = call("demo", "--out", out, *DIGITS)
    assert outcome.code == 0
    assert f"figures of {out}" in outcome.out
    assert str((out / "report.html").resolve()) in outcome.out
    assert (out / "samples" / "demo" / "grid.png").is_file()
    assert len(drawn(out / "samples" / "demo")["samples"]) == 100
    weights = (out / "checkpoints" / "step-4" / "model.safetensors").stat().st_mtime_ns
    again = call("demo", "--out", out, *DIGITS, "--json")
    assert (again.code, again.json["run"]) == (0, str(out))
    assert "finished its 4 steps" in again.err
    assert (out / "checkpoints" / "step-4" / "model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.slow
def test_demo_with_everything(call: Call, tmp_path: Path) -> None:
    outcome = call("demo", "--out", tmp_path / "digits", *DIGITS, "--json")
    assert outcome.code == 0
    assert {row["name"] for row in outcome.json["evaluation"]["rows"]} >= {"real train", "model"}
    assert "<svg" in (tmp_path / "digits" / "report.html").read_text()
