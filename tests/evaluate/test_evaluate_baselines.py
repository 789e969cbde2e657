# SPDX-License-Identifier: Apache-2.0
"""The baselines do what they claim: right moments, right classes, keyed draws."""

from __future__ import annotations

import torch

from ornstein.base.keys import generator_of
from ornstein.evaluate.baselines import SHRINKAGE, class_gaussians, noisy_copies
from ornstein.evaluate.pixels import pooled


def grey(n: int, mean: float, key: str) -> torch.Tensor:
    """Images of 8 px whose pixels share a random brightness, correlated and away from the ends of the range."""
    generator = generator_of("grey", key)
    common, own = torch.randn(n, 1, 1, 1, generator=generator), torch.randn(n, 1, 8, 8, generator=generator)
    return (mean + 15 * common + 10 * own).clamp(0, 255).to(torch.uint8)


def test_gaussians_have_the_moments_of_their_class() -> None:
    images, labels = torch.cat([grey(400, 80, "a"), grey(400, 170, "b")]), torch.arange(2).repeat_interleave(400)
    wanted = torch.tensor([1, 0]).repeat(3000)
    drawn = class_gaussians(images, labels, wanted, seed=0)
    for name in (0, 1):
        real, found = pooled(images[labels == name], 8), pooled(drawn[wanted == name], 8)
        covariance = torch.cov(real.T)
        shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * covariance.trace() / 64 * torch.eye(64)
        error = (covariance.trace() / 64 / 3000) ** 0.5
        assert (found.mean(0) - real.mean(0)).abs().max() < 5 * error
        assert torch.linalg.norm(torch.cov(found.T) - shrunk) < 0.1 * torch.linalg.norm(shrunk)
        assert torch.linalg.norm(torch.cov(found.T) - covariance.diag().diag()) > 0.5 * torch.linalg.norm(covariance)


def test_gaussians_are_enlarged_by_repeating_and_keyed() -> None:
    images = torch.randint(256, (20, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels, wanted = torch.zeros(20, dtype=torch.int64), torch.zeros(6, dtype=torch.int64)
    drawn = class_gaussians(images, labels, wanted, seed=1)
    assert drawn.shape == (6, 3, 16, 16)
    assert drawn.dtype == torch.uint8
    assert torch.equal(drawn, drawn[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(drawn, class_gaussians(images, labels, wanted, seed=1))
    assert not torch.equal(drawn, class_gaussians(images, labels, wanted, seed=2))


def test_a_class_of_one_image_repeats_it() -> None:
    images = grey(5, 100, "few")
    labels = torch.tensor([0, 0, 0, 0, 1])
    drawn = class_gaussians(images, labels, torch.tensor([1, 1]), seed=0)
    assert torch.equal(drawn, images[4:].repeat(2, 1, 1, 1))


def test_noisy_copies_differ_by_the_noise_asked_for() -> None:
    images = torch.full((50, 1, 16, 16), 128, dtype=torch.uint8)
    noise = noisy_copies(images, seed=0, amount=0.05).double() - 128
    assert abs(float(noise.mean())) < 0.5
    assert 0.047 < float(noise.std()) / 255 < 0.053
    assert torch.equal(noisy_copies(images, seed=0, amount=0.0), images)
    assert not torch.equal(noisy_copies(images, seed=0), noisy_copies(images, seed=1))
    white = noisy_copies(torch.full((5, 1, 16, 16), 255, dtype=torch.uint8), seed=0)
    assert white.min() > 150  # cut to the range, not wrapped around
