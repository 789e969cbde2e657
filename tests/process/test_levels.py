# SPDX-License-Identifier: Apache-2.0
"""Levels as floats and as tensors."""

from __future__ import annotations

import math

import pytest
import torch

from ornstein.process.level import CLEAN, Level, over, root, vanishes
from ornstein.process.schedule import Cosine

LEVEL = Level(0.5, 0.8, 0.6, -1.0, 2.0)


def test_ratios_of_floats_and_tensors_agree() -> None:
    rows = LEVEL.rows(3)
    assert LEVEL.half_log_snr == pytest.approx(math.log(0.8 / 0.6))
    assert LEVEL.log_snr == pytest.approx(2.0 * math.log(0.8 / 0.6))
    assert LEVEL.noise_to_signal == pytest.approx(0.75)
    for name in ("half_log_snr", "log_snr", "noise_to_signal"):
        torch.testing.assert_close(getattr(rows, name), torch.full((3,), getattr(LEVEL, name), dtype=torch.float64))


def test_the_ends_have_infinite_ratios() -> None:
    noise = Level(1.0, 0.0, 1.0)
    assert (CLEAN.log_snr, CLEAN.noise_to_signal, noise.log_snr, noise.noise_to_signal) == (math.inf, 0.0, -math.inf, math.inf)
    assert (CLEAN.is_clean, CLEAN.is_noise, noise.is_clean, noise.is_noise) == (True, False, False, True)
    rows = noise.rows(2)
    assert rows.is_noise
    assert bool((torch.as_tensor(rows.noise_to_signal) == math.inf).all())


def test_rows_and_unbind_are_inverse() -> None:
    assert LEVEL.rows(2).unbind() == (LEVEL, LEVEL)
    mixed = Level(torch.tensor([0.1, 0.2]), 0.5, torch.tensor(0.25))
    rows = mixed.rows(2)
    assert all(value.dtype == torch.float64 and value.shape == (2,) for value in rows)
    nodes = Cosine().at(torch.tensor([0.2, 0.4], dtype=torch.float64)).unbind()
    assert [node.t for node in nodes] == [0.2, 0.4]


def test_a_batch_vanishes_only_as_a_whole() -> None:
    assert vanishes(0.0)
    assert not vanishes(1e-300)
    assert vanishes(torch.zeros(3))
    assert not vanishes(torch.tensor([0.0, 1.0]))


def test_over_broadcasts_from_the_left_in_the_dtype_of_x() -> None:
    x = torch.ones(2, 3, 4)
    assert over(0.25, x) == 0.25
    by_row = over(torch.tensor([1.0, 2.0], dtype=torch.float64), x)
    assert isinstance(by_row, torch.Tensor)
    assert by_row.shape == (2, 1, 1)
    assert by_row.dtype == x.dtype
    by_place = over(torch.ones(2, 3), x)
    assert isinstance(by_place, torch.Tensor)
    assert by_place.shape == (2, 3, 1)


def test_root_forgives_rounding() -> None:
    assert root(-1e-18) == 0.0
    assert root(9.0) == 3.0
    assert root(torch.tensor([-1e-18, 4.0])).tolist() == [0.0, 2.0]  # type: ignore[union-attr]
