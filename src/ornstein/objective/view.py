# SPDX-License-Identifier: Apache-2.0
"""What every objective of this room looks at: a batch corrupted at drawn times."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.objective.coupling import Coupling, Independent
from ornstein.objective.record import Batch
from ornstein.objective.times import TimeSampler
from ornstein.process.level import Level


class View(NamedTuple):
    """A corrupted batch.

    Args:
        x0: clean data, `(batch, ...)`.
        cond: what the network is told of it, some of it dropped.
        t: times, float64 `(batch,)`.
        importance: their importance weights, float64 `(batch,)`.
        level: the levels at these times.
        noise: eps, like x0.
        x: alpha x_0 + sigma eps.
    """

    x0: Tensor
    cond: Cond
    t: Tensor
    importance: Tensor
    level: Level
    noise: Tensor
    x: Tensor


def view_of(
    model: Model, batch: Batch, keys: Keys, times: TimeSampler, condition_drop: float = 0.0, coupling: Coupling = Independent()
) -> View:
    """Corrupt a batch; every random number comes from the keys (purposes "time", "noise" and "drop")."""
    x0, cond = batch.x0, batch.cond
    t, importance = times(keys.of("time"))
    level = model.process.schedule.at(t)
    noise = coupling(x0, model.process.draw(x0.shape[1:], keys.of("noise")).to(x0), cond)
    if condition_drop > 0.0:
        cond = cond.drop(condition_drop, keys.of("drop"))
    return View(x0, cond, t, importance, level, noise, model.process.corrupt(x0, noise, level))
