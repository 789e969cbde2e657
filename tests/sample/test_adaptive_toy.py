# SPDX-License-Identifier: Apache-2.0
"""An adaptive solver fits the protocol: per-sample levels and steps, rejected moves, no node passed until all arrive."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.exact.mixture import smooth
from ornstein.process.gaussian import GaussianProcess, Noise
from ornstein.process.level import Level, over
from ornstein.process.schedule import EDM
from ornstein.sample.convergence import flow
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Advance, Bound, Solver

SCHEDULE, WORLD = EDM(), smooth()
MODEL = WORLD.denoiser(GaussianProcess(SCHEDULE))
START, MIDDLE, END = (SCHEDULE.at_log_snr(value) for value in (-4.0, 0.0, 4.0))
X = START.sigma * Keys.for_draws(0, 0, 6).normal((2,), torch.float64)


class Sizes(NamedTuple):
    """Next step of every sample in half log-SNR."""

    step: Tensor


class AdaptiveHeun(Solver):
    """Euler inside Heun, in log-SNR; a sample whose two answers differ too much stays and tries half the step."""

    order = 2

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: Sizes | None, noise: Noise) -> Advance:
        here, goal = plan[0].rows(len(x)), plan[1]
        u, end = torch.as_tensor(here.half_log_snr), float(goal.half_log_snr)
        wanted = state.step if state else torch.full_like(u, 2.0)
        h = torch.minimum(wanted, end - u)
        after = model.process.schedule.at_log_snr(2.0 * (u + h))
        y, width = x / over(here.alpha, x), over(h, x)
        first = model(x, here, goal).x0 - y
        euler = y + width * first
        estimate = model(euler * over(after.alpha, x), after, goal)
        better = y + 0.5 * width * (first + estimate.x0 - euler)
        error = (better - euler).abs().amax(1)
        taken = error <= self.tolerance
        reached = torch.where(taken, u + h, u)
        grown = h * (0.9 * (self.tolerance / error.clamp_min(1e-12)).sqrt()).clamp(0.2, 2.0)
        done = bool((end - reached).abs().max() < 1e-12)
        at = goal if done else model.process.schedule.at_log_snr(2.0 * reached)
        y = torch.where(over(taken, x).bool(), better, y)  # type: ignore[union-attr]
        return Advance(y * over(at.alpha, x), at, int(done), Sizes(torch.where(h > 0, grown, wanted)), estimate, 2)


def test_it_reaches_its_tolerance_through_every_node() -> None:
    exact = flow(MODEL, X, START, END, 128)
    errors = []
    for tolerance in (1e-2, 1e-4):
        steps = list(sample(MODEL, AdaptiveHeun(tolerance), (START, MIDDLE, END), X, SampleNoise(range(6))))
        errors.append(float((steps[-1].x - exact).abs().max()))
        assert sum(step.at is MIDDLE for step in steps) == 1
        assert steps[-1].at is END
        assert steps[-1].evaluations == 2 * len(steps)
        assert [step.i for step in steps] == list(range(len(steps)))
    assert errors[0] < 0.1
    assert errors[1] < errors[0] / 20


def test_samples_move_and_are_rejected_one_by_one() -> None:
    previous, x, mixed = START.rows(6), X, 0
    for step in sample(MODEL, AdaptiveHeun(1e-3), (START, END), X, SampleNoise(range(6))):
        level = step.at.rows(6)
        stayed = torch.as_tensor(level.sigma) == previous.sigma
        assert x[stayed].equal(step.x[stayed])
        mixed += 0 < int(stayed.sum()) < 6
        previous, x = level, step.x
    assert mixed > 0


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    together = list(sample(MODEL, AdaptiveHeun(1e-3), (START, MIDDLE, END), X, SampleNoise(range(6))))[-1].x
    for i in range(6):
        alone = list(sample(MODEL, AdaptiveHeun(1e-3), (START, MIDDLE, END), X[i : i + 1], SampleNoise([i])))[-1].x
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-9, atol=1e-10)


def test_the_loop_lands_it_on_clean_data() -> None:
    steps = list(sample(MODEL, AdaptiveHeun(1e-3), (START, END, SCHEDULE.at(0.0)), X, SampleNoise(range(6))))
    assert steps[-1].at.is_clean
    torch.testing.assert_close(steps[-1].x, WORLD.expectation(steps[-2].x, END))
