# SPDX-License-Identifier: Apache-2.0
"""Plans that go back up: the algorithms of their papers, and marginal laws that stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from solver_cases import DETOURS, PLANS, SCHEDULES, TILTED, ExactNoise, moments

from ornstein.base.errors import RecipeError, UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import ring
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import EDM, Flow, LinearBeta, Schedule
from ornstein.run.recipe import Recipe, Sample
from ornstein.sample import plans
from ornstein.sample.detours import churn, resample, restart
from ornstein.sample.draw import calls, moves_within
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Plan, Renoise, Solver
from ornstein.sample.runge_kutta import heun
from ornstein.sample.solvers import DDIM, DPMSolverMultistep


def _times(plan: Plan) -> list[float | str]:
    """Times in hundredths; a renoise as "^time"."""
    return [f"^{node.level.t * 100:.0f}" if isinstance(node, Renoise) else round(float(node.t) * 100) for node in plan]


def _flow(*times: float) -> tuple[Level, ...]:
    return Flow().at(torch.tensor(times, dtype=torch.float64)).unbind()


def test_churn_is_algorithm_2_of_its_paper() -> None:
    """2206.00364: raise sigma by 1 + gamma with noise of deviation S_noise, then a Heun step; the last one Euler."""
    schedule, n, s_churn, s_min, s_max, s_noise = EDM(80.0), 8, 3.0, 0.05, 50.0, 1.01
    base = plans.karras(schedule, n)
    noise, x = SampleNoise(range(5)), 80.0 * Keys.for_draws(0, 0, 5).normal((2,), torch.float64)
    world = ring()
    *_, ours = sample(world.denoiser(GaussianProcess(schedule)), heun(), churn(schedule, base, s_churn, s_min, s_max, s_noise), x, noise)

    def slope(y: torch.Tensor, sigma: float) -> torch.Tensor:
        return (y - world.expectation(y, Level(0.5, 1.0, sigma))) / sigma

    y, move, sigmas = x, 0, [float(level.sigma) for level in base]
    for sigma, following in pairwise(sigmas):
        if s_min <= sigma <= s_max:
            hat = sigma * (1.0 + min(s_churn / n, 2**0.5 - 1.0))
            y = y + (hat**2 - sigma**2) ** 0.5 * s_noise * noise.move(move).normal(y)
            sigma, move = hat, move + 1
        d = slope(y, sigma)
        moved = y + (following - sigma) * d
        if following > 0.0:
            moved = y + (following - sigma) * 0.5 * (d + slope(moved, following))
        y, move = moved, move + 1
    torch.testing.assert_close(ours.x, y, rtol=1e-9, atol=1e-9)


def test_churn_is_bounded_and_stays_on_the_schedule() -> None:
    schedule = LinearBeta()
    base = plans.uniform(schedule, 10)
    plan = churn(schedule, base, amount=1e9, sigma_min=0.0, sigma_max=1e6, inflation=1.0)
    before = {plan[i + 1]: plan[i] for i in range(len(plan) - 1)}
    raised = [(node.level.noise_to_signal, before[node].noise_to_signal) for node in plan if isinstance(node, Renoise)]
    assert len(raised) == 9  # all but the first, which is at the top already
    assert all(high <= 2.0**0.5 * low * (1.0 + 1e-9) and high > low for high, low in raised)
    assert max(high for high, _ in raised) <= base[0].noise_to_signal * (1.0 + 1e-9)
    assert tuple(node for node in plan if isinstance(node, Level)) == base
    assert churn(schedule, base, amount=0.0) == base
    assert churn(schedule, base, sigma_min=2e3, sigma_max=3e3) == base


def test_restart_goes_up_from_the_first_node_below_and_down_again() -> None:
    base = _flow(1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
    plan = restart(Flow(), base, sigma_min=0.7, sigma_max=4.0, moves=3, repeats=2, rho=1.0)  # sigma/alpha of t = 0.4 and 0.8
    assert _times(plan[:4]) == [100, 80, 60, 40]
    assert _times(plan)[4:] == ["^80", 74, 64, 40, "^80", 74, 64, 40, 20, 0]
    ratios = [node.noise_to_signal for node in plan[5:8] if isinstance(node, Level)]
    assert ratios == pytest.approx([4.0 - 10 / 9, 4.0 - 20 / 9, 2 / 3])
    nested = restart(Flow(), plan, sigma_min=0.3, sigma_max=1.0, moves=1)
    assert _times(nested)[-4:] == [20, "^50", 20, 0]


def test_restart_of_a_coarse_plan_makes_its_own_turning_point() -> None:
    plan = restart(Flow(), _flow(1.0, 0.0), sigma_min=0.25, sigma_max=1.0, moves=1)
    assert _times(plan) == [100, 20, "^50", 20, 0]
    low = _flow(0.1, 0.05, 0.0)
    assert restart(Flow(), low, sigma_min=0.25, sigma_max=1.0) == low
    assert _times(restart(Flow(), _flow(0.4, 0.1, 0.0), 0.25, 9.0, moves=1)) == [40, 10, "^40", 10, 0]


def test_resample_repeats_every_stretch_but_the_last_move() -> None:
    base = _flow(1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
    assert _times(resample(base, 2, 3)) == [100, 80, 60, "^100", 80, 60, "^100", 80, 60, 40, 20, "^60", 40, 20, "^60", 40, 20, 0]
    assert _times(resample(base, 3, 2)) == [100, 80, 60, 40, "^100", 80, 60, 40, 20, "^40", 20, 0]
    assert resample(base, 2, 1) == base
    assert _times(resample(base[:-1], 10, 2)) == [100, 80, 60, 40, 20, "^100", 80, 60, 40, 20]
    assert _times(resample(_flow(1.0, 0.0), 1, 2)) == [100, 0]
    detour: Plan = (*_flow(0.9, 0.5), Renoise(Flow().at(0.7)), *_flow(0.5, 0.0))
    assert _times(resample(detour, 1, 2)) == [90, 50, "^90", 50, "^70", 50, "^70", 50, 0]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", DETOURS)
@pytest.mark.parametrize("moves", [1, 2, 9])
def test_every_detour_walks_from_noise_to_clean_and_only_renoises_upwards(name: str, schedule: Schedule, moves: int) -> None:
    plan = DETOURS[name](schedule, moves)
    first, last = plan[0], plan[-1]
    assert isinstance(first, Level)
    assert isinstance(last, Level)
    assert first[:3] == pytest.approx(schedule.at(schedule.noisiest)[:3], rel=1e-12)
    assert last.is_clean
    ratio = float(first.noise_to_signal)
    for node in plan[1:]:
        level = node.level if isinstance(node, Renoise) else node
        assert (float(level.noise_to_signal) > ratio) == isinstance(node, Renoise)
        assert level.is_clean or level == pytest.approx(schedule.at(level.t), rel=1e-9, abs=1e-12)
        ratio = float(level.noise_to_signal)


_DETOURS: dict[str, Callable[[Schedule, Plan], Plan]] = {
    "churn": lambda schedule, base: churn(schedule, base, amount=12.0, inflation=1.0),
    "restart": lambda schedule, base: restart(schedule, base, 0.2, 2.0, moves=30, repeats=3),
    "resample": lambda schedule, base: resample(base, 10, 3),
}


@pytest.mark.parametrize("name", _DETOURS)
def test_detours_keep_the_moments(name: str) -> None:
    schedule = Flow()
    base = plans.log_snr(schedule, 60, sigma_min=0.01)
    model, noise = TILTED.denoiser(GaussianProcess(schedule)), ExactNoise(512)
    solver = heun() if name == "churn" else DPMSolverMultistep()
    *_, last = sample(model, solver, _DETOURS[name](schedule, base), noise.prior(2), noise)
    for found, true in zip(moments(last.x), TILTED.moments(), strict=True):
        torch.testing.assert_close(found, true, rtol=0.0, atol=0.02)


def test_renoising_may_be_inflated() -> None:
    schedule = LinearBeta()
    low, high = schedule.at(0.3), schedule.at(0.6)
    model, x = TILTED.denoiser(GaussianProcess(schedule)), torch.zeros(4, 2, dtype=torch.float64)
    plain, loud = (list(sample(model, DDIM(), (low, Renoise(high, scale)), x, SampleNoise(range(4))))[-1].x for scale in (1.0, 1.5))
    torch.testing.assert_close(loud, 1.5 * plain)


def test_detours_nest_in_a_recipe() -> None:
    settings = Sample.model_validate({"plan": {"kind": "resample", "base": {"kind": "restart", "base": {"kind": "log-snr"}}}})
    assert (settings.plan.base.kind, settings.plan.base.base.kind) == ("restart", "log-snr")
    assert set(DETOURS) == {"churn", "restart", "resample"}
    assert "karras" in PLANS
    words = ["sample.plan.kind=resample", "sample.plan.base.kind=restart"]
    with pytest.raises(RecipeError, match=r"sigma_min 3 is not below sigma_max 2"):
        Recipe.load("points", [*words, "sample.plan.base.sigma_min=3", "sample.plan.base.sigma_max=2"])


def test_a_budget_of_evaluations_counts_the_detours() -> None:
    schedule = LinearBeta()
    for name, solver in (("restart", DDIM()), ("resample", DPMSolverMultistep()), ("churn", heun())):
        for budget in (8, 20, 101):
            moves = moves_within(solver, budget, partial(DETOURS[name], schedule))
            spent = [_evaluations(schedule, solver, DETOURS[name](schedule, count)) for count in (moves, moves + 1)]
            assert spent[0] <= budget < spent[1]
    with pytest.raises(UsageError, match="takes 6 evaluations"):
        moves_within(DDIM(), 5, partial(DETOURS["restart"], schedule))


def _evaluations(schedule: Schedule, solver: Solver, plan: Plan) -> int:
    noise = SampleNoise(range(1))
    *_, last = sample(TILTED.denoiser(GaussianProcess(schedule)), solver, plan, noise.prior_keys().normal((2,)), noise)
    assert last.evaluations == calls(solver, plan)
    return last.evaluations
