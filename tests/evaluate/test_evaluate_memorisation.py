# SPDX-License-Identifier: Apache-2.0
"""The check for copies: on copies, on fresh draws, on duplicated training images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ornstein.base.errors import DataError
from ornstein.base.keys import generator_of
from ornstein.evaluate import distances
from ornstein.evaluate.memorisation import Originals


def normal(n: int, dim: int, key: str) -> Tensor:
    return torch.randn(n, dim, dtype=torch.float64, generator=generator_of("memorisation", key))


def test_equals_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    train, samples = normal(12, 3, "train"), normal(9, 3, "samples")
    monkeypatch.setattr(distances, "ENTRIES", 30)
    found = Originals(train).check(samples)
    for i, sample in enumerate(samples):
        apart = (train - sample).norm(dim=1)
        t = int(apart.argmin())
        own = min(float((train[t] - train[j]).norm()) for j in range(12) if j != t)
        assert found.nearest[i] == t
        assert float(found.ratios[i]) == pytest.approx(float(apart[t]) / own, rel=1e-12)
    assert found.twins == 0


def test_copies_have_ratio_zero_and_noisy_copies_a_small_one() -> None:
    train = normal(200, 10, "train")
    copied = Originals(train).check(train[50:80])
    assert copied.ratios.eq(0).all()
    assert copied.nearest.tolist() == list(range(50, 80))
    assert (copied.median, copied.share_below()) == (0, 1)
    noisy = Originals(train).check(train + 0.05 * normal(200, 10, "noise"))
    assert 0 < noisy.median < 0.2
    assert noisy.share_below() == 1


def test_fresh_draws_of_the_same_law_have_ratio_one() -> None:
    found = Originals(normal(600, 16, "train")).check(normal(600, 16, "fresh"))
    assert found.median == pytest.approx(1, abs=0.08)
    assert found.share_below() < 0.02


def test_duplicated_training_images_count_as_one() -> None:
    train, samples = normal(40, 4, "train"), normal(30, 4, "samples")
    once, doubled = Originals(train).check(samples), Originals(torch.cat([train, train[:20]])).check(samples)
    assert torch.equal(once.ratios, doubled.ratios)
    assert torch.equal(once.nearest, doubled.nearest)  # the first of equal ones is named
    assert doubled.twins == len({int(i) for i in once.nearest if i < 20}) > 0


def test_the_search_in_float32_finds_what_float64_finds() -> None:
    # Far from the origin and close together: float32 alone could not tell the neighbours apart.
    train = 100 + torch.linspace(0, 0.01, 50, dtype=torch.float64)[:, None] * torch.ones(1, 3)
    samples = 100 + normal(30, 3, "shifts") * 0.005
    found = Originals(train).check(samples)
    assert torch.equal(found.nearest, torch.cdist(samples, train, compute_mode="donot_use_mm_for_euclid_dist").argmin(1))


def test_names_the_closest_pairs() -> None:
    train = torch.tensor([[0.0], [1.0], [10.0], [14.0]])
    samples = torch.tensor([[10.4], [0.8], [14.0]])
    found = Originals(train).check(samples)
    assert found.closest(2) == [(2, 3, 0.0), (0, 2, pytest.approx(0.1, rel=1e-5))]
    assert found.share_below(0.15) == pytest.approx(2 / 3)
    assert found.share_below(0.05) == pytest.approx(1 / 3)


def test_a_ratio_of_just_one_half_is_not_below_it() -> None:
    found = Originals(torch.tensor([[0.0], [-4.0]])).check(torch.tensor([[2.0]]))
    assert (found.median, found.share_below(0.5), found.share_below(0.51)) == (0.5, 0, 1)


def test_equal_training_images_leave_no_yardstick() -> None:
    with pytest.raises(DataError, match="all equal"):
        Originals(torch.ones(5, 3))
