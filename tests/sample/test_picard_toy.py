# SPDX-License-Identifier: Apache-2.0
"""A parallel-in-time solver fits the protocol: one step may pass many nodes (Picard iteration, 2305.16317)."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.exact.mixture import smooth
from ornstein.process.gaussian import GaussianProcess, Noise
from ornstein.process.level import Level
from ornstein.process.schedule import LinearBeta
from ornstein.sample import plans
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Advance, Bound, Solver
from ornstein.sample.solvers import DDIM

SCHEDULE = LinearBeta()
MODEL = smooth().denoiser(GaussianProcess(SCHEDULE))
X = Keys.for_draws(0, 0, 3).normal((2,), torch.float64)


class Guess(NamedTuple):
    """Where the nodes after the front are believed to be, `(nodes, batch, dim)`."""

    ahead: Tensor


class Picard(Solver):
    """DDIM's moves for a window of nodes at once, each from the last sweep's guess; the front moves over what has settled."""

    order = 1

    def __init__(self, window: int, tolerance: float) -> None:
        self.window, self.tolerance = window, tolerance

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: Guess | None, noise: Noise) -> Advance:
        nodes = plan[: self.window + 1]
        count, batch = len(nodes) - 1, len(x)
        known = torch.stack([x]) if state is None else torch.cat([x[None], state.ahead[: count - 1]])
        guess = torch.cat([known, known[-1:].expand(count - len(known), -1, -1)])
        columns = (torch.tensor(numbers[:-1], dtype=torch.float64).repeat_interleave(batch) for numbers in zip(*nodes, strict=True))
        estimate = model(guess.flatten(0, 1), Level(*columns))
        x0 = estimate.x0.unflatten(0, (count, batch))
        ratio = torch.tensor([node.alpha / node.sigma for node in nodes], dtype=torch.float64)
        increments = torch.cat([(x / nodes[0].sigma)[None], ratio.diff()[:, None, None] * x0])  # DDIM in x/sigma adds up
        path = increments.cumsum(0) * torch.tensor([node.sigma for node in nodes], dtype=torch.float64)[:, None, None]
        settled = (path[1:count] - guess[1:]).abs().amax((1, 2)) <= self.tolerance
        passed = 1 + int(settled.long().cumprod(0).sum())
        return Advance(path[passed], nodes[passed], passed, Guess(path[passed + 1 :]), estimate._replace(x0=x0[passed - 1]), count)


def _inner() -> tuple[Level, ...]:
    return plans.uniform(SCHEDULE, 25)[:-1]


def test_it_finds_the_sequential_path_in_fewer_steps() -> None:
    *_, sequential = sample(MODEL, DDIM(), _inner(), X, SampleNoise(range(3)))
    steps = list(sample(MODEL, Picard(8, 1e-9), _inner(), X, SampleNoise(range(3))))
    torch.testing.assert_close(steps[-1].x, sequential.x, rtol=0.0, atol=1e-7)
    assert steps[-1].at == sequential.at
    assert len(steps) < 24
    assert steps[-1].evaluations > 24


def test_every_reported_level_is_where_the_sequential_path_is() -> None:
    sequential = {step.at: step.x for step in sample(MODEL, DDIM(), _inner(), X, SampleNoise(range(3)))}
    passed = []
    for step in sample(MODEL, Picard(12, 1e-9), _inner(), X, SampleNoise(range(3))):
        torch.testing.assert_close(step.x, sequential[step.at], rtol=0.0, atol=1e-7)
        passed.append(list(sequential).index(step.at))
    assert passed == sorted(set(passed))
    assert max(later - earlier for earlier, later in pairwise(passed)) > 1


def test_a_loose_tolerance_passes_a_whole_window_at_once_and_the_loop_lands() -> None:
    plan = plans.uniform(SCHEDULE, 25)
    steps = list(sample(MODEL, Picard(24, 100.0), plan, X, SampleNoise(range(3))))
    assert [step.at for step in steps] == [plan[-2], plan[-1]]
    assert steps[-1].evaluations == 25
