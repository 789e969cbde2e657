# SPDX-License-Identifier: Apache-2.0
"""Counted normal numbers: pinned, the same in any company, and of the law they should have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ornstein.base.counter import Words, keys_of, normals


def _keys(n: int, purpose: int = 1) -> Words:
    return keys_of(np.arange(n, dtype=np.uint64), np.array([purpose], dtype=np.uint64))[0]


def test_numbers_are_pinned_across_versions() -> None:
    """A change here makes the pictures of stored seeds others than they were."""
    assert _keys(1).tolist() == [PINNED_KEY]
    assert normals(_keys(1), 4)[0].tolist() == pytest.approx(PINNED, abs=1e-6)


PINNED_KEY = 4441772488867197775
PINNED = [-1.0356032, 1.6077890, 0.4174061, 0.9012922]


@pytest.mark.parametrize("count", [1, 2, 7, 768, 40_001])
def test_a_key_has_its_numbers_in_any_company(count: int) -> None:
    keys = _keys(60 if count < 1000 else 3)
    together = normals(keys, count)
    assert together.shape == (len(keys), count)
    assert together.dtype == np.float32
    for i in (0, 1, len(keys) - 1):
        assert np.array_equal(normals(keys[i : i + 1], count)[0], together[i])
    assert np.array_equal(normals(keys[::-1].copy(), count), together[::-1])


def test_keys_differ_by_seed_and_purpose() -> None:
    seeds, purposes = np.arange(300, dtype=np.uint64), np.arange(300, dtype=np.uint64)
    keys = keys_of(seeds, purposes)
    assert keys.shape == (300, 300)
    assert len(np.unique(keys)) == 90_000
    assert np.array_equal(keys_of(seeds[7:9], purposes[4:5]), keys[4:5, 7:9])


@pytest.mark.parametrize("view", ["one key", "one number of each key", "pairs"])
def test_numbers_are_normal(view: str) -> None:
    numbers = {"one key": normals(_keys(1), 40_000)[0], "one number of each key": normals(_keys(40_000), 2)[:, 1]}
    x = torch.from_numpy(numbers.get(view, normals(_keys(20_000), 2).reshape(-1))).double()
    n = len(x)
    ranks = torch.distributions.Normal(0.0, 1.0).cdf(x.sort().values)
    assert float((ranks - (torch.arange(n) + 0.5) / n).abs().max()) < 1.63 / n**0.5  # Kolmogorov-Smirnov at 1 %
    assert float(x.mean()) == pytest.approx(0.0, abs=3 / n**0.5)
    assert float(x.square().mean()) == pytest.approx(1.0, abs=3 * (2 / n) ** 0.5)
    assert float(x.pow(4).mean()) == pytest.approx(3.0, abs=3 * (96 / n) ** 0.5)
    assert 3.5 < float(x.abs().max()) < 6.0


def test_neighbours_are_independent() -> None:
    """Of numbers and of keys, linearly and in square; 4 standard errors, as there are many."""
    x = torch.from_numpy(normals(_keys(400), 500)).double()
    for values in (x, x.square() - 1.0):
        values = values / values.std()
        n = x.numel()
        for lag in (1, 2, 3, 250, 251):
            assert float((values[:, lag:] * values[:, :-lag]).mean()) == pytest.approx(0.0, abs=4 / n**0.5)
        for lag in (1, 2, 16, 256):
            assert float((values[lag:] * values[:-lag]).mean()) == pytest.approx(0.0, abs=4 / n**0.5)
    other = torch.from_numpy(normals(_keys(400, 2), 500)).double()
    assert float((x * other).mean()) == pytest.approx(0.0, abs=4 / x.numel() ** 0.5)
