# SPDX-License-Identifier: Apache-2.0
"""Loss-aware times: where they look, that their weights leave every expectation alone, and what they remember."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.base.keys import Keys
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.prediction import V
from ornstein.objective.loss_aware import LossAware
from ornstein.objective.matching import Matching
from ornstein.objective.record import Batch
from ornstein.objective.times import Stratified
from ornstein.objective.weighting import Elbo
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import EDM, Cosine
from ornstein.process.wrapped import Truncated

N = 4096
SCHEDULE = Truncated(Cosine(), -8.0, 8.0)


def _seen(sampler: LossAware, loss: Any) -> dict[str, Any]:
    """The state after enough batches whose losses are a function of t."""
    state = sampler.init()
    for batch in range(2 * sampler.history):
        t, weight = sampler.given(state)(Keys.for_draws(0, batch * sampler.strata, sampler.strata))
        state = sampler.remember(state, t, weight * loss(t))
    return state


def _sampler(strata: int = 512, **more: Any) -> LossAware:
    return LossAware(SCHEDULE, strata, bins=16, history=5, **more)


def test_shares_are_the_papers_formula() -> None:
    """A loss that is constant in each bin is known after one full history."""
    sampler = _sampler(floor=0.01)
    heights = torch.linspace(0.1, 3.0, 16, dtype=torch.float64) ** 2
    state = _seen(sampler, lambda t: heights[sampler.place(t)])
    torch.testing.assert_close(sampler.shares(state), 0.99 * heights / heights.sum() + 0.01 / 16, rtol=1e-12, atol=0.0)
    t, weight = sampler.given(state)(Keys.for_draws(0, 0, 512))
    found = torch.bincount(sampler.place(t), minlength=16) / 512
    torch.testing.assert_close(found.double(), sampler.shares(state), rtol=0.0, atol=2.0 / 512)
    torch.testing.assert_close(weight * 16 * sampler.shares(state)[sampler.place(t)], torch.ones_like(t))


def test_weighted_means_of_any_function_are_those_of_uniform_times() -> None:
    sampler = _sampler(strata=N)
    state = _seen(LossAware(SCHEDULE, 512, bins=16, history=5), lambda t: torch.exp(4.0 * t))
    (t, weight), (plain, _) = sampler.given(state)(Keys.for_draws(0, 0, N)), Stratified(SCHEDULE, N)(Keys.for_draws(0, 0, N))
    assert bool(((t >= SCHEDULE.cleanest) & (t <= SCHEDULE.noisiest)).all())
    assert float(t.mean()) > float(plain.mean()) + 0.1  # it does look elsewhere
    for function in (torch.ones_like, torch.sin, torch.exp, lambda t: (t > 0.37).double()):
        assert float((weight * function(t)).mean()) == pytest.approx(float(function(plain).mean()), abs=2e-3)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -0.4], dtype=torch.float64))

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        return torch.tanh(self.weight * x.flip(1) + features)


def test_the_gradient_is_unbiased_and_quieter() -> None:
    """Per-example gradients: their weighted mean is that of uniform times, their scatter is smaller."""
    model = Model(Small(), GaussianProcess(SCHEDULE), V())
    parameters = [model.network.weight]

    def gradients(times: Any, state: dict[str, Any]) -> Tensor:
        rows, objective = [], Matching(times, Elbo())
        for part in range(24):
            keys = Keys.for_draws(7, part * 128, 128)
            batch = Batch(keys.of("data").normal((2,), torch.float64), Cond())
            loss = objective(model, batch, keys, 0.0, state)[0].losses["model"]
            rows.append(torch.autograd.grad(loss, parameters)[0])
        return torch.stack(rows)

    sampler = LossAware(SCHEDULE, 128, bins=32, history=10)
    state = sampler.init()
    for part in range(30):
        keys = Keys.for_draws(8, part * 128, 128)
        batch = Batch(keys.of("data").normal((2,), torch.float64), Cond())
        record, _ = Matching(sampler, Elbo())(model, batch, keys, 0.0, state)
        state = sampler.remember(state, record.t, record.per_example)
    aware, plain = gradients(sampler, state), gradients(Stratified(SCHEDULE, 128), {})
    error = (aware.var(0) / 24 + plain.var(0) / 24).sqrt()
    assert bool(((aware.mean(0) - plain.mean(0)).abs() < 3.0 * error).all())
    assert float(aware.var(0).sum()) < 0.5 * float(plain.var(0).sum())


def test_until_every_bin_is_full_times_are_uniform() -> None:
    sampler = LossAware(EDM(), 8, bins=4, history=2)
    state = sampler.init()
    t = torch.tensor([0.1, 0.1, 0.3, 0.3, 0.6, 0.6, 0.9], dtype=torch.float64)
    state = sampler.remember(state, t, torch.full((7,), 2.0, dtype=torch.float64))
    assert state["times.seen"].tolist() == [2, 2, 2, 1]
    assert sampler.shares(state).tolist() == [0.25] * 4
    assert sampler.given(state)(Keys.for_draws(0, 0, 4))[1].tolist() == [1.0] * 4
    full = sampler.remember(state, torch.tensor([0.9], dtype=torch.float64), torch.tensor([6.0], dtype=torch.float64))
    assert float(sampler.shares(full)[3]) > float(sampler.shares(full)[0])
    assert state["times.seen"].tolist() == [2, 2, 2, 1]  # a state is a value
    zero = sampler.remember(full, t.repeat(4), torch.zeros(28, dtype=torch.float64))
    assert bool(torch.isfinite(sampler.shares(zero)).all())


def test_evaluations_look_at_the_levels_of_an_empty_memory() -> None:
    sampler = _sampler()
    state = _seen(sampler, lambda t: t) | {"else": 1}
    rested = Matching(sampler, Elbo()).at_rest(state)
    assert rested["else"] == 1
    assert float(rested["times.squares"].sum()) == 0.0
