# SPDX-License-Identifier: Apache-2.0
"""Drawing many samples so that none depends on how many were asked for.

Floating-point sums depend on the shape of a batch and on a sample's place in it. Samples are therefore always computed
in aligned micro-batches: the sample of seed s stands in row s mod m of the micro-batch of seeds [m floor(s/m), ...),
whatever else was asked for. One seed then gives one result, bit for bit on one machine and thread count.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.level import Level
from ornstein.sample.loop import legs, sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Plan, Renoise, Solver, Step


class Sampler(NamedTuple):
    """Everything that decides a sample but its seed.

    Args:
        model: the denoiser, guided or not.
        solver: the rule for a move.
        plan: the levels to visit.
        shape: shape of one sample.
        condition: seeds of a batch -> its condition, or None.
        micro_batch: rows of the fixed micro-batch.
        device: where the network lives.
        begin: seeds of a batch -> its states at the plan's first level; None draws them from the prior.
    """

    model: Denoiser
    solver: Solver
    plan: Plan
    shape: tuple[int, ...]
    condition: Callable[[Sequence[int]], Cond | None]
    micro_batch: int = 64
    device: torch.device | str = "cpu"
    begin: Callable[[Sequence[int]], Tensor] | None = None

    def start(self, seeds: Sequence[int]) -> Tensor:
        """Where the samples of a batch of seeds start: `(batch, *shape)` at the plan's first level."""
        drawn = self.model.process.prior(self.shape, SampleNoise(seeds).prior_keys()) if self.begin is None else self.begin(seeds)
        return drawn.to(self.device)

    def steps(self, seeds: Sequence[int]) -> Iterator[Step]:
        """The moves of one batch of seeds, from the start on."""
        cond = self.condition(seeds)
        given = None if cond is None else cond.to(self.device)
        return sample(self.model, self.solver, self.plan, self.start(seeds), SampleNoise(seeds), given)

    def draw(self, seeds: Sequence[int]) -> Iterator[Tensor]:
        """Samples `(count, *shape)` on the CPU, in the order of `seeds`, one yield per micro-batch that holds some of them.

        Seeds that follow each other belong to one micro-batch as long as they fall into the same aligned range.
        """
        for block, rows in _blocks(seeds, self.micro_batch):
            [final] = deque(self.steps(range(block * self.micro_batch, (block + 1) * self.micro_batch)), maxlen=1)
            yield final.x[rows].cpu()


def _blocks(seeds: Sequence[int], size: int) -> Iterator[tuple[int, list[int]]]:
    """(block number, rows wanted) for each run of consecutive seeds that share an aligned block."""
    block: int | None = None
    rows: list[int] = []
    for seed in seeds:
        number, row = divmod(seed, size)
        if number != block and rows and block is not None:
            yield block, rows
            rows = []
        block = number
        rows.append(row)
    if rows and block is not None:
        yield block, rows


def calls(solver: Solver, plan: Plan) -> int:
    """Denoiser calls that a plan takes, where every move takes the solver's stages: the moves that the loop makes itself take one."""
    total = 0
    for leg in legs(plan):
        if isinstance(leg[0], Renoise):
            continue
        moves, start, end = len(leg) - 1, leg[0], leg[-1]
        by_law = (start.is_noise and "noise" not in solver.ends) + (isinstance(end, Level) and end.is_clean and "clean" not in solver.ends)
        total += min(moves, by_law) + max(moves - by_law, 0) * solver.stages
    return total


def moves_within(solver: Solver, evaluations: int, plan_of: Callable[[int], Plan]) -> int:
    """The most moves whose plan costs at most `evaluations` denoiser calls.

    Args:
        solver: the rule.
        evaluations: the budget, >= 1.
        plan_of: moves -> plan; more moves must not cost less.

    Raises:
        UsageError: a plan of one move costs more, or the solver chooses its own steps.
    """
    if solver.adaptive:
        raise UsageError("A solver that chooses its own steps has no number of them within a budget.", "Set its tolerance instead.")
    least = calls(solver, plan_of(1))
    if least > evaluations:
        what = f"The plan takes {least} evaluations at its shortest, which is more than {evaluations}."
        raise UsageError(what, "Allow more evaluations, or choose another plan.")
    return bisect_right(range(1, evaluations + 1), evaluations, key=lambda moves: calls(solver, plan_of(moves)))
