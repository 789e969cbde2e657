# SPDX-License-Identifier: Apache-2.0
"""Conditions know their null, drop per sample and keep their fields together."""

from __future__ import annotations

import torch

from ornstein.base.keys import Keys
from ornstein.model.condition import NULL_LABEL, Cond


def _cond(n: int) -> Cond:
    return Cond(label=torch.arange(n), vector=torch.arange(1.0, n + 1.0)[:, None].expand(n, 2))


def test_null_keeps_batch_and_fields() -> None:
    null = _cond(3).null()
    assert null.label is not None
    assert null.vector is not None
    assert null.label.tolist() == [NULL_LABEL] * 3
    assert null.label.dtype == torch.int64
    assert not null.vector.any()
    assert Cond(label=torch.zeros(2, dtype=torch.int64)).null().vector is None
    assert Cond().null() == Cond()


def test_drop_takes_whole_samples_with_the_asked_frequency() -> None:
    n = 4000
    dropped = _cond(n).drop(0.3, Keys.for_draws(1, 0, n))
    assert dropped.label is not None
    assert dropped.vector is not None
    gone = dropped.label == NULL_LABEL
    assert gone.equal((dropped.vector == 0).all(1))
    assert dropped.label[~gone].equal(torch.arange(n)[~gone])
    assert abs(float(gone.double().mean()) - 0.3) < 3.0 * (0.21 / n) ** 0.5
    assert _cond(5).drop(0.0, Keys.for_draws(1, 0, 5)).label.equal(torch.arange(5))  # type: ignore[union-attr]
    assert (_cond(5).drop(1.0, Keys.for_draws(1, 0, 5)).label == NULL_LABEL).all()  # type: ignore[union-attr]


def test_drop_is_decided_by_each_samples_own_key() -> None:
    whole = _cond(64).drop(0.5, Keys.for_draws(7, 100, 64)).label
    part = _cond(64).take(slice(16, 32)).drop(0.5, Keys.for_draws(7, 116, 16)).label
    assert whole is not None
    assert part is not None
    assert part.equal(whole[16:32])
    assert not whole.equal(_cond(64).drop(0.5, Keys.for_draws(8, 100, 64)).label)  # type: ignore[arg-type]


def test_concat_take_and_to() -> None:
    both = _cond(2).concat(_cond(2).null())
    assert both.label is not None
    assert both.label.tolist() == [0, 1, NULL_LABEL, NULL_LABEL]
    assert both.take(torch.tensor([3, 1])).label.tolist() == [NULL_LABEL, 1]  # type: ignore[union-attr]
    assert both.to("cpu").label.equal(both.label)  # type: ignore[union-attr]
    assert both.take(slice(1, 3)).vector.shape == (2, 2)  # type: ignore[union-attr]
