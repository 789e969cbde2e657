# SPDX-License-Identifier: Apache-2.0
"""Starting from an example: its noise is the prior's, and inversion finds it again to the order of the solver."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from solver_cases import SCHEDULES
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import GaussianMixture, smooth
from ornstein.model.condition import Cond
from ornstein.model.guidance import Unconditioned
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import CLEAN, Level
from ornstein.process.schedule import EDM, Cosine, Flow, Schedule
from ornstein.sample.convergence import flow, observed_order, rms
from ornstein.sample.draw import Sampler
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.plans import karras, log_snr, uniform
from ornstein.sample.protocol import Renoise, Solver
from ornstein.sample.runge_kutta import heun
from ornstein.sample.solvers import DDIM, Ancestral, DPMSolverMultistep
from ornstein.sample.start import below_noise, from_level, inverted, level_of, noised, upward

SEEDS = range(3, 9)


def nothing(seeds: object) -> None:
    return None


# -- noise added -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [Flow(), Cosine()], ids=["flow", "cosine"])
def test_at_full_strength_nothing_of_the_example_is_left(schedule: Schedule) -> None:
    process = GaussianProcess(schedule)
    sampler = Sampler(smooth().denoiser(process), DDIM(), uniform(schedule, 4), (2,), nothing, 4)
    level = level_of(schedule, 1.0)
    full = sampler._replace(plan=from_level(sampler.plan, level), begin=noised(process, torch.tensor([5.0, -3.0]), level))
    assert full.plan == sampler.plan
    assert torch.cat(list(full.draw(SEEDS))).equal(torch.cat(list(sampler.draw(SEEDS))))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("strength", [0.1, 0.6, 1.0])
def test_the_start_is_the_corrupted_example_and_the_plan_begins_there(schedule: Schedule, strength: float) -> None:
    process, x0 = GaussianProcess(schedule), torch.tensor([0.3, -0.4])
    level = level_of(schedule, strength)
    plan = from_level(uniform(schedule, 10), level)
    assert plan[0] == level
    assert plan[-1] == CLEAN
    assert all(a.t > b.t for a, b in pairwise(plan))  # type: ignore[union-attr]
    noise = SampleNoise(SEEDS).prior_keys().normal((2,))
    torch.testing.assert_close(noised(process, x0, level)(SEEDS), level.alpha * x0 + level.sigma * noise)


def test_little_strength_keeps_the_example_and_a_seed_keeps_its_sample() -> None:
    schedule, x0 = EDM(), torch.tensor([0.3, -0.4])
    process = GaussianProcess(schedule)
    level = level_of(schedule, 0.01)
    sampler = Sampler(smooth().denoiser(process), DDIM(), from_level(karras(schedule, 10), level), (2,), nothing, 4)
    sampler = sampler._replace(begin=noised(process, x0, level))
    many = torch.cat(list(sampler.draw(range(20))))
    assert float((many - x0).abs().max()) < 0.05
    assert torch.cat(list(sampler.draw([11]))).equal(many[11:12])
    assert len(many.unique(dim=0)) == 20


def test_nodes_above_the_start_are_left_out_renoise_nodes_too() -> None:
    plan = uniform(Flow(), 4)
    walked = (*plan[:2], Renoise(plan[0]), plan[1], plan[2], Renoise(plan[1]), *plan[2:])  # type: ignore[arg-type]
    at = [node.level.t if isinstance(node, Renoise) else node.t for node in from_level(walked, Flow().at(0.9))]
    assert at == [0.9, 0.75, 0.75, 0.5, 0.75, 0.5, 0.25, 0.0]


# -- solving upwards -----------------------------------------------------------------------------------------------------------

WORLD = smooth()
X0 = torch.tensor([0.4, -0.3], dtype=torch.float64)


def there_and_back(solver: Solver, schedule: Schedule, moves: int) -> Tensor:
    """The error of finding the example again from a plan without the move into clean data."""
    process = GaussianProcess(schedule)
    denoiser = WORLD.denoiser(process)
    plan = log_snr(schedule, moves, sigma_min=0.02, sigma_max=20.0)
    plan = below_noise(plan)[:-1]
    x = inverted(denoiser, solver, plan, X0, nothing)(range(2))
    [last] = deque(sample(denoiser, solver, plan, x, SampleNoise(range(2))), maxlen=1)
    return last.x - plan[-1].alpha * X0  # type: ignore[union-attr]


@pytest.mark.parametrize("schedule", [EDM(20.0), Flow()], ids=["edm", "flow"])
@pytest.mark.parametrize(("solver", "least"), [(DDIM(), 0.8), (heun(), 1.8), (DPMSolverMultistep(), 1.8)], ids=["ddim", "heun", "2m"])
def test_the_round_trip_error_falls_with_the_order_of_the_solver(solver: Solver, least: float, schedule: Schedule) -> None:
    moves = (20, 40, 80)
    errors = [rms(there_and_back(solver, schedule, n)) for n in moves]
    assert observed_order(moves, errors) > least
    assert errors[-1] < (0.1 if least < 1.0 else 0.005)


def test_the_way_up_is_the_probability_flow() -> None:
    process = GaussianProcess(EDM(20.0))
    plan = log_snr(process.schedule, 100, sigma_min=0.02)
    x = inverted(WORLD.denoiser(process), heun(), plan, X0, nothing)(range(1))
    low, high = plan[-2], plan[0]
    torch.testing.assert_close(x, flow(WORLD.denoiser(process), (low.alpha * X0)[None], low, high, 128), rtol=0.0, atol=1e-2)


def test_under_another_class_the_counterpart_is_found() -> None:
    """Between two normal laws the flow keeps the standardised place of a point."""
    pair = GaussianMixture([0.5, 0.5], torch.tensor([[-1.0], [2.0]]), torch.tensor([[[0.1]], [[0.4]]]))
    process = GaussianProcess(EDM(80.0))
    denoiser, solver = pair.denoiser(process), heun()
    plan = log_snr(process.schedule, 80, sigma_min=0.005)

    def of_class(label: int) -> Callable[[Sequence[int]], Cond]:
        return lambda seeds: Cond(torch.full((len(seeds),), label))

    begin = inverted(denoiser, solver, plan, torch.tensor([-0.8], dtype=torch.float64), of_class(0))
    sampler = Sampler(denoiser, solver, plan, (1,), of_class(1), 2, begin=begin)
    found = float(next(iter(sampler.draw([0])))[0, 0])
    up = -1.0 + 0.2 / 0.1**0.5 * (0.1 + 6400.0) ** 0.5
    assert found == pytest.approx(2.0 + (up - 2.0) / (0.4 + 6400.0) ** 0.5 * 0.4**0.5, abs=0.003)


def test_the_plan_upwards_has_neither_end() -> None:
    plan = uniform(Flow(), 5)
    up = upward(below_noise(plan))
    assert [level.t for level in up] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    for hopeless in (plan, uniform(EDM(), 1)):
        with pytest.raises(UsageError, match="two levels"):
            upward(hopeless)


def test_a_plan_with_fresh_noise_has_no_way_back() -> None:
    plan = uniform(EDM(), 4)
    with pytest.raises(UsageError, match="fresh noise"):
        upward((*plan[:3], Renoise(plan[1]), *plan[2:]))  # type: ignore[arg-type]


def test_a_stochastic_rule_cannot_invert() -> None:
    process = GaussianProcess(EDM())
    with pytest.raises(UsageError, match="stochastic"):
        inverted(Unconditioned(WORLD.denoiser(process)), Ancestral(), uniform(process.schedule, 4), X0, nothing)


def test_keys_of_the_start_are_those_of_the_prior() -> None:
    level = Level(0.5, 0.0, 1.0)
    noise = noised(GaussianProcess(Flow()), torch.zeros(2), level)(SEEDS)
    assert noise.equal(Keys.for_seeds(tuple(SEEDS), 0, "sample/prior").normal((2,)))
