# SPDX-License-Identifier: Apache-2.0
"""R1: kill -9 at any moment, inside a save as well. Every resume starts, and ends bit-identical to the run nobody killed."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from train_world import child, die_at, ending, leftovers, run, steps_of, trainer

from ornstein.base.files import read_lines
from ornstein.train.checkpoint import newest_valid

CONFIG: dict[str, Any] = {"steps": 30, "checkpoint_every": 4, "evaluate_every": 5, "log_every": 3, "micro_batch": 4, "keep": 2}


def _train(folder: Path, resume: bool) -> None:
    run(trainer(folder, **CONFIG), resume=resume)


def _train_until_call(folder: Path, resume: bool, call: int) -> None:
    made = trainer(folder, **CONFIG)
    made.restore() if resume else made.start()
    die_at(call)
    list(made.records())


def _completed(folder: Path) -> None:
    process = child(_train, folder, True)
    process.join(120)
    assert process.exitcode == 0


def _calls_of_a_run(folder: Path) -> None:
    made = trainer(folder, **CONFIG)
    made.start()
    count = die_at(0)
    list(made.records())
    (folder / "calls").write_text(str(count()))


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_random_moments(place: Path, kills: int) -> None:
    chance = random.Random(1)
    process = child(_calls_of_a_run, place / "whole")
    process.join(120)
    assert process.exitcode == 0
    whole = ending(place / "whole", 30)
    calls = int((place / "whole" / "calls").read_text())
    assert calls > 200
    began = time.monotonic()
    child(_train, place / "timed", False).join(120)
    lasts = time.monotonic() - began
    resumed_at = []
    for number in range(kills):
        folder = place / f"run-{number}"
        if number % 2:
            process = child(_train_until_call, folder, False, chance.randrange(1, calls + 1))
        else:
            process = child(_train, folder, False)
            process.join(chance.uniform(0.0, lasts))
            process.kill()
        process.join(120)
        assert process.exitcode in (-signal.SIGKILL, 0)
        assert process.exitcode == -signal.SIGKILL or number % 2 == 0
        saved = steps_of(folder)
        found = newest_valid(folder / "checkpoints", pytest.fail)
        assert found is None or found.step == saved[-1]  # a kill never leaves an invalid checkpoint behind
        resumed_at.append(0 if found is None else found.step)
        reached = max((line["step"] for line in read_lines(folder / "metrics.jsonl")), default=0)
        assert reached - resumed_at[-1] <= CONFIG["checkpoint_every"]  # nothing older than the last save is lost
        _completed(folder)
        assert leftovers(folder) == []
        assert ending(folder, 30) == whole, (number, resumed_at)
    assert len(set(resumed_at)) > 2


@pytest.mark.slow
def test_one_run_killed_again_and_again(place: Path) -> None:
    chance = random.Random(2)
    child(_train, place / "whole", False).join(120)
    for _ in range(25):
        process = child(_train_until_call, place / "run", True, chance.randrange(5, 90))
        process.join(120)
        assert process.exitcode in (-signal.SIGKILL, 0)
    _completed(place / "run")
    assert ending(place / "run", 30) == ending(place / "whole", 30)
