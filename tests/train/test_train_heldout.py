# SPDX-License-Identifier: Apache-2.0
"""Held-out loss: the same (t, noise) at every step and for both halves, the averaged weights, and when it says overfitting."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from train_world import network, objective, points, run, split, trainer

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.base.keys import Keys
from ornstein.codec.pixels import Coordinates
from ornstein.model.denoiser import Model
from ornstein.model.prediction import V
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import Cosine
from ornstein.train.heldout import Heldout, Measure, Overfitting, by_level

CPU = torch.device("cpu")


class Watched(Objective):
    """Notes keys, data and the network's weights of every call without gradients."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        record, state = objective()(model, batch, keys, progress, state)
        if not torch.is_grad_enabled():
            weight = next(model.network.parameters()).clone()
            seen = {"t": record.t, "x0": batch.x0, "weight": weight, "model": model}
            self.calls.append({"pairs": keys.pairs, "purpose": keys.purpose, **seen})
        return record, state


def _model() -> Model:
    return Model(network().eval(), GaussianProcess(Cosine()), V())


def test_both_halves_see_the_same_corruption_and_every_step_does(place: Path) -> None:
    spy = Watched()
    made = trainer(place, of=spy, evaluate_every=5, steps=10)
    run(made)
    calls = [(call["pairs"], call["purpose"]) for call in spy.calls]
    half = len(calls) // 4
    assert half == 2  # 12 examples in micro-batches of 8
    assert calls[:half] == calls[half : 2 * half] == calls[2 * half : 3 * half] == calls[3 * half :]
    assert {purpose for _, purpose in calls} == {"heldout"}
    assert all(torch.equal(one["t"], other["t"]) for one, other in zip(spy.calls[:half], spy.calls[half : 2 * half], strict=True))
    assert all(torch.equal(one["x0"], other["x0"]) for one, other in zip(spy.calls[:half], spy.calls[2 * half : 3 * half], strict=True))
    assert all(call["model"].network is made.state.ema.network for call in spy.calls)
    assert not torch.equal(spy.calls[0]["weight"], spy.calls[-1]["weight"])


def test_losses_are_those_of_the_named_halves() -> None:
    data = split(train=30, test=9)
    far = dataclasses.replace(data, test=dataclasses.replace(data.test, raw=data.test.raw * 50))
    near = Heldout(objective(), Coordinates(), data, 3, 4).measure(_model(), CPU, 0.5, {})
    wide = Heldout(objective(), Coordinates(), far, 3, 4).measure(_model(), CPU, 0.5, {})
    assert wide.heldout > 10 * near.heldout
    assert wide.train_fixed == near.train_fixed


def test_micro_batches_do_not_change_the_measure() -> None:
    model = _model()
    model.network.double()
    measures = [Heldout(objective(), _Double(), split(), 3, size).measure(model, CPU, 0.0, {}) for size in (1, 5, 12, 100)]
    for measure in measures[1:]:
        assert measure.heldout == pytest.approx(measures[0].heldout, rel=1e-12)
        assert torch.allclose(torch.tensor(measure.by_level), torch.tensor(measures[0].by_level), rtol=1e-6)


class _Double(Coordinates):
    def encode(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.double()


def test_as_many_of_each_half_and_no_more_than_512() -> None:
    assert Heldout(objective(), Coordinates(), split(30, 9), 0, 4).count == 9
    assert Heldout(objective(), Coordinates(), split(5, 9), 0, 4).count == 5
    assert Heldout(objective(), Coordinates(), split(600, 700), 0, 4).count == 512
    with pytest.raises(UsageError, match="held-out"):
        Heldout(objective(), Coordinates(), dataclasses.replace(split(), test=points(0, "none")), 0, 4)


def test_by_level() -> None:
    t = torch.tensor([0.0, 0.05, 0.31, 0.39, 1.0], dtype=torch.float64)
    losses = torch.tensor([1.0, 3.0, 10.0, 20.0, 7.0], dtype=torch.float64)
    assert by_level(t, losses) == [[0.05, 2.0], [pytest.approx(0.35), 15.0], [0.95, 7.0]]


def test_a_measure_that_is_not_finite_is_null_and_never_best() -> None:
    broken = Measure(math.nan, math.inf, [[0.05, math.nan], [0.15, 1.0]])
    assert broken.to_json() == {"heldout": None, "train_fixed": None, "by_level": [[0.05, None], [0.15, 1.0]]}
    assert Overfitting().after(5, broken) == Overfitting()
    assert Overfitting().after(5, Measure(1.0, math.nan, [])) == Overfitting(5, 1.0, None)
    known = Overfitting().after(5, Measure(1.0, 1.0, []))
    assert known.after(10, broken).best_step == 5


def _watch(pairs: list[tuple[float, float]]) -> tuple[Overfitting, str | None]:
    state, note = Overfitting(), None
    for step, (heldout, train) in enumerate(pairs, 1):
        measure = Measure(heldout, train, [])
        state = state.after(step, measure)
        note = state.note(measure, None)
    return state, note


def test_overfitting_is_named_on_the_third_rise_while_training_falls() -> None:
    rising = [(1.0, 1.0), (0.8, 0.7), (0.9, 0.6), (0.95, 0.5)]
    assert _watch(rising) == (Overfitting(2, 0.8, 0.7, 2), None)
    state, note = _watch([*rising, (0.9, 0.4)])
    assert state == Overfitting(2, 0.8, 0.7, 3)
    assert note is not None
    assert note.startswith("overfitting: held-out loss rose from 0.8 at step 2 to 0.9 while training loss fell to 0.4")


def test_no_overfitting_where_training_rises_too_or_a_new_best_comes() -> None:
    assert _watch([(0.8, 0.7), (0.9, 0.8), (0.9, 0.8), (0.9, 0.8)])[1] is None
    state, note = _watch([(0.8, 0.7), (0.9, 0.6), (0.9, 0.6), (0.79, 0.5), (0.9, 0.4), (0.9, 0.4)])
    assert (state.best_step, state.worse, note) == (4, 2, None)


def test_memorising_is_named_below_half_the_usual_distance() -> None:
    measure = Measure(1.0, 1.0, [])
    assert Overfitting().note(measure, 0.51) is None
    assert "memorising" in (Overfitting().note(measure, 0.49) or "")


def test_json_round_trip_and_strictness() -> None:
    for state in (Overfitting(), Overfitting(5, 0.25, 0.5, 2), Overfitting(5, 0.25, None, 0)):
        assert Overfitting.from_json(Path("s"), state.to_json()) == state
    whole = Overfitting(5, 0.25, 0.5, 2).to_json()
    for wrong in (None, {}, {**whole, "best_heldout": 1}, {**whole, "best_step": None}, {**whole, "more": 1}, {**whole, "worse": True}):
        with pytest.raises(CheckpointError, match="overfitting"):
            Overfitting.from_json(Path("s"), wrong)


def test_the_preview_gets_the_averaged_model_and_its_ratio_is_recorded(place: Path) -> None:
    seen: list[tuple[Model, int]] = []

    def preview(model: Model, step: int) -> dict[str, Any] | None:
        seen.append((model, step))
        return {"memorised": 0.1 if step == 10 else math.nan, "else": 5}

    made = trainer(place, preview=preview, evaluate_every=5)
    records = [record for record in run(made) if record["event"] == "evaluation"]
    assert [step for _, step in seen] == [5, 10]
    assert all(model.network is made.state.ema.network and not model.network.training for model, _ in seen)
    assert [record["memorised"] for record in records] == [None, 0.1]
    assert records[0]["note"] is None
    assert "memorising" in records[1]["note"]
    assert "else" not in records[1]


def test_overfitting_is_seen_in_a_real_run(place: Path) -> None:
    """Three examples and a wide network: it learns them by heart, and the log says so."""
    data = split(train=3, test=40)
    apart = dataclasses.replace(data, test=dataclasses.replace(data.test, raw=data.test.raw.flip(1)))
    often = {"evaluate_every": 20, "checkpoint_every": 400, "log_every": 400}
    records = run(trainer(place, data=apart, net=network(width=64), steps=400, learning_rate=3e-3, **often))
    notes = [record["note"] for record in records if record["event"] == "evaluation"]
    assert notes[0] is None
    assert any(note is not None and note.startswith("overfitting") for note in notes)
