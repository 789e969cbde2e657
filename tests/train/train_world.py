# SPDX-License-Identifier: Apache-2.0
"""A tiny world for the tests of this room: three clusters in the plane and a small perceptron, 1 to 3 ms per step."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.base.errors import OrnsteinError
from ornstein.base.keys import Keys, generator_of, seed_of
from ornstein.codec.pixels import Codec, Coordinates
from ornstein.data.dataset import Dataset, ScanReport, Split
from ornstein.model.denoiser import Model
from ornstein.model.prediction import V
from ornstein.network.mlp import MLP
from ornstein.objective.matching import Matching
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.times import Stratified
from ornstein.objective.weighting import Simple
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import Cosine
from ornstein.train.checkpoint import steps_in
from ornstein.train.loop import Trainer
from ornstein.train.settings import TrainSettings

CLASSES = 3
DIFFERS = ("times.jsonl", "lock")


class Doubles(Codec):
    """Coordinates in float64, so that sums in another order agree to 1e-15."""

    def encode(self, raw: Tensor) -> Tensor:
        return raw.to(torch.float64)

    def decode(self, x0: Tensor) -> Tensor:
        return x0.detach()


def points(n: int, key: str) -> Dataset:
    labels = torch.arange(n) % CLASSES
    angle = labels * 2.1
    centres = torch.stack([angle.cos(), angle.sin()], 1)
    return Dataset(centres + 0.1 * torch.randn(n, 2, generator=generator_of("points", key)), labels, ("a", "b", "c"), "points")


def split(train: int = 24, test: int = 12) -> Split:
    return Split(points(train, "train"), points(test, "test"), ScanReport())


def network(seed: int = 0, width: int = 16, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("network", seed))
        made: nn.Module = MLP(dim=2, width=width, depth=1, classes=CLASSES)
        for parameter in made.parameters():  # the output map starts at zero, which would hide differences
            parameter.data += 0.05 * torch.randn(parameter.shape)
    return WithDropout(made, dropout) if dropout else made


class WithDropout(nn.Module):
    def __init__(self, inner: nn.Module, probability: float) -> None:
        super().__init__()
        self.inner, self.dropout = inner, nn.Dropout(probability)

    def forward(self, x: Tensor, features: Tensor, cond: Any) -> Tensor:
        y: Tensor = self.inner(self.dropout(x), features, cond)
        return y


def settings(**changes: Any) -> TrainSettings:
    plain = TrainSettings(
        **{"steps": 10, "batch_size": 8, "warmup": 3, "learning_rate": 1e-2, "ema_decay": 0.9, "seed": 3, "device": "cpu"},
        **{"checkpoint_every": 4, "evaluate_every": 5, "log_every": 2, "keep": 2, "max_skips": 3},
    )
    return dataclasses.replace(plain, **changes)


def objective(strata: int = 8) -> Matching:
    return Matching(Stratified(Cosine(), strata), Simple(), condition_drop=0.2)


class Spy(Objective):
    """The usual objective, which tells `act` the number of the call (from 0) and lets it change the loss."""

    def __init__(self, act: Callable[[int, LossRecord], LossRecord | None], inner: Objective | None = None) -> None:
        self.act, self.inner, self.calls = act, inner or objective(), 0

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        record, state = self.inner(model, batch, keys, progress, state)
        if torch.is_grad_enabled():
            self.calls += 1
            record = self.act(self.calls - 1, record) or record
        return record, state


def trainer(folder: Path, *, of: Objective | None = None, codec: Codec | None = None, data: Split | None = None, **more: Any) -> Trainer:
    """A trainer in the tiny world; `net` and `preview` as named, every other word is a setting."""
    net, preview = more.pop("net", None), more.pop("preview", None)
    chosen = settings(**more)
    model = Model(net or network(), GaussianProcess(Cosine()), V(), chosen.precision)
    identity = {"recipe": "0123456789abcdef", "ornstein": "test"}
    return Trainer(model, of or objective(), codec or Coordinates(), data or split(), chosen, folder, identity, preview)


def run(made: Trainer, resume: bool = False) -> list[dict[str, Any]]:
    """Train to the end; the records."""
    made.restore() if resume else made.start()
    return list(made.records())


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a run folder that must not depend on when and how often the run was interrupted."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in DIFFERS)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def ending(folder: Path, step: int = 10) -> dict[str, bytes]:
    """Weights, average, optimiser, state, log and best of a finished run: equal to the bit however it was interrupted."""
    files = contents(folder)
    return {name: files[name] for name in files if name in ("metrics.jsonl", "best.json") or name.startswith(f"checkpoints/step-{step}/")}


def steps_of(folder: Path) -> list[int]:
    """Steps of which a run has checkpoints."""
    return steps_in(folder / "checkpoints")


def leftovers(folder: Path) -> list[Path]:
    """What an interrupted write left."""
    return list(folder.rglob("*.tmp-*"))


_WORDS = (
    b'[ ] { } , : " 0 1 -1 4 9e99 1e999 NaN null true "a" "" [] {} "F32" "F64" "BOOL" "shape" "files" "size" 18446744073709551616'.split()
)


def splice(text: bytes, chance: random.Random) -> bytes:
    """JSON with a few words put in, cut out, doubled or moved, and now and then a byte changed."""
    for _ in range(chance.randrange(1, 4)):
        start = chance.randrange(len(text) + 1)
        end = min(start + chance.randrange(1, 12), len(text))
        kind = chance.randrange(5)
        if kind == 0:
            text = text[:start] + chance.choice(_WORDS) + text[start:]
        elif kind == 1:
            text = text[:start] + chance.choice(_WORDS) + text[end:]
        elif kind == 2:
            text = text[:start] + text[end:]
        elif kind == 3:
            text = text[:end] + text[start:end] + text[end:]
        else:
            text = text[:start] + bytes([chance.randrange(256)]) + text[start + 1 :]
    return text


# -- other processes ------------------------------------------------------------------------------------------------------


def child(work: Callable[..., None], *arguments: Any) -> Any:
    """Start `work` in a process forked from one that has imported torch but never computed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "torch._dynamo", "ornstein.network.mlp", "ornstein.train.loop"])
    process = context.Process(target=_in_child, args=(work, *arguments))
    process.start()
    return process


def _in_child(work: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(1)
    try:
        work(*arguments)
    except OrnsteinError as error:
        with contextlib.suppress(OSError):  # a limit on file sizes holds for a captured stream as well
            sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


CALLS = ("fsync", "rename", "replace", "unlink", "ftruncate", "mkdir")


def die_at(call: int) -> Callable[[], int]:
    """Let this process kill itself at its k-th call that changes what is on the disk; returns a count of those made."""
    made = 0
    for name in CALLS:

        def hooked(*arguments: Any, original: Any = getattr(os, name), **named: Any) -> Any:
            nonlocal made
            made += 1
            if made == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        setattr(os, name, hooked)
    return lambda: made
