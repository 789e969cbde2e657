# SPDX-License-Identifier: Apache-2.0
r"""Single-step exponential rules: DPM-Solver-2 and -3 on eps, DPM-Solver++(2S) and (3S) on x_0.

A move takes stages at lambda_t + c h. Each stage, and then the move itself, is a row of two points (`exponential`): the
start and the stage before, the straight line through which is integrated exactly against K. Stages at 1/3 and 2/3 give
order 3; one stage at 1/2, whose value alone stands for the whole move, gives order 2 (Lu et al. 2022, arXiv 2206.00927,
algorithms 1 and 2; arXiv 2211.01095, algorithm 1).
Nothing is remembered between moves, so steps may change at will.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import Noise
from ornstein.process.level import Level
from ornstein.sample.exponential import one_row
from ornstein.sample.multistep import Row
from ornstein.sample.protocol import Advance, Bound, Solver
from ornstein.sample.spaces import Data, Eps, Space

_STAGES = {2: (0.5,), 3: (1 / 3, 2 / 3)}


class SingleStep(Solver):
    """An exponential rule with inner stages.

    Args:
        space: what is integrated: `Data()` or `Eps()`.
        order: 2 or 3, the evaluations of a move.
    """

    def __init__(self, space: Space, order: int) -> None:
        if order not in _STAGES:
            raise UsageError(f"A single-step rule has order 2 or 3, not {order}.", "Choose one of them.")
        self.space = space
        self.order = self.stages = order

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: None, noise: Noise) -> Advance:
        """One move; see `Solver.step`."""
        t, s = plan[:2]
        start, end = float(t.half_log_snr), float(s.half_log_snr)
        inner = [model.process.schedule.at_log_snr(2.0 * (start + c * (end - start))) for c in _STAGES[self.order]]
        estimate: Gaussian = model(x, t, s)
        row = one_row(self.space, t, inner[0], (t,))
        first = _read(row, x, estimate.x0)
        moved = (x * row.keep).add_(first, alpha=row.weights[0])
        for at, level in pairwise((*inner, s)):
            estimate = model(moved, at, s)
            row = one_row(self.space, t, level, (at,) if self.order == 2 else (at, t))
            new = _read(row, moved, estimate.x0)
            moved = (x * row.keep).add_(new, alpha=row.weights[0])
            if len(row.weights) > 1:
                moved.add_(first, alpha=row.weights[1])
        return Advance(moved, s, 1, None, estimate, self.order)


def _read(row: Row, x: Tensor, x0: Tensor) -> Tensor:
    return x0 if row.read is None else (x * row.read[0]).add_(x0, alpha=row.read[1])


def dpm_solver(order: int = 2) -> SingleStep:
    """DPM-Solver-2 or -3: stages on eps."""
    return SingleStep(Eps(), order)


def dpm_solver_pp(order: int = 2) -> SingleStep:
    """DPM-Solver++(2S) or (3S): stages on x_0."""
    return SingleStep(Data(), order)
