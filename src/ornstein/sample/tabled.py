# SPDX-License-Identifier: Apache-2.0
r"""Multistep rules by their shares: coefficients that are of order one at every level and on every schedule.

A move that looks back on the estimates of x_0 so far, j = 0 the newest, is

    x_s = (sigma_s/sigma_t) x_t + (alpha_s - alpha_t sigma_s/sigma_t) (q g_t + sum_j p_j x_0(j)),    g_t = x_t/sqrt(alpha_t^2 + sigma_t^2)

With q = 0 and sum p = 1 it is exact wherever the estimate stands still: x_t = alpha_t c + sigma_t eps then goes to
alpha_s c + sigma_s eps, for any c and eps. p = (1,) is DDIM; other p are the classical multistep rules; q takes in rules that are
exact where the estimate follows x_t as it does for a Gaussian. No log-SNR occurs, so the moves out of pure noise and into clean
data are moves like any other. Put y = x/alpha and u = sigma/alpha: everything is a function of u alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.process.level import Level
from ornstein.sample.multistep import Multistep, Row


class Shares(NamedTuple):
    """The row of one move.

    Args:
        pull: q, the share of the state itself.
        estimates: p, the newest estimate's first.
    """

    pull: float
    estimates: tuple[float, ...]


DDIM_ROW = Shares(0.0, (1.0,))


class Parts(NamedTuple):
    """What a move from t to s is made of before any share is known."""

    keep: float
    total: float
    size: float


def parts(t: Level, s: Level) -> Parts:
    """(sigma_s/sigma_t, alpha_s - alpha_t sigma_s/sigma_t, sqrt(alpha_t^2 + sigma_t^2)) of levels of floats, sigma_t > 0."""
    keep = float(s.sigma) / float(t.sigma)
    return Parts(keep, float(s.alpha) - keep * float(t.alpha), math.hypot(float(t.alpha), float(t.sigma)))


def row(t: Level, s: Level, shares: Shares) -> Row:
    """The coefficients of the move from t to s with the given shares."""
    keep, total, size = parts(t, s)
    return Row(keep + total * shares.pull / size, tuple(total * share for share in shares.estimates))


def combine(x: Tensor, estimates: Sequence[Tensor], row: Row) -> Tensor:
    """x_s from x_t and all estimates so far, the oldest first."""
    moved = x * row.keep
    for weight, x0 in zip(row.weights, reversed(estimates), strict=False):
        moved.add_(x0, alpha=weight)
    return moved


class Tabled:
    """The rows of a plan by shares; `Multistep` walks along them.

    Args:
        shares: one row per move; that of move i has 1 to i + 1 estimates.

    Raises UsageError for rows of another form or with numbers that are not finite.
    """

    def __init__(self, shares: Sequence[Shares]) -> None:
        self.shares = tuple(shares)
        for i, (pull, estimates) in enumerate(self.shares):
            if not 1 <= len(estimates) <= i + 1 or not all(map(math.isfinite, (pull, *estimates))):
                raise UsageError(f"Row {i} of the table is no rule: {(pull, *estimates)}.", "Give finite shares of 1 to i + 1 estimates.")

    def __call__(self, plan: tuple[Level, ...]) -> list[Row]:
        """A row per move. Raises UsageError where the plan has not as many moves as the table."""
        if len(plan) != len(self.shares) + 1:
            what = f"The solver's table has {len(self.shares)} moves, and the plan {len(plan) - 1}."
            raise UsageError(what, "Use the plan that the table was made for.")
        return [row(t, s, shares) for (t, s), shares in zip(pairwise(plan), self.shares, strict=True)]


def tabled(shares: Sequence[Shares]) -> Multistep:
    """The solver of a table of shares; its order is whatever the shares make it."""
    return Multistep(Tabled(shares), 1, ends=frozenset({"noise", "clean"}))
