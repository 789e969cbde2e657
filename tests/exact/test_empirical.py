# SPDX-License-Identifier: Apache-2.0
"""The optimal denoiser of a finite data set."""

from __future__ import annotations

import pytest
import torch

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.empirical import Empirical
from ornstein.exact.mixture import GaussianMixture
from ornstein.model.condition import Cond
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import EDM, Cosine
from ornstein.sample import plans
from ornstein.sample.draw import Sampler
from ornstein.sample.runge_kutta import heun

POINTS = Keys.for_draws(4, 0, 20).normal((3,), torch.float64)
LABELS = torch.arange(20) % 4
X = Keys.for_draws(5, 0, 6).normal((3,), torch.float64)
LEVEL = Cosine().at(0.5)


def test_it_is_the_limit_of_ever_narrower_gaussians() -> None:
    narrow = GaussianMixture([1.0] * 20, POINTS, 1e-12 * torch.eye(3, dtype=torch.float64).expand(20, 3, 3))
    for level in (LEVEL, EDM().at(0.3), Cosine().at(torch.linspace(0.2, 0.9, 6, dtype=torch.float64))):
        for name in ("expectation", "score", "log_prob"):
            torch.testing.assert_close(getattr(Empirical(POINTS), name)(X, level), getattr(narrow, name)(X, level), rtol=1e-7, atol=1e-8)


def test_score_is_the_gradient_of_the_density() -> None:
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Empirical(POINTS).log_prob(x, LEVEL).sum(), x)
    torch.testing.assert_close(Empirical(POINTS).score(X, LEVEL), gradient)


def test_classes_restrict_the_examples() -> None:
    world, label = Empirical(POINTS, LABELS), torch.tensor([0, 1, 2, 3, -1, 0])
    for name in ("expectation", "score", "log_prob"):
        mixed = getattr(world, name)(X, LEVEL, label)
        for i, k in enumerate(label.tolist()):
            alone = Empirical(POINTS if k < 0 else POINTS[k == LABELS])
            torch.testing.assert_close(mixed[i : i + 1], getattr(alone, name)(X[i : i + 1], LEVEL))


def test_at_high_noise_it_is_the_mean_and_at_low_noise_the_nearest() -> None:
    world = Empirical(POINTS)
    torch.testing.assert_close(world.expectation(X, EDM().at(1.0 - 1e-7)), POINTS.mean(0).expand(6, 3), rtol=0.0, atol=1e-5)
    nearest = POINTS[torch.cdist(X, POINTS).argmin(1)]
    torch.testing.assert_close(world.expectation(X, EDM().at(1e-3)), nearest)


def test_samples_are_the_examples_themselves() -> None:
    """Perfect memorisation, for images as for points."""
    images = torch.sign(Keys.for_draws(6, 0, 5).normal((1, 4, 4)))
    process = GaussianProcess(EDM())
    sampler = Sampler(Empirical(images).denoiser(process), heun(), plans.karras(process.schedule, 20), (1, 4, 4), lambda seeds: None, 16)
    (drawn,) = sampler.draw(range(16))
    gap = torch.cdist(drawn.flatten(1), images.flatten(1)).min(1)
    assert float(gap.values.max()) < 1e-4
    assert len(gap.indices.unique()) > 1


def test_denoiser_reads_the_condition() -> None:
    world = Empirical(POINTS, LABELS)
    told = world.denoiser(GaussianProcess(Cosine()))(X, LEVEL, Cond(torch.zeros(6, dtype=torch.int64))).x0
    torch.testing.assert_close(told, world.expectation(X, LEVEL, torch.zeros(6, dtype=torch.int64)))


def test_impossible_data_sets_are_refused() -> None:
    with pytest.raises(UsageError, match="0 examples"):
        Empirical(POINTS[:0])
    with pytest.raises(UsageError, match="3 labels"):
        Empirical(POINTS, LABELS[:3])
    with pytest.raises(UsageError, match="without labels"):
        Empirical(POINTS).expectation(X, LEVEL, LABELS[:6])
