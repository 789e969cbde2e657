# SPDX-License-Identifier: Apache-2.0
"""Dormand-Prince: its order at fixed steps, its error at a tolerance, rejected steps, and answers that are not finite."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import ring, smooth
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import EDM, Flow
from ornstein.sample import plans
from ornstein.sample.adaptive import DIFFERENCE, DORMAND_PRINCE, DormandPrince
from ornstein.sample.convergence import flow, observed_order, rms
from ornstein.sample.draw import moves_within
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.runge_kutta import combine

SCHEDULE = EDM()
START, MIDDLE, END = (SCHEDULE.at_log_snr(value) for value in (-5.0, 0.0, 5.0))
X = START.sigma * Keys.for_draws(0, 0, 6).normal((2,), torch.float64)
MODEL = ring(std=0.3).denoiser(GaussianProcess(SCHEDULE))
EXACT = flow(MODEL, X, START, END, 400)


def test_the_tableau_has_order_five_and_its_companion_order_four() -> None:
    """On y' = -y^2 + cos y, against much finer steps."""

    def after(steps: int, b: tuple[float, ...]) -> Tensor:
        y, h = torch.tensor([0.3], dtype=torch.float64), 2.0 / steps
        for _ in range(steps):
            slopes: list[Tensor] = []
            for weights in (*DORMAND_PRINCE.a, DORMAND_PRINCE.b):
                inner = combine(y, h, weights, slopes)
                slopes.append(inner.cos() - inner.square())
            y = combine(y, h, b, slopes)
        return y

    lower = tuple(b - d for b, d in zip((*DORMAND_PRINCE.b, 0.0), DIFFERENCE, strict=True))
    exact = after(320, (*DORMAND_PRINCE.b, 0.0))
    for b, order in (((*DORMAND_PRINCE.b, 0.0), 5), (lower, 4)):
        assert observed_order((20, 40), [float((after(n, b) - exact).abs()) for n in (20, 40)]) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("variable", ["time", "sigma", "log-snr"])
def test_errors_follow_the_tolerance(variable: str) -> None:
    errors, counts = [], []
    for tolerance in (1e-2, 1e-4, 1e-6):
        *_, last = sample(MODEL, DormandPrince(tolerance, variable), (START, MIDDLE, END), X, SampleNoise(range(6)))
        assert last.at is END
        errors.append(rms(last.x - EXACT))
        counts.append(last.evaluations)
    assert errors[0] < 0.2
    assert errors[1] < 1e-3
    assert errors[2] < 1e-5
    assert counts[0] < counts[1] < counts[2]


def test_inner_nodes_are_passed_over_and_evaluations_counted() -> None:
    calls = []

    class Counted(Denoiser):
        process = GaussianProcess(SCHEDULE)

        def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
            calls.append(level)
            answer: Gaussian = MODEL(x, level)
            return answer

    direct = list(sample(Counted(), DormandPrince(1e-3), (START, END), X, SampleNoise(range(6))))
    assert direct[-1].evaluations == len(calls) == 1 + 6 * len(direct)
    through = list(sample(MODEL, DormandPrince(1e-3), (START, MIDDLE, END), X, SampleNoise(range(6))))
    assert through[-1].x.equal(direct[-1].x)


def test_steps_are_rejected_where_the_path_turns() -> None:
    model = ring(std=0.02).denoiser(GaussianProcess(SCHEDULE))
    steps = list(sample(model, DormandPrince(1e-5), (START, END), X, SampleNoise(range(6))))
    levels = [float(step.at.log_snr) for step in steps]
    stayed = [earlier == later for earlier, later in pairwise(levels)]
    assert levels == sorted(levels)
    assert 0 < sum(stayed) < len(stayed) / 2
    for step, before, stays in zip(steps[1:], steps, stayed, strict=False):
        assert step.x.equal(before.x) == stays


def test_from_pure_noise_into_clean_data() -> None:
    schedule = Flow()
    model = smooth().denoiser(GaussianProcess(schedule))
    start = schedule.at(1.0)
    x = Keys.for_draws(3, 0, 6).normal((2,), torch.float64)
    plan = plans.log_snr(schedule, 4, sigma_min=1e-3)
    *_, last = sample(model, DormandPrince(1e-6), (start, *plan[1:]), x, SampleNoise(range(6)))
    first = model(x, start).x0
    inner = plan[1].alpha * first + plan[1].sigma * x
    assert last.at.is_clean
    expected = flow(model, inner, plan[1], plan[-2], 256)
    torch.testing.assert_close(last.x, model(expected, plan[-2]).x0, rtol=0.0, atol=1e-4)


def test_answers_that_are_not_finite_end_in_a_sentence() -> None:
    class Broken(Denoiser):
        process = GaussianProcess(SCHEDULE)

        def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
            return Gaussian(x * float("nan") if float(level.log_snr) > 0.0 else 0.0 * x)

    with pytest.raises(UsageError, match="short enough for a tolerance"):
        list(sample(Broken(), DormandPrince(), (START, END), X, SampleNoise(range(6))))


def test_a_budget_cannot_be_divided_into_steps_of_its_own_choice() -> None:
    with pytest.raises(UsageError, match="chooses its own steps"):
        moves_within(DormandPrince(), 20, lambda moves: plans.uniform(SCHEDULE, moves))
