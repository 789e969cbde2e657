# SPDX-License-Identifier: Apache-2.0
"""The distances agree with torchmetrics on equal features; runs where torchmetrics is installed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ornstein.evaluate.distances import frechet, kernel_distance, kernel_distance_of_subsets

fid = pytest.importorskip("torchmetrics.image.fid")
kid = pytest.importorskip("torchmetrics.image.kid")


class Seen(nn.Module):
    """A feature extractor that passes on what it is given."""

    num_features = 16

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).double() / 64


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(256, (300, 1, 4, 4), generator=generator).to(torch.uint8)
    fake = (torch.randint(256, (300, 1, 4, 4), generator=generator).roll(1, 3) * 0.8).to(torch.uint8)
    return real, fake


def test_frechet_distance(images: tuple[Tensor, Tensor]) -> None:
    real, fake = images
    theirs = fid.FrechetInceptionDistance(feature=Seen(), input_img_size=(1, 4, 4)).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert frechet(Seen()(real), Seen()(fake)) == pytest.approx(float(theirs.compute()), rel=1e-4)


def test_kernel_distance(images: tuple[Tensor, Tensor]) -> None:
    real, fake = images
    theirs = kid.KernelInceptionDistance(feature=Seen(), subsets=1, subset_size=300).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    assert kernel_distance(Seen()(real), Seen()(fake)).value == pytest.approx(float(theirs.compute()[0]), rel=1e-6)


def test_kernel_distance_of_subsets(images: tuple[Tensor, Tensor]) -> None:
    real, fake = images
    theirs = kid.KernelInceptionDistance(feature=Seen(), subsets=5, subset_size=80).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(fake, real=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mean, spread = (float(value) for value in theirs.compute())
        torch.manual_seed(0)
        subsets = [(torch.randperm(300)[:80], torch.randperm(300)[:80]) for _ in range(5)]
    ours = kernel_distance_of_subsets(Seen()(real), Seen()(fake), subsets)
    assert ours.value == pytest.approx(mean, rel=1e-6)
    assert ours.error == pytest.approx(spread, rel=1e-6)
