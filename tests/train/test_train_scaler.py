# SPDX-License-Identifier: Apache-2.0
"""Loss scaling, on the CPU with float32 numbers: the trainer's side of fp16 without a card that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from train_world import Spy, ending, run, trainer

from ornstein.base.errors import CheckpointError, NonFiniteError
from ornstein.objective.record import LossRecord
from ornstein.train.checkpoint import read
from ornstein.train.loop import Trainer


def _scaled(folder: Path, **more: Any) -> Trainer:
    made = trainer(folder, **more)
    made.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16, growth_interval=4)
    return made


def _overflow(calls: range) -> Spy:
    def act(call: int, record: LossRecord) -> None:
        if call in calls:
            record.losses["model"].register_hook(lambda gradient: gradient * float("inf"))

    return Spy(act)


def test_a_scale_that_is_a_power_of_two_changes_no_bit(place: Path) -> None:
    run(trainer(place / "plain"))
    run(_scaled(place / "scaled"))
    for part in ("model", "ema", "optimizer"):
        name = f"checkpoints/step-10/{part}.safetensors"
        assert ending(place / "plain")[name] == ending(place / "scaled")[name]
    assert read(place / "scaled" / "checkpoints" / "step-10").state["scaler"]["scale"] == 2.0**18  # grown after 4 and 8 updates


def test_overflow_halves_the_scale_and_is_no_fault_of_the_run(place: Path) -> None:
    made = _scaled(place, of=_overflow(range(1, 6)), max_skips=3)
    assert run(made)[-1]["event"] == "finished"
    assert (made.state.progress.skipped, made.state.progress.updates) == (5, 5)
    assert made.state.scaler.get_scale() == 2.0 ** (16 - 5 + 1)


def test_overflow_at_scale_one_is(place: Path) -> None:
    made = _scaled(place, of=_overflow(range(100)), max_skips=3, steps=40)
    with pytest.raises(NonFiniteError, match="gradient was not finite for 3 batches in a row, the last at step 19"):
        run(made)


def test_the_scale_is_resumed_and_required(place: Path) -> None:
    run(_scaled(place / "whole", steps=12, of=_overflow(range(2, 4)), decay="constant"))
    run(_scaled(place / "cut", steps=7, of=_overflow(range(2, 4)), decay="constant"))
    made = _scaled(place / "cut", steps=12, decay="constant")
    assert made.restore() == 7
    list(made.records())
    cut, whole = (read(place / name / "checkpoints" / "step-12") for name in ("cut", "whole"))
    assert cut.manifest["files"]["model.safetensors"] == whole.manifest["files"]["model.safetensors"]
    assert cut.state["scaler"] == whole.state["scaler"]
    run(trainer(place / "plain", steps=4))
    made = _scaled(place / "plain", steps=8)
    with pytest.raises(CheckpointError, match="no loss scale"):
        made.restore()
