# SPDX-License-Identifier: Apache-2.0
"""On the embedded digits the figures tell real data, Gaussians and copies apart."""

from __future__ import annotations

import pytest

from ornstein.data.digits import split
from ornstein.evaluate.extractor import Extractor, accuracy
from ornstein.evaluate.meters import ImageMeter
from ornstein.evaluate.metrics import Draws, Samples
from ornstein.evaluate.table import Table


@pytest.fixture(scope="module")
def meter() -> ImageMeter:
    data = split(16)
    train, test = (Samples(part.raw, part.labels) for part in (data.train, data.test))
    extractor = Extractor.fit(train.images, train.labels, 10, pool=8)
    return ImageMeter(train, test, extractor, Draws(len(train.images), len(test.images), count=2))


def test_the_extractor_reads_digits_it_has_not_seen(meter: ImageMeter) -> None:
    assert accuracy(meter.extractor, *meter.reference) >= 0.97
    assert meter.extractor.features(meter.reference.images).shape == (897, 64)


def test_the_table_tells_rows_apart(meter: ImageMeter) -> None:
    table = Table((meter.floor(), *meter.baselines()))
    entries = {row["name"]: row["metrics"] for row in table.document()["rows"]}
    real, gaussians, copies = entries["real train"], entries["class Gaussians"], entries["noisy copies"]
    assert real["frechet"]["n"] == 897
    assert real["coverage"]["value"] > 0.9
    assert real["nearest"]["value"] == pytest.approx(1, abs=0.1)
    assert real["copies"]["value"] < 0.01
    assert gaussians["accuracy"]["value"] > 0.97  # so high an accuracy proves nothing
    assert gaussians["frechet"]["ratio_to_floor"] > 2
    assert gaussians["recall"]["ratio_to_floor"] < 0.95
    assert gaussians["nearest"]["value"] > 1
    assert copies["frechet"]["ratio_to_floor"] < 1.6  # so good a distance proves nothing
    assert copies["nearest"]["value"] < 0.3
    assert copies["copies"]["value"] > 0.95
