# SPDX-License-Identifier: Apache-2.0
"""Plans start at the noisiest level, end in clean data and place their nodes as stated."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from solver_cases import PLANS, SCHEDULES

from ornstein.base.errors import UsageError
from ornstein.process.level import CLEAN
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule
from ornstein.sample import plans

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_plan = pytest.mark.parametrize("name", PLANS)


@every_plan
@every_schedule
@pytest.mark.parametrize("moves", [1, 2, 3, 10, 77])
def test_every_plan_walks_from_the_noisiest_level_to_clean_data(name: str, schedule: Schedule, moves: int) -> None:
    plan = PLANS[name](schedule, moves)
    assert len(plan) == moves + 1
    assert plan[0][:3] == pytest.approx(schedule.at(schedule.noisiest)[:3], rel=1e-12)
    assert plan[-1] == CLEAN
    assert all(level.t >= schedule.cleanest * (1.0 - 1e-12) for level in plan[:-1])
    log_snr = [level.log_snr for level in plan]
    assert all(earlier < later for earlier, later in pairwise(log_snr))
    assert all(isinstance(number, float) for level in plan for number in level)
    for level in plan[:-1]:
        assert level == pytest.approx(schedule.at(level.t), rel=1e-9, abs=1e-12)


@every_schedule
def test_uniform_steps_are_equal_in_time(schedule: Schedule) -> None:
    t = [level.t for level in plans.uniform(schedule, 8)]
    length = schedule.noisiest - schedule.cleanest
    assert t == pytest.approx([schedule.noisiest - length * i / 8 for i in range(8)] + [0.0])


def test_trailing_meets_the_discrete_times() -> None:
    """1000, 800, ..., 200 of 1000 for five moves: timesteps 999, 799, ... of 2305.08891, table 2."""
    assert [level.t for level in plans.trailing(SCHEDULES["ddpm"], 5)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    odd = [level.t * 1000 for level in plans.trailing(SCHEDULES["ddpm"], 7)]
    assert odd == pytest.approx([round(k) for k in odd], abs=1e-9)
    assert odd[:2] == pytest.approx([1000, 857])
    assert len(plans.trailing(SCHEDULES["ddpm"], 1000)) == 1001


@pytest.mark.parametrize("schedule", [EDM(), LinearBeta()], ids=["edm", "linear-beta"])
def test_log_snr_and_karras_space_as_stated(schedule: Schedule) -> None:
    log_snr = [level.log_snr for level in plans.log_snr(schedule, 10, sigma_min=0.01)][:-1]
    gaps = [later - earlier for earlier, later in pairwise(log_snr)]
    assert gaps == pytest.approx([gaps[0]] * 9, rel=1e-9)
    assert log_snr[-1] == pytest.approx(-2.0 * math.log(0.01))
    high = plans.karras(schedule, 5)[0].noise_to_signal
    expected = [(high ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(5)]
    assert [level.noise_to_signal for level in plans.karras(schedule, 5)][:-1] == pytest.approx(expected, rel=1e-9)


@every_schedule
def test_default_steps_are_equal_in_their_angle(schedule: Schedule) -> None:
    ratios = [float(level.noise_to_signal) for level in plans.angle(schedule, 10, scale=0.5, power=2.0)]
    angles = [math.atan((ratio / 0.5) ** 0.5) for ratio in ratios]
    assert [earlier - later for earlier, later in pairwise(angles)] == pytest.approx([angles[0] / 10] * 10)
    many = [float(level.noise_to_signal) for level in plans.angle(schedule, 200)]
    assert many[-2] == pytest.approx(max(0.002, float(schedule.at(schedule.cleanest).noise_to_signal)))


@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=["cosine", "flow"])
@pytest.mark.parametrize("name", ["log-snr", "karras"])
def test_from_pure_noise_the_graded_plans_begin_one_node_later(schedule: Schedule, name: str) -> None:
    plan = PLANS[name](schedule, 6, sigma_min=0.01, sigma_max=50.0)
    assert plan[0].is_noise
    assert plan[1].noise_to_signal == pytest.approx(50.0)
    assert plan[-2].noise_to_signal == pytest.approx(0.01)
    same = PLANS[name](EDM(50.0), 5, sigma_min=0.01)
    assert [level.noise_to_signal for level in plan[1:]] == pytest.approx([level.noise_to_signal for level in same])


@every_plan
def test_a_plan_without_moves_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="0 moves"):
        PLANS[name](Flow(), 0)


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(UsageError, match="1000 timesteps cannot have 1001"):
        plans.trailing(Flow(), 1001)
    with pytest.raises(UsageError, match="sigma_min"):
        plans.karras(EDM(1.0), 5, sigma_min=1.0)
    with pytest.raises(UsageError, match="sigma_min"):
        plans.log_snr(Flow(), 5, sigma_min=0.0)
