# SPDX-License-Identifier: Apache-2.0
"""The doctor: what the machine offers, and what is wrong with a run folder, by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cli_calls import Call

from ornstein.run import doctor
from ornstein.run.doctor import examine_run, extras


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def findings(folder: Path) -> dict[str, tuple[bool, str]]:
    return {finding["what"]: (finding["sound"], finding["says"]) for finding in examine_run(folder)["findings"]}


def test_the_machine_is_asked_not_guessed(call: Call) -> None:
    import torch

    machine = call("doctor", "--json").json["machine"]
    assert machine["torch"] == torch.__version__
    assert 1 <= machine["cores"] <= (os.cpu_count() or 1)
    assert 0.1 < machine["memory_free_gb"] <= machine["memory_gb"]
    assert set(machine["matrix_products"]) == {"fp32", "bf16"}
    assert all(0.05 < rate < 1e6 for rate in machine["matrix_products"].values())
    text = call("doctor").out
    assert f"torch {torch.__version__}" in text
    assert "Extra tensorboard" in text


@pytest.mark.parametrize(("bf16", "word"), [(400.0, "bf16 should pay"), (110.0, "fp32 is the better")])
def test_advice_follows_the_rates(monkeypatch: pytest.MonkeyPatch, bf16: float, word: str) -> None:
    monkeypatch.setattr(doctor, "matrix_rates", lambda: {"fp32": 100.0, "bf16": bf16})
    assert word in doctor.examine_machine()["advice"].replace("train.precision=", "")


def test_rates_are_operations_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def product() -> None:
        clock[0] += 0.01

    monkeypatch.setattr(doctor.time, "perf_counter", lambda: clock[0])
    assert doctor._rate(product) == pytest.approx(2 * 1024**3 / 0.01 / 1e9, abs=0.1)


def test_absent_extras_come_with_their_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "tensorboard":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor.metadata, "version", version)
    found = {extra["name"]: extra for extra in extras()}
    assert found["tensorboard"]["missing"] == ["tensorboard"]
    assert found["tensorboard"]["install"] == 'pip install "ornstein[tensorboard]"'
    assert found["dev"]["missing"] == []


def test_a_sound_run(call: Call, run: Path) -> None:
    report = examine_run(run)
    assert report["sound"]
    assert {"recipe.yaml", "run.json", "metrics.jsonl", "checkpoints/step-6", "checkpoints/step-12", "best.json"} <= set(findings(run))
    outcome = call("doctor", run)
    assert outcome.code == 0
    assert f"{run} is sound" in outcome.out


def cut(name: str) -> Callable[[Path], None]:
    def wound(run: Path) -> None:
        (run / name).write_bytes((run / name).read_bytes()[:-1])

    return wound


def flip(name: str) -> Callable[[Path], None]:
    def wound(run: Path) -> None:
        data = bytearray((run / name).read_bytes())
        data[len(data) // 2] ^= 1
        (run / name).write_bytes(data)

    return wound


def put(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda run: (run / name).write_bytes(data) and None


def drop(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).unlink()


WOUNDS: list[tuple[Callable[[Path], None], str, str]] = [
    (put("recipe.yaml", b"name: [\n"), "recipe.yaml", "YAML"),
    (put("recipe.yaml", b"\x80"), "recipe.yaml", "UTF-8"),
    (drop("run.json"), "run.json", "missing"),
    (put("run.json", b"{"), "run.json", "JSON"),
    (put("metrics.jsonl", b"{}\nx\n"), "metrics.jsonl", "line"),
    (cut("checkpoints/step-12/model.safetensors"), "checkpoints/step-12", "model.safetensors"),
    (flip("checkpoints/step-12/model.safetensors"), "checkpoints/step-12", "model.safetensors"),
    (flip("checkpoints/step-6/optimizer.safetensors"), "checkpoints/step-6", "optimizer.safetensors"),
    (flip("checkpoints/step-6/state.json"), "checkpoints/step-6", "state.json"),
    (flip("checkpoints/step-12/manifest.json"), "checkpoints/step-12", "manifest.json"),
    (drop("checkpoints/step-12/ema.safetensors"), "checkpoints/step-12", "ema.safetensors"),
    (put("best.json", b"[]"), "best.json", "object"),
    (put("evaluation.json", b"nan?"), "evaluation.json", "JSON"),
]


@pytest.mark.parametrize(("wound", "what", "word"), WOUNDS)
def test_what_is_wrong_is_named_and_nothing_else(
    call: Call, monkeypatch: pytest.MonkeyPatch, run: Path, wound: Callable[[Path], None], what: str, word: str
) -> None:
    wound(run)
    found = findings(run)
    assert [name for name, (sound, _) in found.items() if not sound] == [what]
    assert word in found[what][1]
    monkeypatch.setattr(doctor, "matrix_rates", lambda: {"fp32": 1.0, "bf16": 1.0})
    outcome = call("doctor", run, "--json")
    assert outcome.code == 4
    result: dict[str, Any] = outcome.json["run"]
    assert not result["sound"]


def test_leftovers_and_a_run_without_checkpoints_are_told_and_sound(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "best.json").unlink()
    (run / "run.json.tmp-77").write_bytes(b"")
    report = examine_run(run)
    assert report["sound"]
    assert findings(run)["checkpoints"] == (True, "none yet")
    assert "interrupted" in findings(run)["run.json.tmp-77"][1]


def test_no_run_is_refused_before_anything_is_measured(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine_machine", lambda: pytest.fail("measured"))
    outcome = call("doctor", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
