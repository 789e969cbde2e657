# SPDX-License-Identifier: Apache-2.0
"""Shares of loss and gradient by noise level, against gradients taken by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from ornstein.base.keys import Keys, generator_of
from ornstein.evaluate.shares import shares
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.prediction import V
from ornstein.objective.matching import Matching
from ornstein.objective.record import Batch
from ornstein.objective.times import Stratified
from ornstein.objective.weighting import Weighting
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level, Scalar
from ornstein.process.schedule import Cosine

COUNT = 48


class Plain(Weighting):
    def __call__(self, level: Level) -> Scalar:
        return 1.0 + level.t


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.unused = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        return self.first(torch.cat([x, features], 1)).tanh()


@pytest.fixture
def model() -> Model:
    network = Network().eval().requires_grad_(False)
    return Model(network, GaussianProcess(Cosine()), V())


BATCH = Batch(torch.randn(COUNT, 2, generator=generator_of("shares")), Cond())
KEYS = Keys.for_draws(3, 0, COUNT, "shares")
OBJECTIVE = Matching(Stratified(Cosine(), COUNT), Plain())


def by_hand(model: Model, rows: list[int]) -> tuple[Tensor, float]:
    """Gradient of the summed loss of some draws over COUNT, and that sum."""
    keys = Keys(tuple(KEYS.pairs[i] for i in rows), KEYS.purpose)
    model.network.requires_grad_(True)
    record, _ = OBJECTIVE(model, Batch(BATCH.x0[rows], Cond()), keys, 1.0, {})
    gradient = torch.autograd.grad(record.losses["model"] * len(rows) / COUNT, list(model.network.get_submodule("first").parameters()))
    model.network.requires_grad_(False)
    return torch.cat([part.flatten() for part in gradient]).double(), float(record.per_example.sum())


def test_shares_are_those_of_gradients_by_hand(model: Model) -> None:
    found = shares(OBJECTIVE, model, BATCH, KEYS, groups=4, micro_batch=7)
    # Draw i of a stratified sampler lies in stratum i, so the groups are runs of 12 draws.
    parts = [by_hand(model, list(range(12 * k, 12 * k + 12))) for k in range(4)]
    whole, total = by_hand(model, list(range(COUNT)))
    norms = torch.stack([gradient.norm() for gradient, _ in parts])
    for share, (gradient, loss) in zip(found, parts, strict=True):
        assert share.draws == 12
        assert share.loss == pytest.approx(loss / 12, rel=1e-5)
        assert share.loss_share == pytest.approx(loss / total, rel=1e-5)
        assert share.gradient_share == pytest.approx(float(gradient.norm() / norms.sum()), rel=1e-4)
        assert share.pull == pytest.approx(float(gradient @ whole / (whole @ whole)), rel=1e-4, abs=1e-5)
    for name in ("loss_share", "gradient_share", "pull"):
        assert sum(getattr(share, name) for share in found) == pytest.approx(1)


def test_groups_follow_the_noise_level_and_nothing_is_left_behind(model: Model) -> None:
    found = shares(OBJECTIVE, model, BATCH, KEYS, groups=5, micro_batch=64)
    assert all(share.low <= share.t <= share.high for share in found)
    assert all(before.high < after.low for before, after in pairwise(found))
    assert sum(share.draws for share in found) == COUNT
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in model.network.parameters())
