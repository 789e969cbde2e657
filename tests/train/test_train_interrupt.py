# SPDX-License-Identifier: Apache-2.0
"""Signals in every phase, resume at every kind of place, and numbers that are not finite."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from train_world import Spy, child, ending, leftovers, run, split, trainer

from ornstein.base.errors import Interrupted, NonFiniteError
from ornstein.data.order import indices
from ornstein.objective.record import LossRecord
from ornstein.train.checkpoint import newest_valid, read, steps_in
from ornstein.train.loop import Trainer


def _send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture
def whole(place: Path) -> dict[str, bytes]:
    run(trainer(place / "whole", micro_batch=4))
    return ending(place / "whole")


def _finish(folder: Path, **changes: Any) -> dict[str, bytes]:
    run(trainer(folder, micro_batch=4, **changes), resume=True)
    return ending(folder)


# -- R2: resume points ----------------------------------------------------------------------------------------------------------

# 24 examples in batches of 8: an epoch is 3 steps. Two micro-batches per step, so call c belongs to step c // 2.
PLACES = {
    **{"first batch": 0, "epoch 0": 2, "epoch boundary": 6, "epoch 1": 8, "last batch": 18},
    **{"mid-accumulation": 9, "after an evaluation": 10},
}


@pytest.mark.parametrize("where", PLACES)
def test_resume_is_bit_identical(place: Path, whole: dict[str, bytes], where: str) -> None:
    call = PLACES[where]

    def stop(now: int, record: LossRecord) -> None:
        if now == call:
            _send(signal.SIGTERM)

    made = trainer(place / "cut", micro_batch=4, of=Spy(stop))
    with pytest.raises(Interrupted) as error:
        run(made)
    assert error.value.exit_code == 143
    # A signal in the first of two micro-batches leaves the step undone, in the second it is completed.
    assert steps_in(place / "cut" / "checkpoints")[-1] == (call + 1) // 2
    assert _finish(place / "cut") == whole


def test_resume_after_every_single_step(place: Path, whole: dict[str, bytes]) -> None:
    for _ in range(40):
        made = trainer(place / "cut", micro_batch=4, of=Spy(lambda now, record: _send(signal.SIGTERM) if now == 1 else None))
        made.restore()
        try:
            list(made.records())
        except Interrupted:
            continue
        break
    assert ending(place / "cut") == whole


# -- R12: signals ---------------------------------------------------------------------------------------------------------------


def _at_record(event: str, number: int) -> Callable[[Trainer], Iterator[dict[str, Any]]]:
    def consume(made: Trainer) -> Iterator[dict[str, Any]]:
        for record in made.records():
            if record["event"] == event:
                _send(number)
            yield record

    return consume


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("event", ["start", "log", "evaluation", "checkpoint"])
def test_signal_between_records(place: Path, whole: dict[str, bytes], event: str, number: int) -> None:
    made = trainer(place / "cut", micro_batch=4)
    made.start()
    with pytest.raises(Interrupted, match="saved") as error:
        list(_at_record(event, number)(made))
    assert error.value.exit_code == 128 + number
    assert _finish(place / "cut") == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_during_the_preview(place: Path, whole: dict[str, bytes], number: int) -> None:
    made = trainer(place / "cut", micro_batch=4, preview=lambda model, step: _send(number))
    with pytest.raises(Interrupted) as error:
        run(made)
    assert error.value.exit_code == 128 + number
    assert _finish(place / "cut") == whole


@pytest.mark.parametrize("call", range(1, 18, 4))
def test_signal_inside_a_save(place: Path, whole: dict[str, bytes], call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _hook_sync(monkeypatch, {call: [signal.SIGTERM]})
    with pytest.raises(Interrupted) as error:
        run(trainer(place / "cut", micro_batch=4))
    monkeypatch.undo()
    assert error.value.exit_code == 143
    assert leftovers(place / "cut") == []
    assert _finish(place / "cut") == whole


def _hook_sync(monkeypatch: pytest.MonkeyPatch, signals: dict[int, list[int]]) -> None:
    count, sync = iter(range(1, 1 << 60)), os.fsync

    def hooked(handle: int) -> None:
        for number in signals.get(next(count), []):
            _send(number)
        sync(handle)

    monkeypatch.setattr(os, "fsync", hooked)


@pytest.mark.parametrize("call", [2, 3, 7, 12, 13])
def test_second_ctrl_c_inside_a_save_leaves_now(place: Path, whole: dict[str, bytes], call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run(trainer(place / "cut", micro_batch=4, steps=3, decay="constant"))  # the checkpoint that must stay intact
    before = read(place / "cut" / "checkpoints" / "step-3")
    made = trainer(place / "cut", micro_batch=4, decay="constant")
    made.restore()
    _hook_sync(monkeypatch, {call: [signal.SIGINT, signal.SIGINT]})
    with pytest.raises(Interrupted, match="without saving") as error:
        list(made.records())
    monkeypatch.undo()
    assert error.value.exit_code == 130
    assert leftovers(place / "cut") == []
    assert read(place / "cut" / "checkpoints" / "step-3").manifest == before.manifest
    assert run(trainer(place / "cut", micro_batch=4, decay="constant"), resume=True)[-1]["event"] == "finished"


def test_sigterm_after_ctrl_c_still_saves(place: Path) -> None:
    def both(now: int, record: LossRecord) -> None:
        if now == 2:
            _send(signal.SIGINT)
            _send(signal.SIGTERM)

    made = trainer(place, of=Spy(both))
    with pytest.raises(Interrupted) as error:
        run(made)
    assert error.value.exit_code == 143
    assert steps_in(place / "checkpoints") == [3]


def test_a_signal_before_the_last_evaluation_leaves_it_to_the_resumed_run(place: Path, whole: dict[str, bytes]) -> None:
    with pytest.raises(Interrupted):
        run(trainer(place / "cut", micro_batch=4, of=Spy(lambda now, record: _send(signal.SIGTERM) if now == 19 else None)))
    assert steps_in(place / "cut" / "checkpoints")[-1] == 10
    assert _finish(place / "cut") == whole
    assert [record["event"] for record in run(trainer(place / "cut", micro_batch=4), resume=True)] == ["start", "finished"]


def test_a_signal_after_the_last_evaluation_is_a_finished_run(place: Path) -> None:
    made = trainer(place)
    made.start()
    events = []
    for record in made.records():
        events.append(record["event"])
        if record["event"] == "evaluation" and record["step"] == 10:
            _send(signal.SIGTERM)
    assert events[-1] == "finished"


def test_handlers_are_put_back_even_when_the_run_fails(place: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def fail(now: int, record: LossRecord) -> None:
        assert signal.getsignal(signal.SIGTERM) != before[1]
        raise RuntimeError("defect")

    made = trainer(place, of=Spy(fail))
    with pytest.raises(RuntimeError, match="defect"):
        run(made)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    trainer(place).close()  # and the lock was given back


def test_training_in_a_thread_needs_no_handlers(place: Path) -> None:
    ends: list[str] = []
    thread = threading.Thread(target=lambda: ends.append(run(trainer(place))[-1]["event"]))
    thread.start()
    thread.join(60)
    assert ends == ["finished"]


def _train_long(folder: Path) -> None:
    made = trainer(folder, steps=100_000, checkpoint_every=100_000, evaluate_every=100_000)
    made.start()
    for record in made.records():
        if record["event"] == "log":
            (folder / "alive").touch()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_saves_and_exits_with_the_signals_code(place: Path, number: int, code: int) -> None:
    process = child(_train_long, place)
    for _ in range(6000):
        if (place / "alive").exists() or process.exitcode is not None:
            break
        process.join(0.01)
    os.kill(process.pid, number)
    process.join(10)
    assert process.exitcode == code
    (step,) = steps_in(place / "checkpoints")
    found = newest_valid(place / "checkpoints", pytest.fail)
    assert found is not None
    assert found.step == step > 0


# -- R9: numbers that are not finite ----------------------------------------------------------------------------------------------


def _state(made: Trainer) -> list[torch.Tensor]:
    return [tensor.clone() for part in made.state.tensors().values() for tensor in part.values()]


def _same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _nan_loss(record: LossRecord) -> LossRecord:
    return dataclasses.replace(record, losses={"model": record.losses["model"] * float("nan")})


def _infinite_loss(record: LossRecord) -> LossRecord:
    """A loss whose gradient is sound: the norm alone would let it pass."""
    return dataclasses.replace(record, losses={"model": record.losses["model"] + float("inf")})


def _infinite_gradient(record: LossRecord) -> None:
    record.losses["model"].register_hook(lambda gradient: gradient * float("inf"))


@pytest.mark.parametrize(("harm", "why"), [(_nan_loss, "loss"), (_infinite_loss, "loss"), (_infinite_gradient, "gradient")])
@pytest.mark.parametrize("k", [0, 4, 9])
def test_a_batch_that_is_not_finite_changes_nothing(place: Path, harm: Callable[[LossRecord], Any], why: str, k: int) -> None:
    spy = Spy(lambda now, record: harm(record) if now == k else None)
    made = trainer(place, of=spy, log_every=1)
    made.start()
    states = {0: _state(made)}
    skips = []
    for record in made.records():
        if record["event"] == "log":
            states[record["step"]] = _state(made)
        if record["event"] == "skip":
            skips.append(record)
    assert [(record["step"], record["skip"]) for record in skips] == [(k + 1, why)]
    assert skips[0]["examples"] == indices(24, 3, 8 * k, 8).tolist()
    for step in range(10):
        assert _same(states[step], states[step + 1]) == (step == k)
    progress = made.state.progress
    assert (progress.step, progress.skipped, progress.updates, progress.ema_updates) == (10, 1, 9, 9)
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    logged = {line["step"]: line for line in lines if "loss" in line}
    assert logged[k + 1]["loss"] is None
    assert [logged[step]["skipped"] for step in range(1, 11)] == [int(step > k) for step in range(1, 11)]
    assert all(tensor.isfinite().all() for tensor in states[10])


def test_the_learning_rate_counts_updates_not_batches(place: Path) -> None:
    made = trainer(place, of=Spy(lambda now, record: _nan_loss(record) if now == 1 else None), log_every=1, warmup=5, learning_rate=1.0)
    rates = [record["lr"] for record in run(made) if record["event"] == "log"]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.4, 0.6])


def test_the_poisoned_examples_are_named(place: Path) -> None:
    data = split()
    data.train.raw[[4, 17]] = float("nan")
    records = run(trainer(place, data=data, steps=6, max_skips=9))
    skips = [record for record in records if record["event"] == "skip"]
    rows = {step: set(indices(24, 3, 8 * (step - 1), 8).tolist()) for step in range(1, 7)}
    assert {record["step"] for record in skips} == {step for step in rows if rows[step] & {4, 17}}
    assert all(set(record["examples"]) == rows[record["step"]] & {4, 17} for record in skips)
    found = read(place / "checkpoints" / "step-6")
    assert all(tensor.isfinite().all() for part in found.tensors.values() for tensor in part.values())


def test_the_run_stops_after_too_many_in_a_row_and_the_last_good_checkpoint_loads(place: Path) -> None:
    made = trainer(place, of=Spy(lambda now, record: _nan_loss(record) if now >= 5 else None), evaluate_every=50)
    says = r"for 3 batches in a row, the last at step 8 .*the last good checkpoint is of step 4"
    with pytest.raises(NonFiniteError, match=says) as error:
        run(made)
    assert error.value.exit_code == 5
    assert str(indices(24, 3, 56, 8).tolist())[1:-1] in str(error.value)
    assert steps_in(place / "checkpoints") == [4]
    assert run(trainer(place), resume=True)[-1]["event"] == "finished"


def test_skips_that_are_not_in_a_row_do_not_stop(place: Path) -> None:
    made = trainer(place, of=Spy(lambda now, record: _nan_loss(record) if now % 3 else None), steps=9)
    assert run(made)[-1]["event"] == "finished"
    assert made.state.progress.skipped == 6


def test_skips_in_a_row_are_counted_over_a_resume(place: Path) -> None:
    spy = Spy(lambda now, record: _nan_loss(record))
    with pytest.raises(Interrupted):
        run(trainer(place, of=Spy(lambda now, record: _send(signal.SIGTERM) if now == 1 else _nan_loss(record), spy)))
    made = trainer(place, of=Spy(lambda now, record: _nan_loss(record)))
    made.restore()
    before = made.state.progress.skipped_in_row
    assert before == 2
    with pytest.raises(NonFiniteError, match="for 3 batches"):
        list(made.records())


def _harmed(made: Trainer, step: int, harm: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """The records of a run in which something breaks right after a step."""
    made.start()
    for record in made.records():
        if record["event"] == "log" and record["step"] == step:
            harm()
        yield record


@pytest.mark.parametrize("part", ["model", "ema", "optimizer"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_average_and_moments_are_never_saved(place: Path, part: str, value: float) -> None:
    made = trainer(place, log_every=1, evaluate_every=50)

    def harm() -> None:
        tensor = next(tensor for name, tensor in made.state.tensors()[part].items() if "output.weight" in name)
        tensor.data.view(-1)[3] = value

    with pytest.raises(NonFiniteError, match=f"of the {part} is not finite at step 8.*last good checkpoint is of step 4"):
        list(_harmed(made, 8, harm))
    assert steps_in(place / "checkpoints") == [4]
    assert leftovers(place) == []
    found = newest_valid(place / "checkpoints", pytest.fail)
    assert found is not None
    assert all(tensor.isfinite().all() for held in found.tensors.values() for tensor in held.values())


def test_broken_weights_are_seen_in_the_next_batch_and_do_not_reach_the_average(place: Path) -> None:
    made = trainer(place, log_every=1, evaluate_every=50, checkpoint_every=4)
    with pytest.raises(NonFiniteError, match="for 3 batches in a row, the last at step 8"):
        list(_harmed(made, 5, lambda: next(made.weights.parameters()).data.view(-1)[:1].fill_(float("nan"))))
    assert all(tensor.isfinite().all() for tensor in made.state.ema.state_dict().values())
    assert steps_in(place / "checkpoints") == [4]


def test_a_broken_average_is_a_null_held_out_loss_and_no_best(place: Path) -> None:
    made = trainer(place, log_every=1)
    records = _harmed(made, 5, lambda: next(made.state.ema.network.parameters()).data.fill_(float("nan")))
    evaluation = next(record for record in records if record["event"] == "evaluation")
    assert (evaluation["step"], evaluation["heldout"]) == (5, None)
    with pytest.raises(NonFiniteError, match="of the ema is not finite at step 8"):
        list(records)
    assert not (place / "best.json").exists()
