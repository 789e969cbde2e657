# SPDX-License-Identifier: Apache-2.0
"""Couplings rearrange noise and change nothing of it; optimal transport pairs it at the least cost."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from ornstein.base.keys import Keys
from ornstein.base.registry import build, names
from ornstein.model.condition import Cond
from ornstein.objective.coupling import Coupling, Independent
from ornstein.objective.transport import OptimalTransport
from ornstein.run.recipe_parts import part_of

X0 = Keys.for_draws(0, 0, 12).normal((2,), torch.float64)
NOISE = Keys.for_draws(1, 0, 12).normal((2,), torch.float64)
LABEL = torch.arange(12) % 3 - 1
COUPLINGS: dict[str, Coupling] = {name: build("coupling", part_of("coupling", name)) for name in names("coupling")}


@pytest.mark.parametrize("name", COUPLINGS)
@pytest.mark.parametrize("cond", [Cond(), Cond(LABEL)], ids=["no label", "labels"])
def test_every_coupling_keeps_the_noise_and_is_a_function_of_its_arguments(name: str, cond: Cond) -> None:
    arranged = COUPLINGS[name](X0, NOISE, cond)
    assert arranged.sort(0).values.equal(NOISE.sort(0).values)
    assert arranged.equal(COUPLINGS[name](X0, NOISE, cond))
    images = COUPLINGS[name](X0.float().reshape(12, 1, 1, 2), NOISE.float().reshape(12, 1, 1, 2), cond)
    assert images.reshape(12, 2).equal(arranged.float())


def test_independent_is_as_drawn() -> None:
    assert Independent()(X0, NOISE, Cond()) is NOISE


def test_optimal_transport_is_the_cheapest_of_all_permutations() -> None:
    x0, noise = X0[:6], NOISE[:6]
    best = min(float((x0 - noise[list(order)]).square().sum()) for order in permutations(range(6)))
    assert float((x0 - OptimalTransport()(x0, noise, Cond())).square().sum()) == pytest.approx(best, rel=1e-12)


def test_within_classes_each_class_keeps_its_own_noise() -> None:
    arranged = OptimalTransport("class")(X0, NOISE, Cond(LABEL))
    for label in (-1, 0, 1):
        rows = label == LABEL
        assert arranged[rows].equal(OptimalTransport()(X0[rows], NOISE[rows], Cond()))
    assert OptimalTransport("batch")(X0, NOISE, Cond(LABEL)).equal(OptimalTransport()(X0, NOISE, Cond()))


def test_matching_across_classes_bends_the_noise_of_a_class_and_within_them_does_not() -> None:
    """Two classes left and right of 0: across, each attracts the noise on its side."""
    n = 256
    label = torch.arange(n) % 2
    x0 = (6.0 * label - 3.0).double()[:, None] + 0.1 * Keys.for_draws(3, 0, n).normal((1,), torch.float64)
    noise = Keys.for_draws(4, 0, n).normal((1,), torch.float64)
    across, within = (OptimalTransport(how)(x0, noise, Cond(label))[label == 1] for how in ("batch", "class"))
    assert float(across.mean()) == pytest.approx((2.0 / torch.pi) ** 0.5, abs=0.15)  # the upper half of a normal law
    assert abs(float(within.mean())) < 4.0 / (n / 2) ** 0.5


def test_in_one_dimension_pairs_are_in_order_and_paths_do_not_cross() -> None:
    x0, noise = X0[:, :1], NOISE[:, :1]
    arranged = OptimalTransport()(x0, noise, Cond())
    assert arranged[x0[:, 0].argsort(), 0].diff().min() > 0
