# SPDX-License-Identifier: Apache-2.0
"""A learned schedule keeps ends and family of its base at any weights, and is taught by the variance of the loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ornstein.base.keys import Keys, generator_of
from ornstein.exact.mixture import smooth
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.prediction import Edm, V
from ornstein.objective.matching import Matching, matched
from ornstein.objective.record import Batch
from ornstein.objective.times import Stratified, Uniform
from ornstein.objective.view import view_of
from ornstein.objective.weighting import Elbo
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.learned import Learned
from ornstein.process.paths import Geometric, Sigmoid, SubVP
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule
from ornstein.process.wrapped import Shifted, Truncated

BASES: dict[str, Schedule] = {
    **{"linear-beta": LinearBeta(), "cosine": Cosine(), "sigmoid": Sigmoid(), "flow": Flow(), "edm": EDM(), "geometric": Geometric()},
    **{"sub-vp": SubVP(), "shifted": Shifted(Flow(), 3.0), "truncated": Truncated(Cosine(), -6.0, 6.0)},
}


def _thrown(base: Schedule, seed: int = 0) -> Learned:
    """With weights far from the start."""
    schedule = Learned(base, 5)
    dice = generator_of("learned", seed)
    for parameter in schedule.parameters():
        parameter.data += 3.0 * torch.randn(parameter.shape, generator=dice)
    return schedule


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_at_any_weights_ends_family_and_order_are_those_of_the_base(base: Schedule) -> None:
    t = base.cleanest + (base.noisiest - base.cleanest) * torch.linspace(0.001, 0.999, 400, dtype=torch.float64)
    for seed in range(3):
        schedule = _thrown(base, seed)
        level = schedule.at(t)
        torch.testing.assert_close(base.size(torch.as_tensor(level.alpha), torch.as_tensor(level.sigma)), torch.ones_like(t))
        assert bool((torch.as_tensor(level.log_snr).diff() < 0).all())
        for end in (base.cleanest, base.noisiest):
            assert schedule.at(end)[:3] == pytest.approx(base.at(end)[:3], rel=1e-12)
        step = 1e-6
        rate = (schedule.sigma(t + step) - schedule.sigma(t - step)) / (2.0 * step)
        torch.testing.assert_close(level.sigma_rate, rate, rtol=1e-3, atol=1e-4)
    if base.cleanest > 0.0:
        assert schedule.at(0.5 * base.cleanest) == base.at(0.5 * base.cleanest)


def test_it_starts_close_to_its_base() -> None:
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    torch.testing.assert_close(Learned(Cosine()).alpha(t), Cosine().alpha(t), rtol=0.0, atol=0.02)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -0.4], dtype=torch.float64))

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        return torch.tanh(self.weight * x.flip(1) + features)


@pytest.mark.parametrize("base", [Truncated(), Truncated(Shifted(Flow(), 3.0))], ids=["linear-beta", "rates by forward mode"])
def test_the_gradient_is_that_of_the_second_moment_for_the_schedule_and_of_the_mean_for_the_network(base: Schedule) -> None:
    schedule = _thrown(base)
    model = Model(Small(), GaussianProcess(schedule), Edm(0.5))
    keys, times = Keys.for_draws(1, 0, 16), Uniform(schedule)
    batch = Batch(Keys.for_draws(2, 0, 16).normal((2,), torch.float64), Cond())
    view = view_of(model, batch, keys, times)
    losses = matched(model, view, model.raw(view.x, view.level), Elbo())
    expected = torch.autograd.grad(losses.square().mean(), list(schedule.parameters()), retain_graph=True)
    (mean,) = torch.autograd.grad(losses.mean(), model.network.weight)
    Matching(times, Elbo())(model, batch, keys, 0.0, {})[0].losses["model"].backward()
    for parameter, gradient in zip(schedule.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert bool((gradient != 0.0).any())
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(model.network.weight.grad, mean)


def test_the_bound_does_not_depend_on_the_pace_and_its_variance_falls() -> None:
    """The exact denoiser of a mixture: a few hundred steps on the schedule alone quieten the loss and leave its mean."""
    n, schedule, world = 512, Learned(Truncated(LinearBeta(), -8.0, 8.0)), smooth()

    class Exact(nn.Module):
        def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
            level = schedule.at(features[:, 0])
            x0 = world.expectation(x, level)
            return V().target(x0, (x - level.alpha[:, None] * x0) / level.sigma[:, None], level)  # type: ignore[index]

    model, objective = Model(Exact(), GaussianProcess(schedule), V()), Matching(Stratified(schedule, n), Elbo())
    optimiser = torch.optim.Adam(schedule.parameters(), lr=0.05)

    def losses(draw: int) -> tuple[Tensor, Tensor]:
        keys = Keys.for_draws(5, draw * n, n)
        record, _ = objective(model, Batch(world.sample(keys.of("data")).x0, Cond()), keys, 0.0, {})
        return record.losses["model"], record.per_example

    before = torch.cat([losses(draw)[1] for draw in range(4)])
    for draw in range(10, 60):
        optimiser.zero_grad()
        losses(draw)[0].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    after = torch.cat([losses(draw)[1] for draw in range(4)])
    error = float((before.var() / len(before) + after.var() / len(after)).sqrt())
    assert abs(float(before.mean() - after.mean())) < 3.0 * error
    assert float(after.var()) < 0.75 * float(before.var())
