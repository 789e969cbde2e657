# SPDX-License-Identifier: Apache-2.0
"""The mixture against torch's own distributions, automatic derivatives and Tweedie's formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, distributions

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import GaussianMixture, ring, scattered, smooth
from ornstein.exact.world import Oracle
from ornstein.model.condition import Cond
from ornstein.model.prediction import V
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import CLEAN, Level
from ornstein.process.schedule import EDM, Cosine, Flow

WORLDS = {"ring": ring(), "smooth": smooth(), "scattered": scattered(4, 5)}
every_world = pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
LEVELS = {"clean": CLEAN, "little": EDM().at(0.3), "half": Cosine().at(0.5), "much": Flow().at(0.95), "noise": Cosine().at(1.0)}
every_level = pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)


def _x(world: GaussianMixture, level: Level, n: int = 7) -> Tensor:
    keys = Keys.for_draws(0, 0, n)
    x0 = world.sample(keys).x0
    return level.alpha * x0 + level.sigma * keys.of("noise").normal(x0.shape[1:], torch.float64)


def _peer(world: GaussianMixture, level: Level) -> distributions.Distribution:
    eye = torch.eye(world.means.shape[1], dtype=torch.float64)
    parts = distributions.MultivariateNormal(level.alpha * world.means, level.alpha**2 * world.covariances + level.sigma**2 * eye)
    return distributions.MixtureSameFamily(distributions.Categorical(world.weights), parts)


@every_world
@every_level
def test_density_is_torchs(world: GaussianMixture, level: Level) -> None:
    x = _x(world, level)
    torch.testing.assert_close(world.log_prob(x, level), _peer(world, level).log_prob(x), rtol=1e-10, atol=1e-11)


@every_world
@every_level
def test_score_is_the_gradient_of_the_density(world: GaussianMixture, level: Level) -> None:
    x = _x(world, level).requires_grad_()
    (gradient,) = torch.autograd.grad(world.log_prob(x, level).sum(), x)
    torch.testing.assert_close(world.score(x.detach(), level), gradient, rtol=1e-9, atol=1e-10)


@every_world
@every_level
def test_expectation_is_tweedies_formula(world: GaussianMixture, level: Level) -> None:
    """alpha E[x_0 | x_t] = x_t + sigma^2 score."""
    x = _x(world, level)
    torch.testing.assert_close(level.alpha * world.expectation(x, level), x + level.sigma**2 * world.score(x, level), rtol=1e-9, atol=1e-10)


def test_expectation_is_the_mean_of_the_posterior() -> None:
    """By brute force: an integral over x_0 on a grid."""
    world, level = ring(), Cosine().at(0.4)
    axis = torch.linspace(-3.0, 3.0, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    for x in _x(world, level, 3):
        log_weight = world.log_prob(grid) - 0.5 * ((x - level.alpha * grid) ** 2).sum(1) / level.sigma**2
        expected = log_weight.softmax(0) @ grid
        torch.testing.assert_close(world.expectation(x[None], level)[0], expected, rtol=1e-6, atol=1e-6)


@every_world
def test_levels_per_sample_equal_one_level_at_a_time(world: GaussianMixture) -> None:
    schedule = Cosine()
    level = schedule.at(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    x = _x(world, schedule.at(0.5), 3)
    for method in (world.expectation, world.score, world.log_prob):
        together = method(x, level)
        for i, one in enumerate(level.unbind()):
            torch.testing.assert_close(together[i : i + 1], method(x[i : i + 1], one), rtol=1e-11, atol=1e-12)


@every_world
def test_labels_restrict_each_sample_to_its_component(world: GaussianMixture) -> None:
    level, x = Cosine().at(0.5), _x(world, Cosine().at(0.5), 3)
    label = torch.tensor([1, -1, 0])
    for name in ("expectation", "score", "log_prob"):
        mixed = getattr(world, name)(x, level, label)
        for i, part in enumerate((world.component(1), world, world.component(0))):
            torch.testing.assert_close(mixed[i : i + 1], getattr(part, name)(x[i : i + 1], level), rtol=1e-10, atol=1e-11)


@every_world
def test_moments_are_those_of_many_draws(world: GaussianMixture) -> None:
    n = 20000
    draws = world.sample(Keys.for_draws(0, 0, n))
    mean, covariance = world.moments()
    z = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (draws.x0 - mean).T, upper=False).T
    assert float(z.mean(0).abs().max()) < 4.0 / n**0.5
    assert float((z.T @ z / n - torch.eye(len(mean), dtype=torch.float64)).abs().max()) < 4.0 * (3.0 / n) ** 0.5
    frequency = torch.bincount(draws.label, minlength=len(world.weights)) / n
    assert float((frequency - world.weights).abs().max()) < 4.0 * 0.5 / n**0.5
    for k in range(len(world.weights)):
        torch.testing.assert_close(draws.x0[draws.label == k].mean(0), world.means[k], rtol=0.0, atol=0.1)


def test_moments_at_a_level_are_those_of_the_corruption() -> None:
    world, level = smooth(), Cosine().at(0.6)
    mean, covariance = world.moments()
    at_mean, at_covariance = world.moments(level)
    torch.testing.assert_close(at_mean, level.alpha * mean)
    torch.testing.assert_close(at_covariance, level.alpha**2 * covariance + level.sigma**2 * torch.eye(2, dtype=torch.float64))


def test_draws_are_pure_functions_of_their_keys() -> None:
    whole, part = ring().sample(Keys.for_draws(3, 0, 10)), ring().sample(Keys.for_draws(3, 4, 3))
    assert part.x0.equal(whole.x0[4:7])
    assert part.label.equal(whole.label[4:7])


def test_denoiser_keeps_shape_and_dtype_and_reads_the_condition() -> None:
    world, process = scattered(3, 12), GaussianProcess(Cosine())
    x, level = Keys.for_draws(0, 0, 4).normal((3, 2, 2)), process.schedule.at(0.4)
    label = torch.tensor([0, 1, 2, -1])
    estimate = world.denoiser(process)(x, level, Cond(label)).x0
    assert estimate.shape == x.shape
    assert estimate.dtype == torch.float32
    torch.testing.assert_close(estimate.flatten(1), world.expectation(x.flatten(1).double(), level, label).float())
    unconditional = world.expectation(x.double(), level).float()
    torch.testing.assert_close(world.denoiser(process)(x, level, Cond(vector=torch.zeros(4, 2))).x0, unconditional)


def test_an_oracle_is_a_network_that_answers_exactly() -> None:
    world, schedule = smooth(), Cosine()
    level = schedule.at(0.5)
    x = _x(world, level)
    x0 = world.expectation(x, level)
    y = Oracle(world, V(), schedule.at)(x, torch.full((7, 1), 0.5, dtype=torch.float64))
    torch.testing.assert_close(y, level.alpha * (x - level.alpha * x0) / level.sigma - level.sigma * x0)


def test_presets_are_what_they_say() -> None:
    assert torch.linalg.vector_norm(ring(5, 2.0, 0.1).means, dim=1).tolist() == pytest.approx([2.0] * 5)
    assert ring(5, 2.0, 0.1).covariances[3].diagonal().tolist() == pytest.approx([0.01] * 2)
    world = scattered(6, 4, seed=2, condition=10.0)
    variances = torch.linalg.eigvalsh(world.covariances)
    assert 0.1 <= float(variances.min()) < float(variances.max()) <= 1.0 + 1e-12
    assert world.means.equal(scattered(6, 4, seed=2).means)
    assert not world.means.equal(scattered(6, 4, seed=3).means)
    assert float(world.weights.sum()) == pytest.approx(1.0)


def test_impossible_mixtures_are_refused() -> None:
    eye, means = torch.eye(2).expand(2, 2, 2), torch.zeros(2, 2)
    for weights, covariances in (([1.0], eye), ([1.0, 1.0], eye[:1]), ([1.0, 0.0], eye), ([1.0, 1.0], -eye), ([1.0, 1.0], 0.0 * eye)):
        with pytest.raises(UsageError):
            GaussianMixture(weights, means, covariances)
