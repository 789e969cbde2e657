# SPDX-License-Identifier: Apache-2.0
"""Posterior sampling against the exact posterior of Gaussian worlds, estimate by estimate and sample by sample."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import GaussianMixture
from ornstein.exact.posterior import posterior
from ornstein.model.denoiser import Denoiser
from ornstein.model.inpainting import Replaced
from ornstein.model.inverse import PosteriorSampled, PseudoinverseGuided
from ornstein.model.operators import AveragePool, Masked, Matrix
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import CLEAN, Level
from ornstein.process.schedule import EDM, Cosine, Flow, Schedule
from ornstein.sample.detours import resample
from ornstein.sample.loop import sample
from ornstein.sample.noise import MoveNoise, SampleNoise
from ornstein.sample.plans import log_snr, uniform
from ornstein.sample.protocol import Solver
from ornstein.sample.runge_kutta import heun
from ornstein.sample.solvers import DDIM, Ancestral

SPREAD = 0.7
ROUND = GaussianMixture([1.0], torch.tensor([[0.4, -0.2, 0.1]]), SPREAD**2 * torch.eye(3, dtype=torch.float64)[None])
A = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.3, -1.0]], dtype=torch.float64)
Y = torch.tensor([0.9, -0.5], dtype=torch.float64)
SCHEDULES = pytest.mark.parametrize("schedule", [Cosine(), Flow(), EDM()], ids=["cosine", "flow", "edm"])


def drawn(denoiser: Denoiser, solver: Solver, plan: tuple[Level, ...], dim: int, n: int = 4000) -> Tensor:
    """Samples with one generator for all, for statistics."""

    class Stream(SampleNoise):
        def move(self, i: int) -> MoveNoise:
            class Shared(MoveNoise):
                def normal(self, like: Tensor, stage: int = 0) -> Tensor:
                    return torch.randn(like.shape, generator=torch.Generator().manual_seed(100 + i), dtype=like.dtype)

            return Shared(self.seeds, i)

    x = torch.randn(n, dim, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * plan[0].sigma
    [last] = deque(sample(denoiser, solver, plan, x, Stream(range(n))), maxlen=1)
    return last.x


# -- pseudo-inverse guidance -------------------------------------------------------------------------------------------------


@SCHEDULES
@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("std", [0.02, 0.5])
def test_in_a_round_world_the_estimate_is_the_exact_posterior_mean(schedule: Schedule, t: float, std: float) -> None:
    level, x = schedule.at(t), Keys.for_draws(0, 0, 8).normal((3,), torch.float64)
    guided = PseudoinverseGuided(ROUND.denoiser(GaussianProcess(schedule)), Matrix(A), Y, std, SPREAD)
    exact = posterior(ROUND, A, Y, std).expectation(x, level)
    torch.testing.assert_close(guided(x, level).x0, exact, rtol=1e-8, atol=1e-8)
    assert float((exact - ROUND.expectation(x, level)).abs().max()) > 1e-4


def test_pure_noise_has_nothing_to_differentiate() -> None:
    x, level = Keys.for_draws(0, 0, 8).normal((3,), torch.float64), Flow().at(1.0)
    exact = ROUND.denoiser(GaussianProcess(Flow()))
    assert PseudoinverseGuided(exact, Matrix(A), Y, 0.1)(x, level).x0.equal(exact(x, level).x0)


def test_samples_of_a_round_world_have_the_moments_of_the_posterior() -> None:
    process = GaussianProcess(EDM())
    guided = PseudoinverseGuided(ROUND.denoiser(process), Matrix(A), Y, 0.3, SPREAD)
    x = drawn(guided, heun(), log_snr(process.schedule, 40), 3)
    mean, covariance = posterior(ROUND, A, Y, 0.3).moments()
    torch.testing.assert_close(x.mean(0), mean, rtol=0.0, atol=0.03)
    torch.testing.assert_close(torch.cov(x.T), covariance, rtol=0.0, atol=0.03)


def test_samples_of_a_tilted_mixture_come_near_the_posterior() -> None:
    """Not exact here: the distance of the moments falls to a fraction of what the prior's have."""
    covariances = torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.4, -0.1], [-0.1, 0.5]]])
    world = GaussianMixture([0.6, 0.4], torch.tensor([[-0.5, 0.1], [0.7, 0.3]]), covariances)
    process, matrix, y = GaussianProcess(EDM()), torch.tensor([[1.0, 0.5]], dtype=torch.float64), torch.tensor([0.9], dtype=torch.float64)
    guided = PseudoinverseGuided(world.denoiser(process), Matrix(matrix), y, 0.2, 0.8)
    x = drawn(guided, DDIM(), log_snr(process.schedule, 40), 2)
    (mean, covariance), (prior_mean, prior_covariance) = posterior(world, matrix, y, 0.2).moments(), world.moments()
    assert float((x.mean(0) - mean).norm()) < 0.25 * float((prior_mean - mean).norm())
    assert float((torch.cov(x.T) - covariance).norm()) < 0.35 * float((prior_covariance - covariance).norm())


def test_a_measurement_without_noise_is_met() -> None:
    process = GaussianProcess(Flow())
    world = GaussianMixture([1.0], torch.zeros(1, 16), 0.25 * torch.eye(16)[None])

    class Images(Denoiser):
        def __init__(self) -> None:
            self.process, self.inner = process, world.denoiser(process)

        def __call__(self, x: Tensor, level: Level, cond: object = None, towards: Level | None = None) -> object:
            return self.inner(x, level)

    low = Keys.for_draws(3, 0, 1).normal((1, 2, 2), torch.float64)[0]
    guided = PseudoinverseGuided(Images(), AveragePool(2), low, 0.0, 0.5)
    noise = SampleNoise(range(4))
    x = noise.prior_keys().normal((1, 4, 4), torch.float64)
    [last] = deque(sample(guided, DDIM(), uniform(process.schedule, 30), x, noise), maxlen=1)
    torch.testing.assert_close(AveragePool(2)(last.x), low.expand(4, 1, 2, 2), rtol=0.0, atol=2e-2)


# -- diffusion posterior sampling --------------------------------------------------------------------------------------------


@SCHEDULES
def test_a_ddpm_move_is_that_of_the_published_algorithm(schedule: Schedule) -> None:
    """2209.14687, algorithm 1: the plain move, then a step of fixed length down the gradient of the misfit."""
    process, length = GaussianProcess(schedule), 0.3
    prior, noise = ROUND.denoiser(process), SampleNoise(range(5))
    t, s = schedule.at(0.6), schedule.at(0.5)
    x = Keys.for_draws(0, 0, 5).normal((3,), torch.float64)
    place = x.clone().requires_grad_()
    misfit = (Y - prior(place, t).x0 @ A.T).norm(dim=1)
    (gradient,) = torch.autograd.grad(misfit.sum(), place)
    [plain] = sample(prior, Ancestral(), (t, s), x, noise)
    [moved] = sample(PosteriorSampled(prior, Matrix(A), Y, length), Ancestral(), (t, s), x, noise)
    torch.testing.assert_close(moved.x, plain.x - length * gradient, rtol=1e-9, atol=1e-10)


def test_many_moves_bring_samples_to_the_measurement() -> None:
    process = GaussianProcess(Cosine(end=0.995))
    prior = ROUND.denoiser(process)
    x = drawn(PosteriorSampled(prior, Matrix(A), Y, 0.05), Ancestral(), uniform(process.schedule, 200), 3, 200)
    plain = drawn(prior, Ancestral(), uniform(process.schedule, 200), 3, 200)
    assert float((x @ A.T - Y).norm(dim=1).mean()) < 0.1 * float((plain @ A.T - Y).norm(dim=1).mean())


def test_rules_with_several_evaluations_per_move_are_refused() -> None:
    process = GaussianProcess(EDM())
    guided = PosteriorSampled(ROUND.denoiser(process), Matrix(A), Y)
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(UsageError, match="no noisier"):
        list(sample(guided, heun(), (process.schedule.at(0.6), process.schedule.at(0.5), CLEAN), x, SampleNoise(range(2))))


# -- filling in by replacement -----------------------------------------------------------------------------------------------

TILTED = GaussianMixture([1.0], torch.tensor([[0.2, -0.1]]), torch.tensor([[[0.5, 0.4], [0.4, 0.6]]]))
KNOWN = torch.tensor([True, False])
CLEAN_DATA = torch.tensor([0.9, 55.0], dtype=torch.float64)


@pytest.mark.parametrize("solver", [DDIM(), Ancestral(), heun()], ids=["ddim", "ddpm", "heun"])
def test_what_is_known_is_kept_and_walks_along_the_corruption_path(solver: Solver) -> None:
    process = GaussianProcess(Cosine(end=0.995))
    noise = SampleNoise(range(4))
    x = noise.prior_keys().normal((2,), torch.float64)
    for step in sample(Replaced(TILTED.denoiser(process), CLEAN_DATA, KNOWN), solver, uniform(process.schedule, 12), x, noise):
        last = step
        if not solver.stochastic:
            start = process.schedule.at(1.0)
            eps = (x[:, 0] - start.alpha * 0.9) / start.sigma
            torch.testing.assert_close(step.x[:, 0], step.at.alpha * 0.9 + step.at.sigma * eps, rtol=1e-9, atol=1e-10)
    assert last.x[:, 0].eq(0.9).all()
    assert float(last.x[:, 1].max()) < 5.0


def test_independent_parts_are_filled_in_exactly() -> None:
    world = GaussianMixture([1.0], torch.tensor([[0.2, -0.1]]), torch.tensor([[[0.5, 0.0], [0.0, 0.6]]]))
    process = GaussianProcess(EDM())
    x = drawn(Replaced(world.denoiser(process), CLEAN_DATA, KNOWN), heun(), log_snr(process.schedule, 30), 2)
    assert float(x[:, 1].mean()) == pytest.approx(-0.1, abs=0.04)
    assert float(x[:, 1].var()) == pytest.approx(0.6, abs=0.04)


def test_masked_guidance_and_replacement_agree_on_what_is_known() -> None:
    process = GaussianProcess(EDM())
    guided = PseudoinverseGuided(TILTED.denoiser(process), Masked(KNOWN), CLEAN_DATA * KNOWN, 0.01, 0.75)
    x = drawn(guided, DDIM(), log_snr(process.schedule, 60), 2, 1000)
    mean, _ = posterior(TILTED, torch.tensor([[1.0, 0.0]]), torch.tensor([0.9]), 0.01).moments()
    torch.testing.assert_close(x[:, 0], torch.full((1000,), 0.9, dtype=torch.float64), rtol=0.0, atol=0.05)
    assert float(x[:, 1].mean()) == pytest.approx(float(mean[1]), abs=0.1)


def test_walking_stretches_again_brings_what_is_filled_in_and_what_is_known_together() -> None:
    """Replacement alone fills in too much as if nothing were known; RePaint's plan goes most of the way to the exact law."""
    process = GaussianProcess(EDM())
    plan, denoiser = log_snr(process.schedule, 20), Replaced(TILTED.denoiser(process), CLEAN_DATA, KNOWN)
    mean, _ = posterior(TILTED, torch.tensor([[1.0, 0.0]]), torch.tensor([0.9]), 1e-3).moments()
    once, often = (drawn(denoiser, Ancestral(), resample(plan, 2, times), 2, 2000)[:, 1] for times in (1, 12))  # type: ignore[arg-type]
    assert abs(float(often.mean() - mean[1])) < 0.35 * abs(float(once.mean() - mean[1]))
