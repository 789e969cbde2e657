# SPDX-License-Identifier: Apache-2.0
"""Each variable of a Runge-Kutta rule finds levels again and has the slope of the exact flow."""

from __future__ import annotations

import math

import pytest
import torch
from solver_cases import SCHEDULES, TILTED

from ornstein.base.keys import Keys
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import Schedule
from ornstein.sample.convergence import flow, observed_order
from ornstein.sample.runge_kutta import InLogSnr, InSigma, InTime, Variable

X = Keys.for_draws(0, 0, 4).normal((2,), torch.float64)
every_variable = pytest.mark.parametrize("variable", [InTime(), InSigma(), InLogSnr()], ids=["time", "sigma", "log-snr"])
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@every_variable
@every_schedule
def test_place_and_level_are_inverse(variable: Variable, schedule: Schedule) -> None:
    level = schedule.at(0.31 * schedule.noisiest)
    assert variable.level(schedule, variable.place(level)) == pytest.approx(level, rel=1e-9)
    torch.testing.assert_close(variable.leave(variable.enter(X, level), level), X)


@every_variable
@every_schedule
def test_slope_is_the_derivative_of_the_exact_flow(variable: Variable, schedule: Schedule) -> None:
    t = schedule.at_log_snr(0.5).t
    middle = (math.floor(1000 * t) + 0.5) / 1000  # of a piece where the schedule is a table: at its entries the slope jumps
    earlier, level, later = (schedule.at(middle + shift) for shift in (-2e-4, 0.0, 2e-4))
    model = TILTED.denoiser(GaussianProcess(schedule))
    ends = [variable.enter(flow(model, X, level, to, 2), to) for to in (earlier, later)]
    expected = (ends[1] - ends[0]) / (variable.place(later) - variable.place(earlier))
    torch.testing.assert_close(variable.slope(X, model(X, level).x0, level), expected, rtol=1e-5, atol=1e-6)


def test_order_is_the_slope_of_the_errors() -> None:
    assert observed_order([10, 20, 40], [1.0, 0.125, 0.015625]) == pytest.approx(3.0)
    assert observed_order([10, 30], [1.0, 1.0 / 3.0]) == pytest.approx(1.0)
