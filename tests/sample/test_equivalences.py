# SPDX-License-Identifier: Apache-2.0
"""Solvers that are the same rule give the same numbers, and a change of schedule along one log-SNR grid changes nothing."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from solver_cases import DETERMINISTIC, SCHEDULES
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.exact.mixture import ring, smooth
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule
from ornstein.sample import plans
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Solver
from ornstein.sample.runge_kutta import euler
from ornstein.sample.solvers import DDIM, Ancestral, DPMSolverMultistep

N = 6
EPS = Keys.for_draws(0, 0, N).normal((2,), torch.float64)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def _run(schedule: Schedule, solver: Solver, plan: tuple[Level, ...]) -> Tensor:
    model = ring().denoiser(GaussianProcess(schedule))
    *_, last = sample(model, solver, plan, plan[0].sigma * EPS, SampleNoise(range(N)))
    return last.x


@every_schedule
def test_ddim_with_eta_one_is_ddpm(schedule: Schedule) -> None:
    plan = plans.uniform(schedule, 9)
    assert _run(schedule, DDIM(1.0), plan).equal(_run(schedule, Ancestral(), plan))
    assert not _run(schedule, DDIM(0.5), plan).allclose(_run(schedule, Ancestral(), plan))


@every_schedule
def test_ddim_is_euler_in_sigma(schedule: Schedule) -> None:
    plan = plans.karras(schedule, 9)
    torch.testing.assert_close(_run(schedule, DDIM(), plan), _run(schedule, euler("sigma"), plan), rtol=1e-10, atol=1e-11)


def test_on_the_straight_path_ddim_is_euler_in_time() -> None:
    plan = plans.uniform(Flow(), 9)
    torch.testing.assert_close(_run(Flow(), DDIM(), plan), _run(Flow(), euler("time"), plan), rtol=1e-11, atol=1e-12)
    curved = plans.uniform(Cosine(), 9)
    assert not _run(Cosine(), DDIM(), curved).allclose(_run(Cosine(), euler("time"), curved), rtol=1e-3)


def test_the_multistep_rule_starts_as_ddim_and_then_leaves_it() -> None:
    schedule = LinearBeta()
    plan = plans.uniform(schedule, 3)
    model = ring().denoiser(GaussianProcess(schedule))
    one, two = (list(sample(model, solver, plan, EPS, SampleNoise(range(N)))) for solver in (DPMSolverMultistep(), DDIM()))
    torch.testing.assert_close(one[0].x, two[0].x, rtol=1e-12, atol=1e-13)
    assert not one[1].x.allclose(two[1].x, rtol=1e-3)


def test_the_multistep_rule_is_algorithm_2_of_its_paper() -> None:
    """2211.01095: D = (1 + 1/(2 r)) x_0(t_{i-1}) - 1/(2 r) x_0(t_{i-2}), r = h_{i-1}/h_i."""
    schedule = LinearBeta()
    plan = schedule.at(torch.tensor([0.9, 0.7, 0.3, 0.25], dtype=torch.float64)).unbind()
    model = ring().denoiser(GaussianProcess(schedule))
    x, before, step_before = EPS, None, 0.0
    for t, s in pairwise(plan):
        x0, step = model(x, t).x0, s.half_log_snr - t.half_log_snr
        mixed = x0 if before is None else x0 + step / (2.0 * step_before) * (x0 - before)
        x = s.sigma / t.sigma * x - s.alpha * math.expm1(-step) * mixed
        before, step_before = x0, step
    *_, last = sample(model, DPMSolverMultistep(), plan, EPS, SampleNoise(range(N)))
    torch.testing.assert_close(last.x, x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in DETERMINISTIC if "time" not in name and name != "euler"])
def test_a_change_of_schedule_on_one_log_snr_grid_changes_nothing(name: str) -> None:
    log_snr = torch.linspace(-8.0, 8.0, 13, dtype=torch.float64)
    ends = []
    for schedule in (LinearBeta(), Cosine(), Flow(), EDM()):
        plan = schedule.at_log_snr(log_snr).unbind()
        x = plan[0].alpha * (math.exp(4.0) * EPS)
        *_, last = sample(smooth().denoiser(GaussianProcess(schedule)), DETERMINISTIC[name], plan, x, SampleNoise(range(N)))
        ends.append(last.x / plan[-1].alpha)
    for end in ends[:-1]:
        torch.testing.assert_close(end, ends[-1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_solving_up_and_down_again_returns(name: str) -> None:
    """Plans may run in either direction (inversion)."""
    schedule = Flow()
    levels = schedule.at(torch.linspace(0.15, 0.85, 81, dtype=torch.float64)).unbind()
    model, x = smooth().denoiser(GaussianProcess(schedule)), EPS
    *_, up = sample(model, DETERMINISTIC[name], levels, x, SampleNoise(range(N)))
    *_, down = sample(model, DETERMINISTIC[name], levels[::-1], up.x, SampleNoise(range(N)))
    assert up.at == levels[-1]
    assert float((up.x - x).abs().max()) > 0.1
    torch.testing.assert_close(down.x, x, rtol=0.0, atol=0.3 if DETERMINISTIC[name].order == 1 else 0.02)
