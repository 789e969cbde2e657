# SPDX-License-Identifier: Apache-2.0
r"""A multistep rule with its levels as one value, on any schedule; and the fixed rules that a fit may begin with.

The probability flow and every rule in shares (see `tabled`) are functions of sigma/alpha alone, so a rule that was made on one
schedule is the same rule on any other.

A rule of `multistep` that remembers p x + r x_0 is one in shares too, of complete history: every state is a combination of
the start and of the estimates before it, and what it holds of each estimate follows from its rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch

from ornstein.process.level import CLEAN, Level
from ornstein.process.schedule import Schedule
from ornstein.sample.exponential import angular, dpm_solver_2m
from ornstein.sample.multistep import Multistep, ipndm
from ornstein.sample.plans import angle, karras
from ornstein.sample.protocol import Plan
from ornstein.sample.tabled import DDIM_ROW, Shares, parts, row, tabled

PURE_NOISE = -math.log(1e4)
"""Half log-SNR that stands for the start of a path without signal."""

_ANGLES = [(scale, power) for power in (1.6, 2.5, 1.2) for scale in (0.75, 0.25, 2.0)]
_KARRAS = [(0.02, 7.0), (0.1, 20.0), (0.002, 7.0), (0.1, 7.0), (0.3, 20.0), (0.02, 20.0), (0.3, 7.0), (0.3, 3.0), (0.1, 3.0)]


class Rule(NamedTuple):
    """A multistep rule with its levels, on any schedule.

    Args:
        ratios: sigma/alpha of the inner levels, falling; one fewer than there are moves.
        shares: the rows of `tabled`.
    """

    ratios: tuple[float, ...]
    shares: tuple[Shares, ...]

    def plan(self, schedule: Schedule) -> Plan:
        """From the schedule's noisiest level over the inner ones to clean data."""
        return levels(schedule, [-math.log(ratio) for ratio in self.ratios])

    @property
    def solver(self) -> Multistep:
        """The rule for a move."""
        return tabled(self.shares)


def levels(schedule: Schedule, inner: Sequence[float]) -> tuple[Level, ...]:
    """The plan with the given half log-SNRs between the noisiest level and clean data."""
    between = schedule.at_log_snr(2.0 * torch.tensor(inner, dtype=torch.float64)).unbind() if inner else ()
    return (schedule.at(schedule.noisiest), *between, CLEAN)


def first_place(schedule: Schedule) -> float:
    """Half log-SNR of the noisiest level, `PURE_NOISE` where there is no signal."""
    level = schedule.at(schedule.noisiest)
    return PURE_NOISE if level.is_noise else float(level.half_log_snr)


def rule_of(solver: Multistep, plan: tuple[Level, ...]) -> Rule:
    """The rule in shares that does what a multistep solver does on a plan that ends in clean data.

    Args:
        solver: without noise and corrector.
        plan: levels from the noisiest to clean data.
    """
    moves = len(plan) - 1
    first = 1 if plan[0].is_noise and "noise" not in solver.ends else 0
    last = moves if "clean" in solver.ends else moves - 1
    rows = [row(plan[0], plan[1], DDIM_ROW)] * first + ([*solver.rule(plan[first : last + 1])] if last > first else [])
    rows += [row(plan[-2], plan[-1], DDIM_ROW)] * (moves - max(first, last))
    held = torch.zeros(moves + 1, dtype=torch.float64)  # what the state holds of the start, and of every estimate
    held[0] = 1.0
    past, shares = list[torch.Tensor](), list[Shares]()
    for i, ((t, s), move) in enumerate(zip(pairwise(plan), rows, strict=True)):
        newest = torch.eye(moves + 1, dtype=torch.float64)[i + 1]
        p, r = move.read or (0.0, 1.0)
        past = [p * held + r * newest, *past] if first <= i < last else [newest]
        after = move.keep * held + sum(weight * value for weight, value in zip(move.weights, past, strict=False))
        keep, total, size = parts(t, s)
        kept = float(after[0] / held[0])  # of the start, which no estimate holds
        estimates = (after - kept * held)[1 : i + 2] / total
        shares.append(Shares((kept - keep) * size / total, tuple(estimates.flip(0).tolist())))
        held = after
        past = past if i >= first else []
    return Rule(tuple(float(level.noise_to_signal) for level in plan[1:-1]), tuple(shares))


def fixed_rules(schedule: Schedule, evaluations: int) -> Iterator[list[Rule]]:
    """Families of fixed rules, each on the same number of grids: the default, iPNDM and DPM-Solver++(2M)."""
    yield [rule_of(angular(), angle(schedule, evaluations, *numbers)) for numbers in _ANGLES]
    high = 0.9 * math.exp(-first_place(schedule))
    grids = [karras(schedule, evaluations, min(low, high), rho=rho) for low, rho in _KARRAS]
    yield [rule_of(ipndm(), grid) for grid in grids]
    yield [rule_of(dpm_solver_2m(), grid) for grid in grids]
