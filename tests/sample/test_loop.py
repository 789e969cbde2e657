# SPDX-License-Identifier: Apache-2.0
"""The protocol of the one loop: lazy, gradient-free inside and only inside, with state as a value."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from solver_cases import DETERMINISTIC, SOLVERS, STEPPED, STOCHASTIC
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import smooth
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import CLEAN, Level
from ornstein.process.schedule import Cosine, Flow, LinearBeta
from ornstein.sample import plans
from ornstein.sample.draw import moves_within
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Bound, Plan, Renoise, Solver, Step
from ornstein.sample.runge_kutta import heun
from ornstein.sample.solvers import DDIM, Ancestral, DPMSolverMultistep

N, SCHEDULE = 5, Cosine()
X = Keys.for_draws(0, 0, N).normal((2,), torch.float64)
ALL: dict[str, Solver] = SOLVERS | DETERMINISTIC | STOCHASTIC


class Watched(Denoiser):
    """The exact denoiser with a record of its calls."""

    def __init__(self, schedule: Cosine | Flow | LinearBeta = SCHEDULE) -> None:
        self.process = GaussianProcess(schedule)
        self.inner, self.calls, self.conds = smooth().denoiser(self.process), list[tuple[Level, Level | None]](), list[Cond | None]()

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        assert not torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        self.calls.append((level, towards))
        self.conds.append(cond)
        return self.inner(x, level, cond, towards)


def _run(solver: Solver, plan: Plan, model: Denoiser | None = None) -> list[Step]:
    return list(sample(model if model is not None else Watched(), solver, plan, X, SampleNoise(range(N))))


@pytest.mark.parametrize("name", [*STEPPED, *STOCHASTIC])
def test_one_step_per_move_with_evaluations_counted(name: str) -> None:
    for schedule in (SCHEDULE, LinearBeta()):
        model, plan = Watched(schedule), plans.uniform(schedule, 4)
        steps = _run(ALL[name], plan, model)
        assert [step.i for step in steps] == [0, 1, 2, 3]
        assert tuple(step.at for step in steps) == plan[1:]
        assert steps[-1].evaluations == len(model.calls)
        assert all(step.x.shape == X.shape and bool(torch.isfinite(step.x).all()) for step in steps)
        assert "clean" in ALL[name].ends or steps[-1].x.equal(steps[-1].estimate.x0)
        assert [step.evaluations for step in steps] == sorted({step.evaluations for step in steps})


def test_the_loop_makes_the_moves_a_rule_cannot_make() -> None:
    """Heun would divide by alpha = 0 and sigma = 0: its first and last move cost one evaluation each."""
    model = Watched()
    steps = _run(heun(), plans.uniform(SCHEDULE, 4), model)
    assert [step.evaluations for step in steps] == [1, 3, 5, 6]
    first = Watched()
    plan = plans.uniform(SCHEDULE, 4)
    *_, by_law = _run(DDIM(), plan[:2], first)
    torch.testing.assert_close(steps[0].x, by_law.x)
    assert model.calls[0] == (plan[0], plan[1])
    assert model.calls[-1] == (plan[3], CLEAN)


@pytest.mark.parametrize("name", ALL)
def test_plans_of_one_move_work_from_every_start(name: str) -> None:
    for schedule in (SCHEDULE, Flow(), LinearBeta()):
        (step,) = _run(ALL[name], plans.uniform(schedule, 1), Watched(schedule))
        assert step.at == CLEAN
        assert step.evaluations == 1


def test_the_generator_is_lazy() -> None:
    model = Watched()
    steps = sample(model, heun(), plans.uniform(LinearBeta(), 4), X, SampleNoise(range(N)))
    assert model.calls == []
    next(steps)
    assert len(model.calls) == 2
    steps.close()
    assert len(model.calls) == 2


def test_gradients_are_off_inside_and_on_between_the_yields() -> None:
    assert torch.is_grad_enabled()
    plan: Plan = (*plans.uniform(SCHEDULE, 3)[:-1], Renoise(SCHEDULE.at(0.7)), *plans.uniform(LinearBeta(), 3)[2:])
    steps = sample(Watched(), heun(), plan, X.clone().requires_grad_(), SampleNoise(range(N)))
    for step in steps:
        assert torch.is_grad_enabled()
        assert not step.x.requires_grad
        assert torch.ones(1, requires_grad=True).mul(2.0).requires_grad
    half = sample(Watched(), heun(), plan, X, SampleNoise(range(N)))
    next(half)
    del half
    assert torch.is_grad_enabled()
    with torch.no_grad():
        next(sample(Watched(), heun(), plan, X, SampleNoise(range(N))))
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("name", ALL)
def test_nothing_handed_in_or_out_is_modified(name: str) -> None:
    before, seen = X.clone(), []
    for step in sample(Watched(), ALL[name], plans.uniform(SCHEDULE, 5), X, SampleNoise(range(N))):
        seen.append((step.x, step.x.clone(), step.estimate.x0, step.estimate.x0.clone()))
    assert X.equal(before)
    assert all(x.equal(copied) and x0.equal(x0_copied) for x, copied, x0, x0_copied in seen)


@pytest.mark.parametrize("name", [*STEPPED, *STOCHASTIC])
def test_state_is_a_value(name: str) -> None:
    """Stepping twice from one state gives one result, and a trajectory copied midway goes on as the original does."""
    schedule = LinearBeta()
    plan = plans.uniform(schedule, 6)[:-1]
    model, noise, solver = Bound(smooth().denoiser(GaussianProcess(schedule)), None), SampleNoise(range(N)), ALL[name]
    x, state, ends = X, solver.init(plan), []
    for i in range(2):
        advance = solver.step(model, x, plan[i:], state, noise.move(i))
        again = solver.step(model, x, plan[i:], state, noise.move(i))
        assert advance.x.equal(again.x)
        x, state = advance.x, advance.state
    for start, kept in ((x, state), (x.clone(), copy.deepcopy(state)), (x, state)):
        moved, carried = start, kept
        for i in range(2, 5):
            advance = solver.step(model, moved, plan[i:], carried, noise.move(i))
            moved, carried = advance.x, advance.state
        ends.append(moved)
    assert ends[0].equal(ends[1])
    assert ends[0].equal(ends[2])


def test_a_solver_serves_two_interleaved_runs() -> None:
    solver, plan = DPMSolverMultistep(), plans.uniform(SCHEDULE, 5)
    alone = [step.x for step in _run(solver, plan)]
    other = SampleNoise(range(N))
    pairs = zip(sample(Watched(), solver, plan, X, other), sample(Watched(), solver, plan, 2.0 * X, other), strict=True)
    for expected, (step, _) in zip(alone, pairs, strict=True):
        assert step.x.equal(expected)


def test_renoise_nodes_add_fresh_noise_and_start_a_new_stretch() -> None:
    schedule, model = LinearBeta(), Watched(LinearBeta())
    low, high = schedule.at(0.3), schedule.at(0.6)
    plan: Plan = (schedule.at(0.9), low, Renoise(high), low, Renoise(high), Renoise(schedule.at(0.8)), low, CLEAN)
    steps = _run(DPMSolverMultistep(), plan, model)
    assert [step.at for step in steps] == [low, high, low, high, schedule.at(0.8), low, CLEAN]
    assert [step.estimate is None for step in steps] == [False, True, False, True, True, False, False]
    assert [step.evaluations for step in steps] == [1, 1, 2, 2, 2, 3, 4]
    ratio = high.alpha / low.alpha
    std = (high.sigma**2 - (ratio * low.sigma) ** 2) ** 0.5
    fresh = [(steps[i].x - ratio * steps[i - 1].x) / std for i in (1, 3)]
    assert float((fresh[0] - fresh[1]).abs().min()) > 1e-4
    torch.testing.assert_close(fresh[0], SampleNoise(range(N)).move(1).normal(X))
    # the multistep rule has forgotten its history: a stretch of one move is DDIM
    *_, ddim = _run(DDIM(), (high, low), Watched(schedule))
    (plain,) = sample(Watched(schedule), DDIM(), (high, low), steps[1].x, SampleNoise(range(N)))
    torch.testing.assert_close(steps[2].x, plain.x, rtol=1e-12, atol=1e-13)
    assert not ddim.x.allclose(plain.x)


def test_renoising_from_clean_data_and_ending_on_a_renoise() -> None:
    schedule = LinearBeta()
    plan: Plan = (schedule.at(0.9), CLEAN, Renoise(schedule.at(0.5)))
    steps = _run(heun(), plan, Watched(schedule))
    assert [step.at for step in steps] == [CLEAN, schedule.at(0.5)]
    expected = schedule.at(0.5).alpha * steps[0].x + schedule.at(0.5).sigma * SampleNoise(range(N)).move(1).normal(X)
    torch.testing.assert_close(steps[1].x, expected)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_moves_depend_on_seed_and_move_only(name: str) -> None:
    plan = plans.uniform(SCHEDULE, 6)
    whole = _run(STOCHASTIC[name], plan)[-1].x
    part = list(sample(Watched(), STOCHASTIC[name], plan, X[2:4], SampleNoise([2, 3])))[-1].x
    torch.testing.assert_close(part, whole[2:4], rtol=1e-12, atol=1e-13)
    other = list(sample(Watched(), STOCHASTIC[name], plan, X, SampleNoise(range(10, 10 + N))))[-1].x
    assert not other.allclose(whole, atol=1e-2)


def test_stages_of_one_move_get_noise_of_their_own() -> None:
    move = SampleNoise([4]).move(3)
    x = torch.zeros(1, 20, dtype=torch.float64)
    assert move.normal(x).equal(SampleNoise([4]).move(3).normal(x))
    assert not move.normal(x).allclose(move.normal(x, 1))
    assert not move.normal(x).allclose(SampleNoise([4]).move(4).normal(x))
    assert bool(((move.uniform(x) >= 0) & (move.uniform(x) < 1)).all())
    assert not move.uniform(x).allclose(move.uniform(x, 1))
    assert move.normal(x.float()).dtype == torch.float32


def test_the_condition_reaches_every_call() -> None:
    model, cond = Watched(), Cond(torch.zeros(N, dtype=torch.int64))
    steps = list(sample(model, heun(), plans.uniform(SCHEDULE, 4), X, SampleNoise(range(N)), cond))
    assert len(model.conds) == 6
    assert all(seen is cond for seen in model.conds)
    assert not steps[-1].x.allclose(_run(heun(), plans.uniform(SCHEDULE, 4))[-1].x)


def test_bad_calls_are_refused_before_any_evaluation() -> None:
    model, noise = Watched(), SampleNoise(range(N))
    for plan in ((), (SCHEDULE.at(0.5),), (Renoise(SCHEDULE.at(0.5)), CLEAN)):
        with pytest.raises(UsageError, match="at least two nodes"):
            next(sample(model, DDIM(), plan, X, noise))
    with pytest.raises(UsageError, match="3 seeds for 5 samples"):
        next(sample(model, DDIM(), plans.uniform(SCHEDULE, 2), X, SampleNoise(range(3))))
    assert model.calls == []


def test_spread_interpolates_between_both_ddpm_variances() -> None:
    schedule = LinearBeta()
    t, s = schedule.at(0.8), schedule.at(0.4)
    moved = {spread: _run(Ancestral(spread), (t, s), Watched(schedule))[0].x for spread in (0.0, 0.5, 1.0)}
    x0 = smooth().expectation(X, t)
    law = GaussianProcess(schedule).reverse_law(Gaussian(x0), X, t, s)
    scale = {spread: ((x - law.mean) / (moved[0.0] - law.mean)).flatten() for spread, x in moved.items()}
    forward_over_posterior = t.sigma / s.sigma
    torch.testing.assert_close(scale[1.0], torch.full((2 * N,), forward_over_posterior, dtype=torch.float64))
    torch.testing.assert_close(scale[0.5], torch.full((2 * N,), forward_over_posterior**0.5, dtype=torch.float64))


@pytest.mark.parametrize("name", ["ddim", "dpm++2m", "heun", "euler", "ddpm"])
@pytest.mark.parametrize("budget", [1, 2, 3, 6, 7])
def test_a_budget_of_evaluations_is_spent_and_not_exceeded(name: str, budget: int) -> None:
    schedule = LinearBeta()
    solver = SOLVERS[name]
    moves = moves_within(solver, budget, partial(plans.uniform, schedule))
    spent = [_run(solver, plans.uniform(schedule, count), Watched(schedule))[-1].evaluations for count in (moves, moves + 1)]
    assert spent[0] <= budget < spent[1]
