# SPDX-License-Identifier: Apache-2.0
"""Intervals: replicates are the figures of subsets, their spread is that of fresh sets, and intervals hold what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ornstein.base.keys import generator_of
from ornstein.evaluate import replicates
from ornstein.evaluate.coverage import coverage
from ornstein.evaluate.distances import cubic, directions, frechet, kernel_distance, negative_distance, wasserstein_1d
from ornstein.evaluate.intervals import Halves, Part, agreed, around, shared
from ornstein.evaluate.scores import class_score


def normal(n: int, dim: int, *key: int | str) -> Tensor:
    return torch.randn(n, dim, dtype=torch.float64, generator=generator_of("intervals", *key))


def sliced(x: Tensor, y: Tensor) -> float:
    slices = directions(x.shape[1], replicates.SLICES)[:, : replicates.SLICES]
    return math.sqrt(float(wasserstein_1d(x @ slices, y @ slices).mean()))


X, Y = normal(90, 3, "x"), 1.3 * normal(90, 3, "y") + 0.2
LOG_P = normal(90, 4, "classes").log_softmax(1)
ALL: dict[str, tuple[Part, Callable[[Tensor, Tensor], float]]] = {
    "frechet": (replicates.frechet_part("frechet", X, Y), lambda i, j: frechet(X[i], Y[j])),
    "cubic": (replicates.kernel_part("cubic", X, Y, cubic), lambda i, j: kernel_distance(X[i], Y[j]).value),
    "energy": (
        replicates.kernel_part("energy", X, Y, negative_distance),
        lambda i, j: kernel_distance(X[i], Y[j], negative_distance).value,
    ),
    "sliced": (replicates.sliced_part("sliced", X, Y), lambda i, j: sliced(X[i], Y[j])),
    "score": (replicates.score_part("score", LOG_P), lambda i, j: class_score(LOG_P[i])),
    "mean": (replicates.mean_part("mean", (X[:, 0] > 0).double()), lambda i, j: float((X[i, 0] > 0).double().mean())),
    "median": (replicates.median_part("median", X[:, 0]), lambda i, j: float(X[i, 0].quantile(0.5))),
}
for place, figure in enumerate(("precision", "recall", "density", "coverage")):
    ALL[figure] = (replicates.coverage_part(X, Y, 5), lambda i, j, place=place: coverage(X[i], Y[j], 5)[place])  # type: ignore[misc]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("draws", [1, 5])
def test_a_replicate_is_the_figure_of_its_subset(name: str, draws: int) -> None:
    part, figure = ALL[name]
    kept_x, kept_y = Halves(90, draws, seed=1, count=4).kept()
    found = part(kept_x, kept_y)[name]
    for i, j, value in zip(kept_x, kept_y, found, strict=True):
        assert float(value) == pytest.approx(figure(i, j), rel=1e-8, abs=1e-12)


def test_a_frechet_replicate_of_singular_features() -> None:
    x, y = torch.cat([X, X], 1), torch.cat([Y, Y], 1)
    kept = Halves(90, 1, seed=1, count=2).kept()
    found = replicates.frechet_part("frechet", x, y)(*kept)["frechet"]
    for i, j, value in zip(*kept, found, strict=True):
        assert float(value) == pytest.approx(frechet(x[i], y[j]), rel=1e-9)


def test_subsets_are_of_the_promised_sizes_and_the_reference_ones_are_everyones() -> None:
    one, five = Halves(60, 1, seed=3, count=7).kept(), Halves(60, 5, seed=3, count=7).kept()
    assert one[0].sum(1).tolist() == one[1].sum(1).tolist() == [30] * 7
    assert five[0].sum(1).tolist() == [50] * 7
    assert torch.equal(one[1], five[1])
    assert len({tuple(row.tolist()) for row in one[1]}) == 7


@pytest.mark.parametrize(("n", "draws"), [(400, 1), (400, 5), (5000, 1), (5000, 3)])
def test_a_mean_deviates_as_the_mean_of_that_many_fresh_items(n: int, draws: int) -> None:
    values = normal(n, 1, "values", n)[:, 0]
    halves = Halves(n, draws, seed=0, count=2000)
    spread = halves.deviations([replicates.mean_part("mean", values[: halves.base])])["mean"].std()
    assert float(spread) == pytest.approx(float(values[: halves.base].std()) / math.sqrt(n * draws), rel=0.06)


def test_draws_that_share_items_count_for_less() -> None:
    assert shared(5, 10, 10) == pytest.approx(1)
    assert shared(5, 10, 10**9) == pytest.approx(5)
    values, means = normal(30, 1, "pool")[:, 0], []
    for trial in range(4000):  # the mean of 3 subsets of 20 of 30 fresh items: no less than the pool of 30 tells
        pool = values.new_empty(30).normal_(generator=generator_of("pool", trial))
        picks = [torch.randperm(30, generator=generator_of("pick", trial, i))[:20] for i in range(3)]
        means.append(float(torch.stack([pool[pick].mean() for pick in picks]).mean()))
    assert float(torch.tensor(means).var()) == pytest.approx(1 / (20 * shared(3, 20, 30)), rel=0.1)


def test_an_interval_stays_within_the_range_of_its_figure() -> None:
    deviations = torch.linspace(-0.2, 0.2, 101, dtype=torch.float64)
    assert around(0.5, deviations) == pytest.approx((0.31, 0.69))
    assert around(0.95, deviations, 0.0, 1.0) == (pytest.approx(0.76), 1.0)


def test_a_share_of_none_or_all_has_the_exact_binomial_end() -> None:
    low, high = agreed(1.0, 40, 1.0)
    assert high == 1.0
    assert low**40 == pytest.approx(0.025)  # at that share, 40 of 40 agree in one case of forty
    assert agreed(0.0, 40, 1.0) == (0.0, pytest.approx(1 - low))
    assert agreed(0.3, 40, 1.0) == (0.3, 0.3)


@pytest.mark.parametrize("name", ["frechet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("energy", "coverage"))])
def test_intervals_hold_the_mean_figure_as_often_as_they_say(name: str) -> None:
    """Figures of fresh sets of 60 points around a known law; their mean must lie in 95 % of the intervals, within chance."""
    n, trials, held = 60, 80, 0
    makers = {
        "frechet": lambda x, y: replicates.frechet_part("frechet", x, y),
        "energy": lambda x, y: replicates.kernel_part("energy", x, y, negative_distance),
        "coverage": lambda x, y: replicates.coverage_part(x, y, 5),
    }
    figures = {
        "frechet": frechet,
        "energy": lambda x, y: kernel_distance(x, y, negative_distance).value,
        "coverage": lambda x, y: coverage(x, y, 5).coverage,
    }
    sets = [(1.5 * normal(n, 2, "gen", trial) + 1, normal(n, 2, "ref", trial)) for trial in range(trials)]
    values = torch.tensor([figures[name](*pair) for pair in sets], dtype=torch.float64)
    for pair, value in zip(sets, values.tolist(), strict=True):
        low, high = around(value, Halves(n, 1, 0, 50).deviations([makers[name](*pair)])[name])
        held += low <= float(values.mean()) <= high
    assert held / trials >= 0.86
