# SPDX-License-Identifier: Apache-2.0
"""Samples have the mean and covariance of the data: measured against standard errors, and without any Monte-Carlo error."""

from __future__ import annotations

import pytest
import torch
from solver_cases import DETERMINISTIC, PLANS, SCHEDULES, SEARCHING, SOLVERS, STOCHASTIC, TILTED, ExactNoise, fast_noise, moments
from torch import Tensor

from ornstein.base.errors import SingularPrediction
from ornstein.base.keys import Keys
from ornstein.base.registry import entry, load, names
from ornstein.exact.mixture import GaussianMixture, ring, scattered, smooth
from ornstein.exact.world import Oracle
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser, Model
from ornstein.model.guidance import ClassifierFree
from ornstein.model.prediction import Edm, Prediction
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.paths import Geometric
from ornstein.process.schedule import EDM, Cosine, Flow, Schedule
from ornstein.sample import plans
from ornstein.sample.loop import sample
from ornstein.sample.protocol import Plan, Renoise, Solver
from ornstein.sample.solvers import DDIM, DPMSolverMultistep

PREDICTIONS: dict[str, Prediction] = {name: load(entry("prediction", name))() for name in names("prediction")}
CONTRACT = ("ddpm", "ddim", "euler", "heun", "dpm++2m", "dpm++2m-sde", "unipc", "ipndm")
NEEDS_SIGNAL = {name for name in PREDICTIONS if "needs-signal" in entry("prediction", name).traits({})}


def _assert_within_three_standard_errors(x: Tensor, world: GaussianMixture) -> None:
    """Every mean and every entry of the covariance."""
    n = len(x)
    (mean, covariance), (true_mean, true_covariance) = moments(x), world.moments()
    centred = x - true_mean
    products = centred[:, :, None] * centred[:, None, :]
    assert bool(((mean - true_mean).abs() < 3.0 * (true_covariance.diagonal() / n).sqrt()).all())
    assert bool(((covariance - true_covariance).abs() < 3.0 * products.std(0) / n**0.5).all())


@pytest.mark.parametrize("world", [smooth(), TILTED, scattered(3, 3)], ids=["smooth", "gaussian", "scattered"])
@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_within_three_standard_errors(name: str, world: GaussianMixture) -> None:
    n, schedule = 1500, Cosine()
    noise = fast_noise(n, seed=1)
    x = Keys.for_draws(11, 0, n).normal((world.means.shape[1],), torch.float64)
    model = world.denoiser(GaussianProcess(schedule))
    *_, last = sample(model, STOCHASTIC[name], plans.uniform(schedule, 120), x, noise)
    _assert_within_three_standard_errors(last.x, world)


def test_components_are_visited_as_often_as_they_should_be() -> None:
    """More than two moments: the share of every mode of a ring, which is far from Gaussian."""
    n, schedule, world = 1600, Cosine(), ring()
    x = Keys.for_draws(12, 0, n).normal((2,), torch.float64)
    *_, last = sample(world.denoiser(GaussianProcess(schedule)), STOCHASTIC["ddpm"], plans.uniform(schedule, 200), x, fast_noise(n, 2))
    share = torch.bincount(torch.cdist(last.x, world.means).argmin(1), minlength=8) / n
    assert float((share - 0.125).abs().max()) < 3.5 * (0.125 * 0.875 / n) ** 0.5
    assert float(torch.cdist(last.x, world.means).min(1).values.square().mean()) == pytest.approx(2 * 0.2**2, rel=0.1)


def _exact_error(model: Denoiser, solver: Solver, plan: Plan, size: int = 512) -> float:
    """Largest error of mean and covariance on one Gaussian, relative to its largest variance; no Monte-Carlo error."""
    noise = ExactNoise(size)
    start = plan[0]
    assert isinstance(start, Level)
    mean, covariance = TILTED.moments(start)
    *_, last = sample(model, solver, plan, mean + noise.prior(2) @ torch.linalg.cholesky(covariance).T, noise)
    errors = [(found - true).abs().max() for found, true in zip(moments(last.x), TILTED.moments(), strict=True)]
    return float(max(errors)) / 0.3


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("solver", [*SOLVERS, "ddpm, forward variance", "ddim, eta 0.5", "euler in sigma", "heun in time"])
def test_every_solver_reaches_the_moments_on_every_schedule_and_plan(schedule: str, plan: str, solver: str) -> None:
    """Within 10 % by 240 moves at the latest. Exploding paths start at sigma 5: Euler in time takes steps of order 1/sigma."""
    if solver in SEARCHING and schedule not in ("edm", "geometric", "flow"):
        pytest.skip("every inner stage would search the schedule for its level")
    exploding: dict[str, Schedule] = {"edm": EDM(5.0), "geometric": Geometric(0.05, 5.0)}
    rule, path = (SOLVERS | STOCHASTIC | DETERMINISTIC)[solver], (SCHEDULES | exploding)[schedule]
    model = TILTED.denoiser(GaussianProcess(path))
    budget = (40, 240)
    for moves in budget:
        error = _exact_error(model, rule, PLANS[plan](path, moves), 512 if rule.stochastic else 8)
        if error < 0.1:
            return
    pytest.fail(f"after {budget[-1]} moves the moments are still {error:.1%} off")


@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_bias_of_stochastic_samplers_falls_at_their_weak_order(name: str) -> None:
    """The weak order is seen exactly, since no noise is left in the moments."""
    schedule = Flow()
    model = TILTED.denoiser(GaussianProcess(schedule))
    coarse, fine = (_exact_error(model, STOCHASTIC[name], plans.uniform(schedule, moves)) for moves in (100, 200))
    ratio = 2.0 ** STOCHASTIC[name].order
    assert coarse / fine == pytest.approx(ratio, abs=0.3 * (ratio - 1.0))
    assert fine < 0.05


def _oracle(prediction: Prediction, schedule: Schedule) -> Model:
    """A model whose network is exact, with levels looked up once per value: a plan asks for few."""
    seen: dict[float, Level] = {}

    def level_of(features: Tensor) -> Level:
        value = float(features[0])
        if value not in seen:
            seen[value] = schedule.at_log_snr(-8.0 * value) if isinstance(prediction, Edm) else schedule.at(value)
        return seen[value]

    return Model(Oracle(TILTED, prediction, level_of), GaussianProcess(schedule), prediction)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_contract_of_training_and_sampling(prediction: str, schedule: str, plan: str) -> None:
    """Every legal pair gives the exact denoiser's own samples with every solver; every illegal pair is refused."""
    path, noise = PLANS[plan](SCHEDULES[schedule], 8), ExactNoise(32)
    model, exact = _oracle(PREDICTIONS[prediction], SCHEDULES[schedule]), TILTED.denoiser(GaussianProcess(SCHEDULES[schedule]))
    x = path[0].sigma * noise.prior(2)
    for solver in (SOLVERS[name] for name in CONTRACT):
        if prediction in NEEDS_SIGNAL and path[0].is_noise:
            with pytest.raises(SingularPrediction):
                list(sample(model, solver, path, x, noise))
            continue
        (*_, ours), (*_, true) = (sample(denoiser, solver, path, x, noise) for denoiser in (model, exact))
        # Noise beyond sigma/alpha = 1e4 has one feature, so there the EDM row is exact to 1e-4 only.
        torch.testing.assert_close(ours.x, true.x, rtol=0.0, atol=1e-3 if prediction == "edm" and path[0].is_noise else 1e-6)


def test_guided_samples_of_one_component_have_its_moments() -> None:
    """Scale 1 is the conditional law; outside its interval guidance is not felt."""
    world, schedule, n = scattered(3, 2, seed=1), Cosine(), 512
    model, noise = world.denoiser(GaussianProcess(schedule)), ExactNoise(n)
    cond = Cond(torch.full((n,), 1))
    for guided in (ClassifierFree(model, 1.0), ClassifierFree(model, 4.0, (2.0, 3.0))):
        *_, last = sample(guided, DPMSolverMultistep(), plans.uniform(schedule, 60), noise.prior(2), noise, cond)
        for found, true in zip(moments(last.x), world.component(1).moments(), strict=True):
            torch.testing.assert_close(found, true, rtol=0.0, atol=0.02)


def test_renoised_plans_keep_the_moments() -> None:
    """Restarts (2306.14878): up to t = 0.6 with fresh noise and down again, three times over."""
    schedule = Flow()
    model, noise = TILTED.denoiser(GaussianProcess(schedule)), ExactNoise(512)
    down = schedule.at(torch.linspace(1.0, 0.2, 41, dtype=torch.float64)).unbind()
    again = [Renoise(schedule.at(0.6)), *schedule.at(torch.linspace(0.6, 0.2, 41, dtype=torch.float64)).unbind()[1:]]
    end = schedule.at(torch.linspace(0.2, 0.01, 30, dtype=torch.float64)).unbind()[1:]
    plan: Plan = (*down, *again, *again, *again, *end, schedule.at(0.0))
    *_, last = sample(model, DPMSolverMultistep(), plan, noise.prior(2), noise)
    for found, true in zip(moments(last.x), TILTED.moments(), strict=True):
        torch.testing.assert_close(found, true, rtol=0.0, atol=2e-3)


def test_churn_with_renoise_nodes_keeps_the_moments() -> None:
    """A little fresh noise before every move (2206.00364, algorithm 2) as a plan, with no solver of its own."""
    schedule, nodes = Flow(), list[Level | Renoise]()
    for t in torch.linspace(0.97, 0.02, 100, dtype=torch.float64).tolist():
        nodes += [schedule.at(t), Renoise(schedule.at(min(1.02 * t, 0.99)))]
    plan: Plan = (schedule.at(1.0), *nodes[:-1], schedule.at(0.0))
    noise = ExactNoise(512)
    *_, last = sample(TILTED.denoiser(GaussianProcess(schedule)), DDIM(), plan, noise.prior(2), noise)
    for found, true in zip(moments(last.x), TILTED.moments(), strict=True):
        torch.testing.assert_close(found, true, rtol=0.0, atol=0.02)
