# SPDX-License-Identifier: Apache-2.0
"""Rows are measured alike: same n, same reference, paired draws; and they tell apart what should be told apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ornstein.base.errors import DataError
from ornstein.base.keys import generator_of
from ornstein.evaluate.coverage import coverage
from ornstein.evaluate.distances import frechet, kernel_distance, sliced_wasserstein
from ornstein.evaluate.extractor import Extractor, accuracy
from ornstein.evaluate.kinds import KINDS
from ornstein.evaluate.meters import ImageMeter, PointMeter
from ornstein.evaluate.metrics import Draws, Metric, Row, Samples

OF_INCEPTION = {"fid", "kid", "inception_score"}
IMAGE_FIGURES = set(KINDS) - {"energy", *OF_INCEPTION}


@pytest.fixture(scope="module")
def meter(train: Samples, held_out: Samples, extractor: Extractor) -> ImageMeter:
    return ImageMeter(train, held_out, extractor, Draws(150, 120, count=3, seed=7))


@pytest.fixture(scope="module")
def floor(meter: ImageMeter) -> Row:
    return meter.floor()


def value(row: Row, name: str) -> float:
    found = row.metrics[name].value
    assert found is not None
    return found


def test_draws_hold_different_items_none_twice() -> None:
    draws = Draws(100, 40, seed=1)
    assert draws.n == 40
    first = draws.indices(0)
    assert len(set(first.tolist())) == 40
    assert torch.equal(first, draws.indices(0))
    assert not torch.equal(first.sort().values, draws.indices(1).sort().values)
    assert not torch.equal(first, Draws(100, 40, seed=2).indices(0))
    assert draws.reference().tolist() == list(range(40))


def test_n_is_the_smallest_of_train_test_and_limit() -> None:
    assert Draws(30, 40).n == 30
    assert Draws(100, 40, limit=20).n == 20
    assert len(Draws(30, 40).reference()) == 30
    with pytest.raises(DataError, match="Only 5 items"):
        Draws(100, 5)


def test_figures_are_means_over_draws_of_the_functions_that_name_them(
    meter: ImageMeter, extractor: Extractor, held_out: Samples, stripes: Callable[..., Samples]
) -> None:
    sets = [stripes(120, f"model {draw}") for draw in range(3)]
    row = meter.measure("model", "", sets)
    assert set(row.metrics) == IMAGE_FIGURES
    real, pixels = extractor.features(held_out.images), extractor.inputs.pixels(held_out.images)
    drawn = [extractor.features(item.images) for item in sets]
    distances = torch.tensor([frechet(item, real) for item in drawn], dtype=torch.float64)
    assert value(row, "frechet") == pytest.approx(float(distances.mean()), rel=1e-9)
    assert row.metrics["frechet"].spread == pytest.approx(float(distances.std()), rel=1e-6)
    kernels = [kernel_distance(item, real) for item in drawn]
    assert value(row, "kernel") == pytest.approx(sum(k.value for k in kernels) / 3, rel=1e-9)
    assert row.metrics["kernel"].error == pytest.approx(sum(k.error for k in kernels) / 3, rel=1e-9)
    for name, wanted in zip(
        ("precision", "recall", "density", "coverage"), torch.tensor([coverage(f, real, 5) for f in drawn]).T, strict=True
    ):
        assert value(row, name) == pytest.approx(float(wanted.mean()), rel=1e-6)
    sliced = [sliced_wasserstein(extractor.inputs.pixels(item.images), pixels) for item in sets]
    assert value(row, "sliced_wasserstein") == pytest.approx(sum(sliced) / 3, rel=1e-9)
    assert value(row, "accuracy") == pytest.approx(sum(accuracy(extractor, *item) for item in sets) / 3)
    checks = [meter.copies(item.images) for item in sets]
    assert value(row, "nearest") == pytest.approx(sum(check.median for check in checks) / 3)
    assert value(row, "copies") == pytest.approx(sum(check.share_below(0.5) for check in checks) / 3)


def test_every_figure_states_its_conditions(floor: Row, extractor: Extractor) -> None:
    for name, metric in floor.metrics.items():
        alone = name in {"accuracy", "class_score", "nearest", "copies"}
        assert (metric.n, metric.seed, metric.draws) == (120, 7, 1 if alone else 3)
        assert (metric.spread is None) == alone
        assert metric.eye == ("pixel means 8x8" if name in {"sliced_wasserstein", "nearest", "copies"} else extractor.identity)
        assert all(word in metric.identity for word in ("n 120", "seed 7", metric.eye))


def test_floor_measures_training_images_against_the_test_images(meter: ImageMeter, floor: Row, train: Samples, held_out: Samples) -> None:
    drawn = meter.measure("same", "", [train.at(meter.draws.indices(draw)) for draw in range(3)])
    for name in ("frechet", "kernel", "precision", "recall", "density", "coverage", "sliced_wasserstein"):
        same = replace(drawn.metrics[name], low=floor.metrics[name].low, high=floor.metrics[name].high)
        assert floor.metrics[name] == same
    assert value(drawn, "copies") == 1  # which is why the floor takes these from the test images
    assert value(floor, "copies") < 0.05
    assert value(floor, "nearest") == pytest.approx(meter.copies(held_out.images).median)
    assert value(floor, "accuracy") == pytest.approx(accuracy(meter.extractor, *held_out))


def test_a_good_model_stands_at_the_floor_and_faults_are_seen(meter: ImageMeter, floor: Row, stripes: Callable[..., Samples]) -> None:
    good = [stripes(120, f"good {draw}") for draw in range(3)]
    row = meter.measure("good", "", good)
    assert value(row, "frechet") < 1.3 * value(floor, "frechet")
    assert value(row, "coverage") > 0.9
    assert value(row, "nearest") > 0.85
    one_class = meter.measure("one class", "", [Samples(i.images[i.labels == 0].repeat(3, 1, 1, 1), i.labels) for i in good])
    assert value(one_class, "frechet") > 10 * value(floor, "frechet")
    assert value(one_class, "recall") < 0.5
    assert value(one_class, "coverage") < 0.5
    assert value(one_class, "accuracy") < 0.5
    shuffled = meter.measure("wrong classes", "", [Samples(item.images, item.labels.roll(1)) for item in good])
    assert value(shuffled, "accuracy") < 0.1
    assert value(shuffled, "frechet") == value(row, "frechet")


def test_baselines_share_the_draws_and_show_their_faults(meter: ImageMeter, floor: Row) -> None:
    gaussians, copies = meter.baselines()
    assert value(gaussians, "frechet") > 1.1 * value(floor, "frechet")
    assert value(gaussians, "copies") < 0.05
    assert value(copies, "copies") > 0.95
    assert value(copies, "nearest") < 0.5
    for name in ("frechet", "sliced_wasserstein"):  # the copies of each draw are of its own images, as in the floor
        floor_spread, spread = floor.metrics[name].spread, copies.metrics[name].spread
        assert floor_spread is not None
        assert spread is not None
        assert spread > 0.5 * floor_spread
    assert torch.equal(meter.labels(1), meter.train.labels[meter.draws.indices(1)])


def test_without_labels_class_accuracy_is_absent_with_its_reason(train: Samples, held_out: Samples) -> None:
    bare = ImageMeter(Samples(train.images), Samples(held_out.images), Extractor.fit(train.images, pool=8), Draws(150, 120, count=2))
    assert bare.labels(0) is None
    rows = [bare.floor(), *bare.baselines()]
    assert rows[1].metrics["frechet"].spread  # every draw has noise of its own
    for row in rows:
        assert set(row.metrics) == IMAGE_FIGURES
        for name, metric in row.metrics.items():
            assert (metric.value is None) == (name in {"accuracy", "class_score"})
            assert ("no class labels" in metric.reason) == (metric.value is None)


def test_intervals_stand_around_the_figures_and_grow_where_draws_are_few(
    meter: ImageMeter, floor: Row, stripes: Callable[..., Samples]
) -> None:
    sets = [stripes(120, f"model {draw}") for draw in range(3)]
    three, one = meter.measure("three", "", sets), meter.measure("one", "", sets[:1])
    for name, metric in three.metrics.items():
        low, high = ends(metric)
        assert KINDS[name].least <= low <= value(three, name) <= high <= KINDS[name].most
    assert all(metric.low is not None for metric in floor.metrics.values())
    for name in ("nearest", "density", "frechet"):
        many, few = (high - low for low, high in (ends(row.metrics[name]) for row in (three, one)))
        assert few > 1.1 * many


def ends(metric: Metric) -> tuple[float, float]:
    assert metric.low is not None
    assert metric.high is not None
    return metric.low, metric.high


class Means:
    """A second extractor: means of the pixels of each quarter, and a law of two classes from the first."""

    identity = "means 0123"

    def features(self, images: Tensor) -> Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images.double(), 2).flatten(1)

    def log_probabilities(self, features: Tensor) -> Tensor:
        return torch.stack([features[:, 0] / 100, -features[:, 0] / 100], 1).log_softmax(1)


def test_a_second_extractor_adds_figures_under_their_own_names(
    train: Samples, held_out: Samples, extractor: Extractor, stripes: Callable[..., Samples]
) -> None:
    meter = ImageMeter(train, held_out, extractor, Draws(150, 120, count=2), Means())
    model = meter.measure("model", "", [stripes(120, f"model {draw}") for draw in range(2)])
    for row in (meter.floor(), model):
        assert set(row.metrics) == IMAGE_FIGURES | OF_INCEPTION
        assert all(row.metrics[name].eye == "means 0123" and row.metrics[name].low is not None for name in OF_INCEPTION)
    eye = Means()
    drawn, real = (eye.features(item.images) for item in (stripes(120, "model 0"), held_out))
    other = frechet(eye.features(stripes(120, "model 1").images), real)
    assert value(model, "fid") == pytest.approx((frechet(drawn, real) + other) / 2, rel=1e-9)


def test_sets_of_another_size_are_refused(meter: ImageMeter, train: Samples) -> None:
    with pytest.raises(ValueError, match="n = 120"):
        meter.measure("short", "", [train.at(torch.arange(119))])
    with pytest.raises(ValueError, match="n = 120"):
        meter.measure("none", "", [])


def points(n: int, key: str) -> torch.Tensor:
    return torch.randn(n, 2, generator=generator_of("points", key))


def test_points_are_measured_in_raw_coordinates() -> None:
    meter = PointMeter(points(300, "train"), points(200, "test"), Draws(300, 200, count=4))
    floor, same = meter.floor(), meter.measure("same", "", [points(200, f"s{i}") for i in range(4)])
    moved = meter.measure("moved", "", [points(200, f"s{i}") + torch.tensor([3.0, 4.0]) for i in range(4)])
    assert set(floor.metrics) == {"sliced_wasserstein", "energy", "kernel"}
    assert all(metric.eye == "raw coordinates" for metric in floor.metrics.values())
    assert value(moved, "sliced_wasserstein") == pytest.approx(5 / math.sqrt(2), rel=0.05)
    for name in ("energy", "kernel"):
        spread, error = same.metrics[name].spread, same.metrics[name].error
        assert spread is not None
        assert error is not None
        assert abs(value(same, name)) < 4 * error
        assert value(moved, name) > 20 * error


def test_the_energy_distance_of_points_is_that_of_a_known_shift() -> None:
    # Far apart, E|x - y| grows like the shift while the distances within each set stay: 2 shift - 2 E|x - x'|.
    meter = PointMeter(points(300, "train"), points(200, "test"), Draws(300, 200, count=2))
    far = meter.measure("far", "", [points(200, "a") + torch.tensor([1000.0, 0.0])] * 2)
    assert value(far, "energy") == pytest.approx(2000 - 2 * math.sqrt(math.pi), abs=0.6)


@pytest.mark.parametrize("broken", [math.nan, math.inf, 1e30])
def test_points_that_ran_away_give_no_figure_but_a_reason(broken: float) -> None:
    meter = PointMeter(points(30, "train"), points(20, "test"), Draws(30, 20, count=2))
    sets = [points(20, "a"), points(20, "b").double()]
    sets[1][3, 1] = broken if math.isnan(broken) or math.isinf(broken) else 1e200
    row = meter.measure("diverged", "", sets)
    kernel = row.metrics["kernel"]
    assert kernel.value is None
    assert "not finite" in kernel.reason
    assert all(m.value is None or math.isfinite(m.value) for m in row.metrics.values())
