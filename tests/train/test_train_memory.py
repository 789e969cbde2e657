# SPDX-License-Identifier: Apache-2.0
"""Objectives that remember losses, and schedules that are trained: part of the state, of checkpoints and of the average."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from train_world import Doubles, ending, network, run, settings, split, trainer

from ornstein.base.errors import CheckpointError
from ornstein.codec.pixels import Coordinates
from ornstein.model.denoiser import Model
from ornstein.model.prediction import Edm
from ornstein.objective.loss_aware import LossAware
from ornstein.objective.matching import Matching
from ornstein.objective.times import Stratified
from ornstein.objective.weighting import Elbo, Simple
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.learned import Learned
from ornstein.process.schedule import Cosine
from ornstein.train.checkpoint import load_weights, read
from ornstein.train.loop import Trainer


def _aware() -> Matching:
    return Matching(LossAware(Cosine(), 8, bins=3, history=2), Simple())


def test_losses_are_remembered_once_per_batch_whatever_the_micro_batch(place: Path) -> None:
    net = network().double()
    made = [trainer(place / str(size), of=_aware(), codec=Doubles(), net=net_of(net), micro_batch=size) for size in (8, 2)]
    for one in made:
        run(one)
    whole, parts = (one.state.objective for one in made)
    assert int(whole["times.seen"].sum()) == 80
    assert parts["times.seen"].equal(whole["times.seen"])
    torch.testing.assert_close(parts["times.squares"], whole["times.squares"], rtol=1e-9, atol=0.0)


def net_of(net: Any) -> Any:
    import copy

    return copy.deepcopy(net)


def _interrupted(make: Any, folder: Path) -> None:
    """Stop after the checkpoint of step 8 and go on."""
    stop = make(folder)
    stop.start()
    for record in stop.records():
        if record["event"] == "checkpoint" and record["step"] == 8:
            break
    stop.close()
    assert run(make(folder), resume=True)[-1]["event"] == "finished"


def test_a_resumed_run_remembers(place: Path) -> None:
    def make(folder: Path) -> Trainer:
        return trainer(folder, of=_aware(), steps=12)

    run(make(place / "whole"))
    _interrupted(make, place / "cut")
    assert ending(place / "whole", 12) == ending(place / "cut", 12)


def test_a_memory_of_another_shape_is_refused(place: Path) -> None:
    run(trainer(place, of=_aware()))
    found = read(place / "checkpoints" / "step-10")
    other = trainer(place, of=Matching(LossAware(Cosine(), 8, bins=4, history=2), Simple()))
    with pytest.raises(CheckpointError, match="times"):
        other.state.check(found)
    other.close()


def _learner(folder: Path) -> Trainer:
    schedule = Learned(units=4)
    chosen = settings(steps=12)
    model = Model(network(), GaussianProcess(schedule), Edm())
    return Trainer(model, Matching(Stratified(schedule, 8), Elbo()), Coordinates(), split(), chosen, folder, {"recipe": "0" * 16})


def test_a_learned_schedule_is_trained_averaged_saved_and_resumed(place: Path) -> None:
    made = _learner(place / "whole")
    run(made)
    _interrupted(_learner, place / "cut")
    assert ending(place / "whole", 12) == ending(place / "cut", 12)
    start, last = Learned(units=4), made.model.process.schedule
    assert isinstance(last, Learned)
    assert not last.height.equal(start.height)
    averaged = made.averaged.process.schedule
    assert isinstance(averaged, Learned)
    assert not averaged.height.equal(last.height)
    weights, _ = load_weights(place / "whole", "ema", "newest")
    assert weights["schedule.height"].equal(averaged.height)
    assert weights["network.input.weight"].equal(made.averaged.network.state_dict()["input.weight"])
