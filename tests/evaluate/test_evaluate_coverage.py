# SPDX-License-Identifier: Apache-2.0
"""Precision, recall, density and coverage against their definitions, point by point."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ornstein.base.keys import generator_of
from ornstein.evaluate import distances
from ornstein.evaluate.coverage import Coverage, coverage, radii


def normal(n: int, key: str) -> Tensor:
    return torch.randn(n, 3, dtype=torch.float64, generator=generator_of("coverage", key))


def by_definition(generated: Tensor, real: Tensor, k: int) -> Coverage:
    def radius(points: Tensor, i: int) -> float:
        return sorted(float((points[i] - points[j]).norm()) for j in range(len(points)) if j != i)[k - 1]

    def inside(y: Tensor, points: Tensor, i: int) -> bool:
        return float((y - points[i]).norm()) <= radius(points, i)

    n, m = range(len(real)), range(len(generated))
    return Coverage(
        precision=sum(any(inside(generated[j], real, i) for i in n) for j in m) / len(m),
        recall=sum(any(inside(real[i], generated, j) for j in m) for i in n) / len(n),
        density=sum(inside(generated[j], real, i) for i in n for j in m) / (k * len(m)),
        coverage=sum(any(inside(generated[j], real, i) for j in m) for i in n) / len(n),
    )


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize(("n", "m"), [(12, 12), (9, 14)])
def test_equals_the_definition(monkeypatch: pytest.MonkeyPatch, k: int, n: int, m: int) -> None:
    real, generated = normal(n, "real"), normal(m, "generated") * 1.3 + 0.5
    expected = by_definition(generated, real, k)
    assert 0 < expected.coverage < 1  # the case tells something
    assert coverage(generated, real, k) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(distances, "ENTRIES", 30)
    assert coverage(generated, real, k) == pytest.approx(expected, rel=1e-12)


def test_identical_sets_are_perfect() -> None:
    x = normal(30, "x")
    found = coverage(x, x, k=5)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density >= 6 / 5  # each point lies in its own ball and, in the mean, in 5 others
    assert found.density == pytest.approx(6 / 5)


def test_disjoint_sets_share_nothing() -> None:
    x = normal(30, "x")
    assert coverage(x + 1000, x) == (0, 0, 0, 0)


def test_a_collapsed_generator_is_precise_and_covers_little() -> None:
    real = normal(50, "real")
    found = coverage(real[:1].repeat(50, 1), real, k=3)
    assert found.precision == 1
    assert found.recall == 1 / 50
    assert found.coverage < 0.3


def test_two_clusters_one_missed() -> None:
    real = torch.cat([normal(20, "a"), normal(20, "b") + 100])
    found = coverage(normal(40, "a2"), real)
    assert found.coverage <= 0.5
    assert found.recall <= 0.5
    assert found.precision > 0.5


def test_twins_count_as_neighbours_at_distance_zero() -> None:
    points = torch.tensor([[0.0], [0.0], [3.0], [7.0]])
    assert radii(points, 1).tolist() == [0, 0, 3, 4]
    assert radii(points, 2).tolist() == [3, 3, 3, 7]


@pytest.mark.parametrize("k", [0, 4, 9])
def test_a_ball_needs_enough_other_points(k: int) -> None:
    with pytest.raises(ValueError, match="nearest other point"):
        radii(torch.zeros(4, 2), k)
