# SPDX-License-Identifier: Apache-2.0
"""Pixels come back unchanged, and what lies outside the range is cut."""

from __future__ import annotations

import torch

from ornstein.base.keys import Keys
from ornstein.codec.pixels import Coordinates, Pixels


def test_every_grey_level_comes_back() -> None:
    raw = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    x0 = Pixels().encode(raw)
    assert x0.dtype == torch.float32
    assert (float(x0.min()), float(x0.max())) == (-1.0, 1.0)
    assert Pixels().decode(x0).equal(raw)


def test_decoding_rounds_to_the_nearest_level_and_cuts() -> None:
    levels = torch.tensor([0.4, 0.6, 100.49, 254.6, 260.0, -5.0]).reshape(1, 1, 1, 6)
    assert Pixels().decode(levels / 127.5 - 1.0).flatten().tolist() == [0, 1, 100, 255, 255, 0]


def test_decoding_takes_any_float_and_cuts_gradients() -> None:
    x0 = torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    assert Pixels().decode(x0).flatten().tolist() == [128] * 4


def test_coordinates_pass_through() -> None:
    raw = Keys.for_draws(0, 0, 5).normal((2,), torch.float64)
    x0 = Coordinates().encode(raw)
    assert x0.dtype == torch.float32
    assert Coordinates().decode(x0.requires_grad_()).equal(raw.float())
