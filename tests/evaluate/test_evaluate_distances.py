# SPDX-License-Identifier: Apache-2.0
"""Distances against closed forms, brute force and invariances."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from ornstein.base.keys import generator_of
from ornstein.evaluate import distances
from ornstein.evaluate.distances import (
    Moments,
    cubic,
    directions,
    frechet,
    frechet_of,
    kernel_distance,
    kernel_distance_of_subsets,
    negative_distance,
    sliced_wasserstein,
    subsets_of,
    wasserstein_1d,
)


def normal(*shape: int, key: str = "") -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator_of("test", key, *shape))


def covariance(dim: int, rank: int, key: str) -> Tensor:
    factor = normal(dim, rank, key=key)
    return factor @ factor.T


def gaussian(mean: Tensor, cov: Tensor) -> Moments:
    return Moments(100, mean, cov)


def test_frechet_of_a_shifted_copy_is_the_squared_shift() -> None:
    x, shift = normal(50, 6) @ normal(6, 6, key="mix"), normal(6, key="shift")
    assert frechet(x, x + shift) == pytest.approx(float(shift.square().sum()), rel=1e-12)


def test_frechet_of_scaled_covariances() -> None:
    cov = covariance(5, 5, "a")
    assert frechet_of(gaussian(torch.zeros(5).double(), cov), gaussian(torch.ones(5).double(), 9 * cov)) == pytest.approx(
        5 + 4 * float(cov.trace()), rel=1e-12
    )


def test_frechet_of_commuting_covariances_compares_standard_deviations() -> None:
    basis, zero = torch.linalg.qr(normal(30, 30)).Q, torch.zeros(30).double()
    a, b = normal(30, key="a").abs(), normal(30, key="b").abs()
    a[::2] = b[::3] = 0  # null spaces that overlap in part
    found = frechet_of(gaussian(zero, basis @ torch.diag(a**2) @ basis.T), gaussian(zero, basis @ torch.diag(b**2) @ basis.T))
    assert found == pytest.approx(float((a - b).square().sum()), rel=1e-12)


def test_frechet_of_correlated_planes() -> None:
    # In two dimensions tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)), here with M = S T.
    s, t = covariance(2, 2, "s"), covariance(2, 2, "t")
    cross = math.sqrt(float((s @ t).trace()) + 2 * math.sqrt(float(torch.linalg.det(s) * torch.linalg.det(t))))
    zero = torch.zeros(2).double()
    assert frechet_of(gaussian(zero, s), gaussian(zero, t)) == pytest.approx(float(s.trace() + t.trace()) - 2 * cross, rel=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 3, 20])
def test_frechet_keeps_full_precision_where_covariances_are_singular(rank: int) -> None:
    cov = covariance(20, rank, "singular") if rank else torch.zeros(20, 20).double()
    zero, scale = torch.zeros(20).double(), max(1.0, float(cov.trace()))
    assert abs(frechet_of(gaussian(zero, cov), gaussian(zero, cov))) < 1e-12 * scale
    assert frechet_of(gaussian(zero, cov), gaussian(zero, torch.zeros(20, 20).double())) == pytest.approx(float(cov.trace()), rel=1e-12)


def test_frechet_of_fewer_points_than_dimensions_and_of_one_point_repeated() -> None:
    x = normal(7, 40)
    assert frechet(x, x.flip(0)) == pytest.approx(0, abs=1e-11)
    assert frechet(x, torch.zeros(3, 40)) == pytest.approx(float(x.mean(0).square().sum() + x.var(0).sum()), rel=1e-12)


def test_frechet_is_symmetric_and_refuses_a_single_point() -> None:
    x, y = normal(30, 4), normal(40, 4) * 2
    assert frechet(x, y) == pytest.approx(frechet(y, x), rel=1e-12)
    with pytest.raises(ValueError, match="at least 2"):
        frechet(x[:1], y)


def test_moments_of_shards_merge_into_those_of_the_whole() -> None:
    x = normal(101, 5) + 1e3
    merged = Moments.of(x[:10]).merge(Moments.of(x[10:37])).merge(Moments.of(x[37:]))
    whole = Moments.of(x)
    assert merged.n == 101
    assert torch.allclose(merged.mean, whole.mean, rtol=1e-14)
    assert torch.allclose(merged.covariance, torch.cov(x.T), rtol=1e-10)
    assert torch.allclose(whole.covariance, torch.cov(x.T), rtol=1e-10)


@pytest.mark.parametrize("kernel", [cubic, negative_distance])
def test_kernel_distance_equals_the_sum_over_pairs(kernel: distances.Kernel) -> None:
    x, y = normal(7, 3, key="x"), normal(5, 3, key="y") + 0.3

    def k(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 3 + 1) ** 3) if kernel is cubic else -float((a - b).norm())

    xx = sum(k(a, b) for a, b in itertools.permutations(x, 2)) / 42
    yy = sum(k(a, b) for a, b in itertools.permutations(y, 2)) / 20
    xy = sum(k(a, b) for a in x for b in y) / 35
    assert kernel_distance(x, y, kernel).value == pytest.approx(xx + yy - 2 * xy, rel=1e-12)


def test_kernel_distance_does_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(23, 3, key="x"), normal(17, 3, key="y")
    whole = kernel_distance(x, y)
    monkeypatch.setattr(distances, "ENTRIES", 40)
    assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("kernel", [cubic, negative_distance])
def test_kernel_distance_is_unbiased_and_its_error_covers_the_spread(kernel: distances.Kernel) -> None:
    draws = [kernel_distance(x, y, kernel) for x, y in zip(normal(400, 12, 2, key="x"), normal(400, 15, 2, key="y"), strict=True)]
    values, errors = torch.tensor(draws, dtype=torch.float64).unbind(1)
    assert abs(float(values.mean())) < 3 * float(values.std()) / 20
    assert (values < 0).any()
    assert 1 < float(errors.square().mean().sqrt() / values.std()) < 2


def test_kernel_distance_error_is_the_spread_where_the_laws_differ() -> None:
    draws = [kernel_distance(x, y) for x, y in zip(normal(300, 40, 2, key="x") + 1, normal(300, 60, 2, key="y"), strict=True)]
    values, errors = torch.tensor(draws, dtype=torch.float64).unbind(1)
    assert float(errors.square().mean().sqrt() / values.std()) == pytest.approx(1, abs=0.15)


def test_kernel_distance_in_closed_form() -> None:
    # One dimension, x = +-1 and y = +-2 each half the time: E k over pairs of the laws themselves.
    x, y = torch.tensor([[1.0], [-1.0]]).repeat(1000, 1), torch.tensor([[2.0], [-2.0]]).repeat(1000, 1)
    law = (8 + 0) / 2 + (125 - 27) / 2 - 2 * (27 - 1) / 2
    assert kernel_distance(x, y).value == pytest.approx(law, rel=2e-3)
    assert kernel_distance(x, y, negative_distance).value == pytest.approx(2 * (1 + 3) / 2 - 1 - 2, abs=5e-3)


def test_kernel_distance_needs_two_points() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(normal(1, 2), normal(5, 2))


@pytest.mark.parametrize(("n", "m"), [(6, 6), (6, 4), (3, 7), (1, 5), (8, 2)])
def test_wasserstein_equals_the_sorted_matching_of_sets_repeated_to_equal_size(n: int, m: int) -> None:
    x, y = normal(n, 3, key="x"), normal(m, 3, key="y")
    common = math.lcm(n, m)
    a, b = (v.repeat_interleave(common // len(v), 0).sort(0).values for v in (x, y))
    assert torch.allclose(wasserstein_1d(x, y), (a - b).square().mean(0), rtol=1e-12)


def test_wasserstein_is_the_best_of_all_matchings() -> None:
    x, y = normal(5, 1, key="x"), normal(5, 1, key="y")
    best = min(float((x - y[list(order)]).square().mean()) for order in itertools.permutations(range(5)))
    assert float(wasserstein_1d(x, y)) == pytest.approx(best, rel=1e-12)


def test_sliced_wasserstein_of_a_shift() -> None:
    x, shift = normal(33, 7), normal(7, key="shift")
    expected = float(shift.norm()) / math.sqrt(7)
    assert sliced_wasserstein(x, x + shift, count=20) == pytest.approx(expected, rel=1e-12)
    assert sliced_wasserstein(x, (x + shift).repeat(2, 1), count=20) == pytest.approx(expected, rel=1e-12)


def test_sliced_wasserstein_of_a_scaled_set() -> None:
    x = normal(40, 5)
    assert sliced_wasserstein(x, 3 * x) == pytest.approx(2 * math.sqrt(float(x.square().sum(1).mean()) / 5), rel=1e-12)


def test_directions_are_whole_bases_fixed_by_the_seed() -> None:
    slices = directions(6, 13, seed=2)
    assert slices.shape == (6, 18)
    assert torch.allclose(slices[:, 6:12].T @ slices[:, 6:12], torch.eye(6).double(), atol=1e-12)
    assert torch.equal(slices, directions(6, 13, seed=2))
    assert not torch.equal(slices, directions(6, 13, seed=3))


def test_a_frechet_distance_of_fewer_points_than_dimensions() -> None:
    generator = torch.Generator().manual_seed(5)
    mix = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    x, y = (torch.randn(n, 20, generator=generator, dtype=torch.float64) @ mix for n in (9, 14))
    assert frechet(x, y) == pytest.approx(frechet_of(Moments.of(x), Moments.of(y)), rel=1e-9)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)


def test_subsets_of_a_kernel_distance_are_averaged() -> None:
    generator = torch.Generator().manual_seed(6)
    x, y = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (50, 40))
    subsets = subsets_of(50, 40, size=12, count=7, seed=2)
    assert all(len(set(rows.tolist())) == 12 for pair in subsets for rows in pair)
    found = kernel_distance_of_subsets(x, y, subsets)
    values = torch.tensor([kernel_distance(x[i], y[j]).value for i, j in subsets], dtype=torch.float64)
    assert found.value == pytest.approx(float(values.mean()))
    assert found.error == pytest.approx(float(values.var(correction=0).sqrt()))
    whole = kernel_distance_of_subsets(x, y, [(torch.arange(50), torch.arange(40))])
    assert whole.value == pytest.approx(kernel_distance(x, y).value)
