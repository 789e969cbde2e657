# SPDX-License-Identifier: Apache-2.0
r"""Linear multistep rules as tables of coefficients, and the one class that walks along such a table.

Every rule that reuses old evaluations at fixed levels is, move by move, one row:

    h_i  = p x_i + r x_0(x_i)                       what is remembered of the evaluation at node i
    x_s  = keep x_t + noise z + sum_k w_k h_{i-k}   newest first

and, where a corrector follows (UniC: Zhao et al. 2023, arXiv 2302.04867, section 3.1), the same move made again once
h_{i+1} is known, with weights w'_0 h_{i+1} + w'_1 h_i + ...: it costs no evaluation, since h_{i+1} is needed anyway.
A rule is a function plan -> rows; where its coefficients come from (`exponential`, a table, a fit) is its own business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import Noise
from ornstein.process.level import Level
from ornstein.sample.protocol import Advance, Bound, Solver


class Row(NamedTuple):
    """Coefficients of one move of a linear multistep rule, from node i of a plan to node i + 1.

    Args:
        keep: factor of x_t.
        weights: factors of what is remembered of the evaluations at nodes i, i - 1, ...
        read: (p, r) with p x + r x_0 what is remembered of the evaluation at node i; None for x_0 itself.
        noise: standard deviation of the fresh noise.
        corrected: factors at nodes i + 1, i, i - 1, ... by which the move is made again; empty where it stands.
    """

    keep: float
    weights: tuple[float, ...]
    read: tuple[float, float] | None = None
    noise: float = 0.0
    corrected: tuple[float, ...] = ()


Rule: TypeAlias = Callable[[tuple[Level, ...]], Sequence[Row]]
"""Levels of a plan, one more than moves -> a row per move."""


class History(NamedTuple):
    """Where a trajectory stands in its table.

    Args:
        rows: the table.
        depth: how many past evaluations it looks back on.
        at: number of the next move.
        past: what is remembered of the last evaluations, newest first.
        base: keep x_t + noise z of the last move, where it will be corrected.
    """

    rows: tuple[Row, ...]
    depth: int
    at: int
    past: tuple[Tensor, ...]
    base: Tensor | None


class Multistep(Solver):
    """A linear multistep rule.

    Args:
        rule: plan -> rows.
        order: order of convergence of the rule.
        stochastic: whether rows have noise.
        ends: ends of the path at which the rule has finite rows.
    """

    def __init__(self, rule: Rule, order: int, stochastic: bool = False, ends: frozenset[str] = frozenset()) -> None:
        self.rule, self.order, self.stochastic, self.ends = rule, order, stochastic, ends

    def init(self, plan: tuple[Level, ...]) -> History:
        """All rows of the plan."""
        rows = _rows(self.rule, plan)
        depth = max(max(len(row.weights), len(row.corrected)) for row in rows) - 1
        return History(rows, depth, 0, (), None)

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: History, noise: Noise) -> Advance:
        """One move; see `Solver.step`."""
        t, s = plan[:2]
        estimate: Gaussian = model(x, t, s)
        rows, depth, at, past, base = state
        row = rows[at]
        new = estimate.x0 if row.read is None else (x * row.read[0]).add_(estimate.x0, alpha=row.read[1])
        if base is not None:
            x = _sum(base, rows[at - 1].corrected, (new, *past))
        moved = x * row.keep
        if row.noise:
            moved.add_(noise.normal(x), alpha=row.noise)
        base = moved.clone() if row.corrected else None
        moved.add_(new, alpha=row.weights[0])
        for weight, old in zip(row.weights[1:], past, strict=False):
            moved.add_(old, alpha=weight)
        kept = (new, *past[: depth - 1]) if depth else ()
        return Advance(moved, s, 1, History(rows, depth, at + 1, kept, base), estimate, 1)


@lru_cache(maxsize=32)
def _rows(rule: Rule, plan: tuple[Level, ...]) -> tuple[Row, ...]:
    """The rule's rows; remembered, since every micro-batch of a draw asks for them again."""
    return tuple(rule(plan))


def _sum(base: Tensor, weights: tuple[float, ...], values: tuple[Tensor, ...]) -> Tensor:
    """base + sum_k weights_k values_k."""
    total = base.add(values[0], alpha=weights[0])
    for weight, value in zip(weights[1:], values[1:], strict=False):
        total.add_(value, alpha=weight)
    return total


class Table:
    """A rule whose rows are given and not worked out: those of a fitted solver.

    Args:
        levels: sigma/alpha of the nodes, one more than there are rows.
        rows: a row per move.
    """

    def __init__(self, levels: Sequence[float], rows: Sequence[Row]) -> None:
        self.levels, self.rows = tuple(levels), tuple(rows)

    def __call__(self, plan: tuple[Level, ...]) -> tuple[Row, ...]:
        """The rows. Raises UsageError where the plan has other nodes than those the rows are for."""
        asked = [float(level.noise_to_signal) for level in plan]
        if len(asked) != len(self.levels) or any(abs(a - b) > 1e-6 * b for a, b in zip(asked, self.levels, strict=True)):
            what = f"The solver's rows are for {len(self.rows)} moves at noise levels of their own, and the plan has others."
            raise UsageError(what, "Sample with the plan that was stored with the solver.")
        return self.rows


_ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def ipndm(order: int = 4) -> Multistep:
    """iPNDM: Adams-Bashforth's constants on eps, whatever the steps (Zhang & Chen 2023, arXiv 2204.13902, section 3.3).

    The constants are those of equal steps in sigma/alpha. On other plans the order is 2 at most, and yet the rule is a
    strong one at few evaluations (Zhou et al. 2024, arXiv 2312.00094): its extrapolation is cautious where steps shrink.
    """
    return Multistep(AdamsBashforth(order), order)


class AdamsBashforth:
    """Rows of the Adams-Bashforth rule with constant coefficients in sigma/alpha; lower orders on the first moves."""

    def __init__(self, order: int) -> None:
        if not 1 <= order <= len(_ADAMS_BASHFORTH):
            raise UsageError(f"iPNDM has orders 1 to {len(_ADAMS_BASHFORTH)}, not {order}.", "Choose one of them.")
        self.order = order

    def __call__(self, plan: tuple[Level, ...]) -> list[Row]:
        """A row per move, on eps = (x - alpha x_0)/sigma."""
        rows = []
        for i, (t, s) in enumerate(pairwise(plan)):
            step = float(s.sigma - t.sigma * s.alpha / t.alpha)  # alpha_s times the step in sigma/alpha
            weights = _ADAMS_BASHFORTH[min(self.order, i + 1) - 1]
            read = (1.0 / float(t.sigma), -float(t.alpha / t.sigma))
            rows.append(Row(float(s.alpha / t.alpha), tuple(step * weight for weight in weights), read))
        return rows
