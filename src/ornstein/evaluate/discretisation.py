# SPDX-License-Identifier: Apache-2.0
"""What a solver's steps cost on a model's own flow: the same noise, coarse against fine.

The error of a solver with n moves is the root mean square, over samples and dimensions, of its end point minus that of a
reference with many moves, over the standard deviation of the data. Reference and solver run from the same x on the same kind
of plan, so the model's own errors, and the last step into clean data, cancel. The reference against itself with half its
moves says down to where errors mean anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.sample.convergence import observed_order, rms
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Plan, Solver


class Start(NamedTuple):
    """Where the samples of a comparison start: model, their x at the first level, their noise and condition."""

    model: Denoiser
    x: Tensor
    noise: SampleNoise
    cond: Cond | None = None


class Cost(NamedTuple):
    """One solver with one number of moves: denoiser calls and error."""

    moves: int
    evaluations: int
    error: float


class Errors(NamedTuple):
    """All that was measured.

    Args:
        costs: by solver, in order of moves.
        floor: error of the reference with half its moves: errors below about this mean nothing.
        reference: moves of the reference.
    """

    costs: dict[str, list[Cost]]
    floor: float
    reference: int


def end(start: Start, solver: Solver, plan: Plan) -> tuple[Tensor, int]:
    """End point, float64 on the CPU, and denoiser calls."""
    [last] = deque(sample(start.model, solver, plan, start.x, start.noise, start.cond), maxlen=1)
    return last.x.double().cpu(), last.evaluations


def errors(
    start: Start,
    solvers: Mapping[str, Solver],
    plan: Callable[[int], Plan],
    moves: Sequence[int],
    reference: Solver,
    fine: int,
    std: float,
    tell: Callable[[str], None] = lambda _: None,
) -> Errors:
    """Errors of deterministic solvers.

    Args:
        start: the samples.
        solvers: by name.
        plan: levels by number of moves.
        moves: numbers to measure, ascending.
        reference: a deterministic solver.
        fine: its moves, more than any in `moves`.
        std: standard deviation of the data, the unit of the errors.
        tell: is told what is being measured.
    """
    tell("reference")
    exact, _ = end(start, reference, plan(fine))
    halved, _ = end(start, reference, plan(fine // 2))
    costs: dict[str, list[Cost]] = {}
    for name, solver in solvers.items():
        tell(name)
        costs[name] = []
        for count in moves:
            x, evaluations = end(start, solver, plan(count))
            costs[name].append(Cost(count, evaluations, rms(x - exact) / std))
    return Errors(costs, rms(halved - exact) / std, fine)


def order(costs: Sequence[Cost], floor: float = 0.0) -> float | None:
    """Slope of the error against the moves from where it falls steadily on: the last four above thrice the floor; None for too few."""
    clear = [cost for cost in costs if cost.error > 3.0 * floor][-4:]
    return observed_order([cost.moves for cost in clear], [cost.error for cost in clear]) if len(clear) >= 3 else None
