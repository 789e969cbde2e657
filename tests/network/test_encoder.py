# SPDX-License-Identifier: Apache-2.0
"""Classifier networks: one logit per class, told the level and nothing else, undecided before training."""

from __future__ import annotations

import pytest
import torch
from network_world import normal, shaken

from ornstein.model.condition import Cond
from ornstein.network.encoder import Encoder, PointEncoder


def images() -> Encoder:
    return Encoder(3, 7, (8, 16), blocks=1, attention=(1,), head_width=8, groups=4, patch=2)


CASES = [(images, (4, 3, 8, 8)), (lambda: PointEncoder(2, 7, 16, 2), (4, 2))]


@pytest.mark.parametrize(("make", "shape"), CASES, ids=["encoder", "point-encoder"])
def test_logits_depend_on_data_and_level_and_not_on_a_condition(make: object, shape: tuple[int, ...]) -> None:
    network, x, t = shaken(make), normal(*shape), torch.full((4, 1), 0.3)  # type: ignore[arg-type]
    logits = network(x, t, Cond())
    assert logits.shape == (4, 7)
    assert network(x, t, Cond(label=torch.arange(4))).equal(logits)
    assert not network(x, t + 0.2, Cond()).allclose(logits)
    assert not network(-x, t, Cond()).allclose(logits)


@pytest.mark.parametrize(("make", "shape"), CASES, ids=["encoder", "point-encoder"])
def test_an_untrained_classifier_is_undecided_and_rows_are_apart(make: object, shape: tuple[int, ...]) -> None:
    x, t = normal(*shape), torch.full((4, 1), 0.3)
    assert make()(x, t).eq(0.0).all()  # type: ignore[operator]
    moved = shaken(make)  # type: ignore[arg-type]
    torch.testing.assert_close(moved(x[2:3], t[2:3]), moved(x, t)[2:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "shape"), CASES, ids=["encoder", "point-encoder"])
def test_the_gradient_in_the_data_is_there(make: object, shape: tuple[int, ...]) -> None:
    x = normal(*shape).requires_grad_()
    shaken(make)(x, torch.full((4, 1), 0.3)).sum().backward()  # type: ignore[arg-type]
    assert x.grad is not None
    assert float(x.grad.abs().max()) > 0.0
