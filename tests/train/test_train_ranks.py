# SPDX-License-Identifier: Apache-2.0
"""Two processes over gloo train what one trains: R4 at its figures, and the files are written once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from train_world import Doubles, child, network, run, trainer

from ornstein.base.errors import UsageError
from ornstein.train.checkpoint import read
from ornstein.train.ranks import Ranks

STEPS = 40
CONFIG: dict[str, Any] = {"steps": STEPS, "batch_size": 8, "checkpoint_every": 20, "evaluate_every": 20, "log_every": 5}


def _alone(folder: Path, exact: bool, **more: Any) -> None:
    net = network().double() if exact else network()
    run(trainer(folder, net=net, codec=Doubles() if exact else None, **{**CONFIG, **more}), resume=True)


def _rank(rank: int, meeting: Path, folder: Path, exact: bool, more: dict[str, Any]) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        if rank:  # another start must not matter: rank 0's weights are sent
            with torch.no_grad():
                for parameter in (net := network(seed=9).to(torch.float64 if exact else torch.float32)).parameters():
                    parameter += 1.0
            run(trainer(folder, net=net, codec=Doubles() if exact else None, **{**CONFIG, **more}), resume=True)
        else:
            _alone(folder, exact, **more)
    finally:
        torch.distributed.destroy_process_group()


def _together(place: Path, folder: Path, exact: bool, **more: Any) -> list[int | None]:
    meeting = place / f"meeting-{len(list(place.iterdir()))}"
    processes = [child(_rank, rank, meeting, folder, exact, more) for rank in range(2)]
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def _difference(one: Path, other: Path, step: int = STEPS) -> float:
    a, b = (read(folder / "checkpoints" / f"step-{step}") for folder in (one, other))
    return max(float((a.tensors[part][name] - b.tensors[part][name]).abs().max()) for part in a.tensors for name in a.tensors[part])


@pytest.mark.parametrize(("exact", "micro", "within"), [(False, 4, 1e-6), (True, 1, 1e-12)])
def test_two_ranks_equal_one(place: Path, exact: bool, micro: int, within: float) -> None:
    _alone(place / "one", exact)
    assert _together(place, place / "two", exact, micro_batch=micro) == [0, 0]
    assert _difference(place / "one", place / "two") <= within
    rates = [[line["lr"] for line in _lines(folder) if "lr" in line] for folder in (place / "one", place / "two")]
    assert rates[0] == rates[1]
    assert [line["step"] for line in _lines(place / "two")] == [line["step"] for line in _lines(place / "one")]


def _lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_world_size_may_change_on_resume(place: Path) -> None:
    _alone(place / "one", True, decay="constant")
    _alone(place / "changed", True, decay="constant", steps=10)
    assert _together(place, place / "changed", True, decay="constant", steps=25) == [0, 0]
    _alone(place / "changed", True, decay="constant")
    assert _difference(place / "one", place / "changed") <= 1e-12


@pytest.mark.slow
def test_two_ranks_twice_are_bit_identical(place: Path) -> None:
    for name in ("a", "b"):
        assert _together(place, place / name, False, micro_batch=2) == [0, 0]
    assert _difference(place / "a", place / "b") == 0.0


def test_one_process_is_one_rank() -> None:
    ranks = Ranks.present()
    assert (ranks.rank, ranks.count, ranks.leads) == (0, 1, True)
    tensor = torch.ones(2)
    ranks.mean_([tensor])
    ranks.copy_first_([tensor])
    assert tensor.tolist() == [1.0, 1.0]
    assert ranks.any(True, torch.device("cpu"))
    assert not ranks.any(False, torch.device("cpu"))


def test_a_batch_that_ranks_cannot_share_is_refused_on_each(place: Path) -> None:
    assert _together(place, place / "run", False, batch_size=9) == [UsageError.exit_code] * 2
    assert not (place / "run" / "checkpoints").exists()
