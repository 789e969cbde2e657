# SPDX-License-Identifier: Apache-2.0
"""The loop: equal to the mathematics written out, independent of how a batch is cut, and exact about what it says."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from train_world import CLASSES, Doubles, Spy, child, contents, ending, network, objective, points, run, settings, split, trainer

from ornstein.base.errors import CheckpointError, Interrupted, MissingExtra, UsageError
from ornstein.base.keys import Keys
from ornstein.data.order import indices
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.objective.record import Batch, LossRecord
from ornstein.train.checkpoint import load_weights, read, steps_in
from ornstein.train.loop import Trainer
from ornstein.train.rate import learning_rate


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _weights(made: Trainer) -> list[torch.Tensor]:
    return [tensor.detach().clone() for part in made.state.tensors().values() for tensor in part.values()]


def _equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# -- against a loop written out by hand -----------------------------------------------------------------------------------


def test_equals_adamw_written_out(place: Path) -> None:
    """Ten updates of AdamW, clipping, schedule and average from their formulas, in float64."""
    net, chosen = network().double(), settings(weight_decay=0.1, clip=0.5)
    made = trainer(place, net=network().double(), codec=Doubles(), weight_decay=0.1, clip=0.5)
    records = run(made)
    data, loss_of = split().train, objective()
    weights = dict(net.named_parameters())
    mean = {name: torch.zeros_like(w) for name, w in weights.items()}
    square = {name: torch.zeros_like(w) for name, w in weights.items()}
    average = {name: w.detach().clone() for name, w in weights.items()}
    model = Model(net, made.model.process, made.model.prediction)
    seen = []
    for n in range(10):
        rows = indices(24, chosen.seed, 8 * n, 8)
        assert data.labels is not None
        batch = Batch(data.raw[rows].double(), Cond(label=data.labels[rows]))
        net.zero_grad()
        record, _ = loss_of(model, batch, Keys.for_draws(chosen.seed, 8 * n, 8, "train"), n / 10, {})
        record.losses["model"].backward()
        norm = torch.sqrt(sum((w.grad.square().sum() for w in weights.values()), torch.zeros(())))
        rate, d = learning_rate(chosen, n), min(0.9, (1 + n) / (10 + n))
        seen.append((record.losses["model"].item(), float(norm)))
        for name, w in weights.items():
            g = w.grad * min(1.0, 0.5 / (float(norm) + 1e-6))
            mean[name] = 0.9 * mean[name] + 0.1 * g
            square[name] = 0.99 * square[name] + 0.01 * g * g
            decay = 0.1 if w.ndim == 2 and "classes" not in name else 0.0
            step = mean[name] / (1 - 0.9 ** (n + 1)) / ((square[name] / (1 - 0.99 ** (n + 1))).sqrt() + 1e-8)
            w.data = w.data - rate * decay * w.data - rate * step
            average[name] = d * average[name] + (1 - d) * w.data
    assert max(norm for _, norm in seen) > 0.5 > min(norm for _, norm in seen)  # clipping acted, and not always
    for name, w in made.weights.named_parameters():
        assert torch.allclose(w, weights[name], rtol=1e-10, atol=1e-12), name
        assert torch.allclose(made.state.ema.network.get_parameter(name), average[name], rtol=1e-10, atol=1e-12), name
    logs = [record for record in records if record["event"] == "log"]
    for k, log in enumerate(logs):
        assert log["loss"] == pytest.approx((seen[2 * k][0] + seen[2 * k + 1][0]) / 2, rel=1e-9)
        assert log["grad_norm"] == pytest.approx((seen[2 * k][1] + seen[2 * k + 1][1]) / 2, rel=1e-9)
        assert log["lr"] == learning_rate(chosen, 2 * k + 1)


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_accumulation_equals_one_batch(place: Path, micro: int) -> None:
    whole = trainer(place / "whole", net=network().double(), codec=Doubles())
    cut = trainer(place / "cut", net=network().double(), codec=Doubles(), micro_batch=micro)
    run(whole)
    run(cut)
    for one, other in zip(_weights(whole), _weights(cut), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)
    for one, other in zip(_lines(place / "whole"), _lines(place / "cut"), strict=True):
        for key in ("loss", "grad_norm", "heldout", "train_fixed"):
            if key in one:
                assert other[key] == pytest.approx(one[key], rel=1e-12)


def test_the_same_run_twice_is_the_same_bytes(place: Path) -> None:
    run(trainer(place / "a"))
    torch.manual_seed(99)  # the trainer must not read the global generator
    torch.rand(5)
    run(trainer(place / "b"))
    assert contents(place / "a") == contents(place / "b")
    run(trainer(place / "c", seed=4))
    assert contents(place / "a") != contents(place / "c")


def test_dropout_is_keyed_and_leaves_the_global_generator_alone(place: Path) -> None:
    state = torch.random.get_rng_state()
    run(trainer(place / "a", net=network(dropout=0.5)))
    assert torch.equal(state, torch.random.get_rng_state())
    torch.rand(3)
    run(trainer(place / "b", net=network(dropout=0.5)))
    run(trainer(place / "c", net=network(dropout=0.1)))
    run(trainer(place / "d", net=network(dropout=0.5).eval()))  # as a network is that has been sampled from
    assert contents(place / "a") == contents(place / "d")
    assert contents(place / "a") == contents(place / "b")
    assert contents(place / "a") != contents(place / "c")


def test_dropout_masks_differ_between_batches(place: Path) -> None:
    masks = []
    net = network(dropout=0.5)
    net.dropout.register_forward_hook(lambda module, inputs, y: masks.append((y == 0).clone()) if module.training else None)
    run(trainer(place, net=net, steps=4))
    assert len(masks) == 4
    assert not any(torch.equal(masks[0], mask) for mask in masks[1:])


def test_training_learns(place: Path) -> None:
    records = run(trainer(place, net=network(width=32), steps=300, warmup=10, log_every=50, checkpoint_every=300, evaluate_every=300))
    losses = [record["loss"] for record in records if record["event"] == "log"]
    assert losses[-1] < 0.75 * losses[0]


# -- records --------------------------------------------------------------------------------------------------------------


def test_what_is_yielded_and_written(place: Path) -> None:
    records = run(trainer(place, steps=9, log_every=4, evaluate_every=6, checkpoint_every=5))
    shape = [(record["event"], record["step"]) for record in records]
    assert shape[0] == ("start", 0)
    assert shape[-1] == ("finished", 9)
    assert [step for event, step in shape if event == "log"] == [4, 8, 9]
    assert [step for event, step in shape if event == "evaluation"] == [6, 9]
    saved = [step for event, step in shape if event == "checkpoint"]
    assert {5, 6, 9} <= set(saved)
    assert len(saved) == len(set(saved))
    lines = _lines(place)
    assert [line["step"] for line in lines if "loss" in line] == [4, 8, 9]
    assert all(line.keys() == {"step", "loss", "grad_norm", "lr", "skipped"} for line in lines if "loss" in line)
    evaluations = [line for line in lines if "heldout" in line]
    assert all(line.keys() == {"step", "heldout", "train_fixed", "by_level", "memorised", "note"} for line in evaluations)
    assert "second" not in (place / "metrics.jsonl").read_text()
    times = [json.loads(line) for line in (place / "times.jsonl").read_text().splitlines()]
    assert [time["step"] for time in times] == [4, 8, 9]
    assert 0 < times[0]["seconds"] <= times[1]["seconds"] <= times[2]["seconds"]


def test_the_best_checkpoint_is_kept_and_named(place: Path) -> None:
    often = {"steps": 60, "evaluate_every": 6, "checkpoint_every": 4, "keep": 1}
    records = run(trainer(place, data=split(train=6), learning_rate=0.05, decay="constant", **often))
    heldout = {record["step"]: record["heldout"] for record in records if record["event"] == "evaluation"}
    best = min(heldout, key=lambda step: heldout[step])
    assert 6 < best < 60
    assert json.loads((place / "best.json").read_text()) == {"step": best, "heldout": heldout[best]}
    assert steps_in(place / "checkpoints") == [best, 60]
    assert load_weights(place)[1]["step"] == best
    assert records[-1]["best_step"] == best


@pytest.mark.parametrize("stale", ['{"step": 5, "heldout": 9.0}', "", None])
def test_a_best_that_a_crash_left_behind_is_put_right(place: Path, stale: str | None) -> None:
    """A kill between saving the best checkpoint and naming it."""
    run(trainer(place))
    named = (place / "best.json").read_bytes()
    (place / "best.json").unlink() if stale is None else (place / "best.json").write_text(stale)
    made = trainer(place)
    made.restore()
    made.close()
    assert (place / "best.json").read_bytes() == named
    (place / "checkpoints").rename(place / "elsewhere")
    made = trainer(place)
    made.restore()
    made.close()
    assert not (place / "best.json").exists()


def test_seconds_go_on_after_a_pause(place: Path) -> None:
    run(trainer(place, steps=4))
    (place / "times.jsonl").write_text('{"step": 4, "seconds": 1000.0}\n')
    records = run(trainer(place, steps=8), resume=True)
    assert all(record["seconds"] > 1000.0 for record in records if record["event"] == "log")
    (place / "times.jsonl").write_text("no JSON\n")
    assert run(trainer(place, steps=12), resume=True)[-1]["event"] == "finished"


def test_max_minutes_saves_and_says_so(place: Path) -> None:
    run(trainer(place / "whole"))
    records = run(trainer(place / "cut", max_minutes=0.0))
    assert records[-1] == {"event": "time limit", "step": 0, "minutes": 0.0}
    assert records[-2]["event"] == "checkpoint"
    run(trainer(place / "cut"), resume=True)
    assert contents(place / "cut")["metrics.jsonl"] == contents(place / "whole")["metrics.jsonl"]


# -- beginning -----------------------------------------------------------------------------------------------------------------


def test_a_folder_with_checkpoints_is_not_begun_again(place: Path) -> None:
    run(trainer(place))
    before = contents(place)
    made = trainer(place)
    with pytest.raises(UsageError, match="--resume"):
        made.start()
    made.close()
    assert contents(place) == before


def test_resuming_an_empty_folder_starts_at_zero(place: Path) -> None:
    (place / "run").mkdir()
    (place / "run" / "metrics.jsonl").write_text('{"step": 2, "left": "by a run that never saved"}\n')
    assert trainer(place / "run").restore() == 0
    run(trainer(place / "run"), resume=True)
    run(trainer(place / "other"))
    assert contents(place / "run") == contents(place / "other")


def test_resuming_a_finished_run_changes_nothing(place: Path) -> None:
    run(trainer(place))
    before = contents(place)
    assert [record["event"] for record in run(trainer(place), resume=True)] == ["start", "finished"]
    assert contents(place) == before


def test_extending_a_finished_run(place: Path) -> None:
    run(trainer(place, decay="constant", steps=10))
    run(trainer(place, decay="constant", steps=20), resume=True)
    run(trainer(place / "whole", decay="constant", steps=20))
    assert (place / "checkpoints" / "step-20" / "model.safetensors").read_bytes() == (
        place / "whole" / "checkpoints" / "step-20" / "model.safetensors"
    ).read_bytes()
    assert [line["step"] for line in _lines(place) if "loss" in line] == list(range(2, 21, 2))


def test_another_network_other_data_and_another_precision_do_not_resume(place: Path) -> None:
    run(trainer(place))
    for change, says in (
        ({"net": network(width=20)}, r"step-10.*shape"),
        ({"net": nn.Sequential(nn.Linear(2, 2))}, "lacks the tensor"),
        ({"data": split(train=27)}, "other data"),
        ({"data": dataclasses.replace(split(), train=points(24, "else"))}, "other data"),
    ):
        made = trainer(place, **change)
        with pytest.raises(CheckpointError, match=says):
            made.restore()
        made.close()
    assert steps_in(place / "checkpoints") == [5, 8, 10]  # nothing was set aside


def test_a_broken_newest_checkpoint_is_named_set_aside_and_made_again(place: Path) -> None:
    run(trainer(place / "whole"))
    run(trainer(place / "cut"))
    (place / "cut" / "checkpoints" / "step-10" / "ema.safetensors").write_bytes(b"")
    made = trainer(place / "cut")
    assert made.restore() == 8
    records = list(made.records())
    assert "step-10/ema.safetensors" in records[0]["warnings"][0]
    assert "step-10.invalid-1" in records[0]["warnings"][1]
    again = contents(place / "cut")
    assert contents(place / "whole") == {name: data for name, data in again.items() if "invalid" not in name}


def test_another_torch_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(trainer(place, steps=4))
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    assert any("9.9.9" in warning for warning in run(trainer(place, steps=6), resume=True)[0]["warnings"])


def test_the_counter_of_the_average_survives(place: Path) -> None:
    run(trainer(place, steps=6))
    made = trainer(place, steps=8)
    made.restore()
    assert made.state.ema.updates == 6
    assert made.state.ema.present_decay == 7 / 16
    made.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("ema_updates"),
        lambda s: s.update(ema_updates=-1),
        lambda s: s.update(skipped="0"),
        lambda s: s.update(step=True),
        lambda s: s.update(loss_sum=0),
        lambda s: s.pop("overfitting"),
        lambda s: s["overfitting"].update(worse=None),
        lambda s: s["overfitting"].update(best_step=None),
        lambda s: s.update(objective=[]),
        lambda s: s.pop("scaler"),
    ],
)
def test_every_number_of_the_state_is_required(place: Path, change: Any) -> None:
    made = trainer(place, steps=6)
    run(made)
    found = read(place / "checkpoints" / "step-6")
    made.state.check(found)
    change(found.state)
    with pytest.raises(CheckpointError, match=r"state\.json"):
        made.state.check(found)


def test_one_trainer_per_folder_in_this_and_other_processes(place: Path) -> None:
    first = trainer(place)
    with pytest.raises(UsageError, match="Another trainer"):
        trainer(place)
    process = child(_train_alone, place)
    process.join(60)
    assert process.exitcode == 2
    first.close()
    process = child(_train_alone, place)
    process.join(60)
    assert process.exitcode == 0


def _train_alone(folder: Path) -> None:
    run(trainer(folder, steps=1))


def test_leaving_the_loop_early_frees_the_folder(place: Path) -> None:
    made = trainer(place)
    made.start()
    records = made.records()
    next(records)
    records.close()
    assert run(trainer(place), resume=True)[-1]["event"] == "finished"


# -- objectives ---------------------------------------------------------------------------------------------------------------------


class Remembering(Spy):
    """An objective whose state is a counter and a tensor, both of which enter the loss."""

    def __init__(self, act: Callable[[int, LossRecord], LossRecord | None] = lambda call, record: None) -> None:
        super().__init__(act)

    def init(self) -> dict[str, Any]:
        return {"count": 0, "trace": torch.zeros(2)}

    def __call__(self, model: Any, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        record, _ = super().__call__(model, batch, keys, progress, {})
        if torch.is_grad_enabled():
            loss = record.losses["model"] * (1 + 0.01 * state["count"] + state["trace"].sum())
            state = {"count": state["count"] + 1, "trace": 0.5 * state["trace"] + 0.01}
            record = dataclasses.replace(record, losses={"model": loss})
        return record, state


def test_the_state_of_an_objective_is_part_of_the_checkpoint(place: Path) -> None:
    run(trainer(place / "whole", of=Remembering(), steps=12))
    run(trainer(place / "cut", of=Remembering(), steps=12, max_minutes=0.0))
    stop = trainer(place / "cut", of=Remembering(), steps=12)
    stop.restore()
    for record in stop.records():
        if record["event"] == "checkpoint" and record["step"] == 8:
            break
    stop.close()
    made = trainer(place / "cut", of=Remembering(), steps=12)
    assert made.restore() == 8
    assert made.state.objective["count"] == 8
    list(made.records())
    assert ending(place / "whole", 12) == ending(place / "cut", 12)


def test_a_batch_left_undone_leaves_no_trace_in_the_state_of_the_objective(place: Path) -> None:
    def stop(call: int, record: LossRecord) -> None:
        if call == 8:  # the first of two micro-batches of step 5
            os.kill(os.getpid(), signal.SIGTERM)

    run(trainer(place / "whole", of=Remembering(), micro_batch=4))
    made = trainer(place / "cut", of=Remembering(stop), micro_batch=4)
    with pytest.raises(Interrupted):
        run(made)
    assert made.state.objective["count"] == 8
    run(trainer(place / "cut", of=Remembering(), micro_batch=4), resume=True)
    assert ending(place / "cut") == ending(place / "whole")


def test_a_skipped_batch_leaves_no_trace_in_the_state_of_the_objective(place: Path) -> None:
    def harm(call: int, record: LossRecord) -> LossRecord | None:
        return dataclasses.replace(record, losses={"model": record.losses["model"] / 0}) if call == 3 else None

    made = trainer(place, of=Remembering(harm))
    run(made)
    assert made.state.progress.skipped == 1
    assert made.state.objective["count"] == 9


# -- TensorBoard --------------------------------------------------------------------------------------------------------------------


def test_tensorboard_is_an_extra(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    made = trainer(place, tensorboard=True)
    with pytest.raises(MissingExtra, match=r"ornstein\[tensorboard\]"):
        made.start()
    made.close()


class BrokenWriter:
    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.calls = 0

    def add_scalar(self, *arguments: Any) -> None:
        raise RuntimeError("tracker is down")

    close = add_scalar


def test_a_tracker_that_fails_stops_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        SummaryWriter = BrokenWriter

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", Module)
    assert run(trainer(place, tensorboard=True))[-1]["event"] == "finished"


def test_tensorboard_gets_the_curves(place: Path) -> None:
    pytest.importorskip("tensorboard")
    run(trainer(place, tensorboard=True))
    events = list((place / "tensorboard").glob("events.*"))
    assert len(events) == 1
    assert b"grad_norm" in events[0].read_bytes()
    assert b"heldout" in events[0].read_bytes()


def test_labels_reach_the_network(place: Path) -> None:
    seen: list[torch.Tensor] = []
    net = network()
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2].label))
    run(trainer(place, net=net, steps=2))
    labels = torch.cat(seen)
    assert set(labels.tolist()) <= {-1, *range(CLASSES)}
    assert (labels == -1).any()
