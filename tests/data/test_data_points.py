# SPDX-License-Identifier: Apache-2.0
"""Point worlds: their own moments, their shapes, and keyed draws."""

from __future__ import annotations

import math

import pytest
import torch

from ornstein.base.errors import UsageError
from ornstein.data import load
from ornstein.data.points import WORLDS, draw
from ornstein.exact.mixture import ring
from ornstein.process.level import CLEAN


@pytest.mark.parametrize("world", WORLDS)
def test_centre_and_scale_are_the_laws_own(world):
    points = draw(world, 4000, 3, "train").raw.double()
    square = points.square().sum(1)
    expected = 2.0 if world != "mixture" else ring().moments(CLEAN)[1].trace().item()
    assert (points.mean(0) / (points.std(0) / math.sqrt(4000))).abs().max() < 4.0
    assert abs(square.mean() - expected) < 4.0 * square.std() / math.sqrt(4000)


@pytest.mark.parametrize("world", WORLDS)
def test_draws_are_keyed_and_parts_differ(world):
    split, again, longer, other = (load.points(world, n, seed) for n, seed in ((50, 1), (50, 1), (80, 1), (50, 2)))
    assert (len(split.train), len(split.test)) == (50, 10)
    assert (split.train.identity, split.test.identity) == (again.train.identity, again.test.identity)
    assert torch.equal(longer.train.raw[:50], split.train.raw)
    assert not torch.equal(other.train.raw, split.train.raw)
    assert not torch.equal(split.train.raw[:10], split.test.raw)
    assert split.train.raw.dtype == torch.float32


@pytest.mark.parametrize(("world", "classes"), [("moons", 2), ("rings", 2), ("spiral", 2), ("checkerboard", 0), ("mixture", 8)])
def test_classes_are_equally_likely(world, classes):
    data = draw(world, 1600, 0, "train")
    assert len(data.class_names) == classes
    if classes:
        share = data.labels.bincount(minlength=classes) / 1600
        assert (share - 1 / classes).abs().max() < 4 * math.sqrt(1 / classes * (1 - 1 / classes) / 1600)


def test_rings_lie_on_their_circles():
    data = draw("rings", 1000, 0, "train")
    scale = math.sqrt(0.3125 + 0.04**2)
    radius = data.raw.norm(dim=1) * scale
    assert (radius - torch.tensor([1.0, 0.5])[data.labels]).abs().max() < 5 * 0.04


def test_moons_lie_on_their_arcs():
    data = draw("moons", 1000, 0, "train")
    y = 0.5 * (1.25 - 2 / math.pi) - 0.0625
    raw = data.raw * math.sqrt((0.75 + y) / 2 + 0.05**2) + torch.tensor([0.5, 0.25])
    centre = torch.tensor([[0.0, 0.0], [1.0, 0.5]])[data.labels]
    assert ((raw - centre).norm(dim=1) - 1).abs().max() < 5 * 0.05
    upper = torch.where(data.labels == 0, raw[:, 1], 0.5 - raw[:, 1])
    assert upper.min() > -5 * 0.05


def test_spiral_arms_are_reflections_of_one_curve():
    data = draw("spiral", 1000, 0, "train")
    raw = data.raw * math.sqrt((3 * math.pi) ** 2 / 4 + 0.2**2) * (1 - 2 * data.labels)[:, None]
    r = torch.linspace(0, 3 * math.pi, 3000)
    curve = torch.stack([r * r.cos(), r * r.sin()], 1)
    assert torch.cdist(raw, curve).min(1).values.max() < 5 * 0.2, "the arms lie pi apart"


def test_checkerboard_fills_the_squares_of_one_parity():
    raw = draw("checkerboard", 2000, 0, "train").raw.double() * math.sqrt(4 / 3)
    assert raw.abs().max() <= 2 + 1e-6
    column, row = (raw + 2 - 1e-9).floor().clamp(0, 3).long().unbind(1)
    assert ((column + row) % 2 == 0).all()
    counts = (4 * column + row).bincount(minlength=16)
    assert (counts[counts > 0] - 250).abs().max() < 5 * math.sqrt(250)
    assert (counts > 0).sum() == 8


@pytest.mark.parametrize(("world", "n"), [("torus", 10), ("moons", 0)])
def test_impossible_worlds_are_refused(world, n):
    with pytest.raises(UsageError):
        load.points(world, n)
