# SPDX-License-Identifier: Apache-2.0
"""The order of examples is a pure function of seed and draw number."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ornstein.base.keys import permutation
from ornstein.data.order import indices


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), seed=st.integers(0, 3), start=st.integers(0, 200), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_any_cutting_gives_the_same_draws(n, seed, start, cuts):
    whole = indices(n, seed, start, sum(cuts))
    pieces, at = [], start
    for count in cuts:
        pieces.append(indices(n, seed, at, count))
        at += count
    assert torch.equal(whole, torch.cat([torch.empty(0, dtype=torch.int64), *pieces]))
    assert all(whole[i] == permutation(n, seed, "order", (start + i) // n)[(start + i) % n] for i in range(len(whole)))


@pytest.mark.parametrize("n", [1, 7, 100])
def test_every_epoch_sees_every_example_once(n):
    epochs = indices(n, 5, 0, 4 * n).view(4, n)
    assert torch.equal(epochs.sort(1).values, torch.arange(n).expand(4, n))


def test_epochs_and_seeds_differ_and_results_are_the_callers_own():
    first, second, other = indices(100, 0, 0, 100), indices(100, 0, 100, 100), indices(100, 1, 0, 100)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    before = first.clone()
    first.zero_()
    assert torch.equal(indices(100, 0, 0, 100), before)


@pytest.mark.parametrize(("n", "start", "count"), [(0, 0, 1), (5, -1, 1), (5, 0, -1)])
def test_impossible_draws_are_refused(n, start, count):
    with pytest.raises(ValueError):
        indices(n, 0, start, count)
