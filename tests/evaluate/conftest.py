# SPDX-License-Identifier: Apache-2.0
"""A small world of images for the tests of this room: three striped classes, coarse grain, 16 px, one channel."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import interpolate

from ornstein.base.keys import generator_of
from ornstein.evaluate.extractor import Extractor
from ornstein.evaluate.metrics import Samples

CLASSES = 3


def draw_stripes(n: int, key: str, channels: int = 1, side: int = 16) -> Samples:
    """n images whose class is the direction of a wave of either sign, random phase and brightness, under coarse noise."""
    generator = generator_of("stripes", key)
    labels = torch.arange(n) % CLASSES
    phase, bright = (torch.rand(n, 1, 1, 1, generator=generator) for _ in range(2))
    sign = (torch.arange(n) // CLASSES % 2 * 2 - 1).view(n, 1, 1, 1)
    across = torch.linspace(0, 2 * math.pi, side)
    angle = (labels * math.pi / CLASSES).view(n, 1, 1, 1)
    wave = torch.sin(angle.cos() * across.view(1, 1, 1, side) + angle.sin() * across.view(1, 1, side, 1) + 2 * phase)
    grain = 30 * interpolate(torch.randn(n, channels, 8, 8, generator=generator), (side, side), mode="nearest")
    return Samples((128 + (60 + 40 * bright) * sign * wave + grain).clamp(0, 255).to(torch.uint8), labels)


@pytest.fixture(scope="session")
def stripes() -> Callable[..., Samples]:
    return draw_stripes


@pytest.fixture(scope="session")
def train() -> Samples:
    return draw_stripes(150, "train")


@pytest.fixture(scope="session")
def held_out() -> Samples:
    return draw_stripes(120, "held out")


@pytest.fixture(scope="session")
def extractor(train: Samples) -> Extractor:
    return Extractor.fit(train.images, train.labels, CLASSES, seed=0, pool=8)
