# SPDX-License-Identifier: Apache-2.0
"""How fast a solver's error falls with the number of moves: the test a new solver has to pass against an exact world.

A rule of order p ends within C / moves^p of the exact probability flow. Multistep rules need a history: started cold
they spend their first moves at a lower order, which can hide their own, so their history is taken from the exact path
(`seeded` moves of it). Errors are root mean squares over samples and dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ornstein.model.denoiser import Denoiser
from ornstein.process.level import Level
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Bound, Solver
from ornstein.sample.runge_kutta import RK4, InLogSnr, RungeKutta


def flow(model: Denoiser, x: Tensor, t: Level, s: Level, moves: int = 512) -> Tensor:
    """The probability flow from x at level t to level s, by the classical fourth-order rule in log-SNR.

    Args:
        model: an exact denoiser.
        x: `(batch, ...)`; float64, for an error below 1e-10.
        t: level of x, of floats, with finite log-SNR.
        s: level to go to, likewise.
        moves: equal steps in log-SNR.
    """
    start, end = float(t.log_snr), float(s.log_snr)
    schedule = model.process.schedule
    inner = (schedule.at_log_snr(start + (end - start) * i / moves) for i in range(1, moves))
    return endpoint(model, RungeKutta(RK4, InLogSnr()), (t, *inner, s), lambda _: x)


def endpoint(model: Denoiser, solver: Solver, plan: tuple[Level, ...], exact: Callable[[Level], Tensor], seeded: int = 0,
             forget: Callable[[Any], Any] = lambda state: state) -> Tensor:  # fmt: skip
    """Where a deterministic solver ends on a plan of finite log-SNRs.

    Args:
        model: an exact denoiser.
        solver: the rule; it is stepped directly, so that no end is taken off its hands.
        plan: levels from start to end.
        exact: the exact path; asked at the start, and at the further nodes of the seeded moves.
        seeded: moves made only for the state they leave, each from the exact path.
        forget: takes out of the state of a seeded move what would be wrong after it: a correction of the exact path.
    """
    bound, state, x = Bound(model, None), solver.init(plan), exact(plan[0])
    noise = SampleNoise(range(len(x)))
    with torch.no_grad():
        for i in range(len(plan) - 1):
            advance = solver.step(bound, x, plan[i:], state, noise.move(i))
            x, state = (exact(plan[i + 1]), forget(advance.state)) if i < seeded else (advance.x, advance.state)
    return x


def rms(error: Tensor) -> float:
    """Root mean square over samples and dimensions."""
    return float(error.square().mean().sqrt())


def observed_order(moves: Sequence[int], errors: Sequence[float]) -> float:
    """Minus the slope of log error against log moves, by least squares."""
    u, v = torch.tensor([[math.log(m), math.log(e)] for m, e in zip(moves, errors, strict=True)], dtype=torch.float64).T
    u = u - u.mean()
    return -float((u @ v) / (u @ u))
