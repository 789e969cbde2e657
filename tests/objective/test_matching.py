# SPDX-License-Identifier: Apache-2.0
"""The matching loss is the stated weight on the error of x_0, and nothing is left over for an exact network."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ornstein.base.keys import Keys
from ornstein.base.registry import entry, load, names
from ornstein.exact.mixture import GaussianMixture
from ornstein.exact.world import Oracle
from ornstein.model.condition import NULL_LABEL, Cond
from ornstein.model.denoiser import Model
from ornstein.model.prediction import Prediction, V
from ornstein.objective.matching import Matching
from ornstein.objective.record import Batch
from ornstein.objective.times import Stratified, TimeSampler, Uniform
from ornstein.objective.weighting import Elbo, Simple, Weighting
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import over
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule

PREDICTIONS: dict[str, Prediction] = {name: load(entry("prediction", name))() for name in names("prediction")}
WEIGHTINGS: dict[str, Weighting] = {name: load(entry("weighting", name))() for name in names("weighting")}


class Small(nn.Module):
    """A fixed nonlinear function of everything a network is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.7, -0.4], dtype=torch.float64))

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        shift = 0.0 if cond.label is None else 0.1 * cond.label[:, None]
        return torch.tanh(self.weight * x.flip(1) + features + shift)


def _batch(n: int) -> Batch:
    return Batch(Keys.for_draws(9, 0, n, "data").normal((2,), torch.float64), Cond(torch.arange(n) % 3))


@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
@pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)
@pytest.mark.parametrize("schedule", [LinearBeta(), EDM()], ids=["linear-beta", "edm"])
def test_loss_is_the_weight_times_the_error_of_x0(prediction: Prediction, weighting: Weighting, schedule: Schedule) -> None:
    n = 16
    batch, keys, times = _batch(n), Keys.for_draws(1, 32, n), Uniform(schedule, 0.02)
    model = Model(Small(), GaussianProcess(schedule), prediction)
    record, _ = Matching(times, weighting)(model, batch, keys, 0.0, {})
    level = schedule.at(record.t)
    noise = model.process.draw((2,), keys.of("noise")).double()
    x = over(level.alpha, batch.x0) * batch.x0 + over(level.sigma, batch.x0) * noise
    error = (model(x, level, batch.cond).x0 - batch.x0).square().mean(1)
    assert record.t.equal(times(keys.of("time"))[0])
    torch.testing.assert_close(record.per_example, weighting(level) * error, rtol=1e-8, atol=0.0)
    torch.testing.assert_close(record.losses["model"], record.per_example.mean())


def test_loss_is_that_of_target_space_where_x0_would_lose_digits() -> None:
    """At tiny sigma, float32: the error of eps is seen to 1e-5, through x_0 it would not be."""
    schedule, prediction = LinearBeta(), PREDICTIONS["eps"]
    model = Model(Small().float(), GaussianProcess(schedule), prediction)
    batch, keys = _batch(8), Keys.for_draws(1, 0, 8)

    class Tiny(TimeSampler):
        def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
            return torch.full((8,), 1e-5, dtype=torch.float64), torch.ones(8, dtype=torch.float64)

    single, _ = Matching(Tiny(), Simple())(model, Batch(batch.x0.float(), batch.cond), keys, 0.0, {})
    double, _ = Matching(Tiny(), Simple())(Model(Small(), model.process, prediction), batch, keys, 0.0, {})
    torch.testing.assert_close(single.per_example, double.per_example, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), EDM()], ids=["cosine", "flow", "edm"])
@pytest.mark.parametrize("name", ["v", "x0", "edm"])
def test_an_exact_network_leaves_only_the_irreducible_loss(schedule: Schedule, name: str) -> None:
    """Gaussian data of variance v: E|x_0 - E[x_0 | x_t]|^2 = v/(1 + v SNR), so the whole loss is an integral over t."""
    n, mean, variance, start = 6000, 0.4, 0.3, 0.05
    world = GaussianMixture([1.0], torch.full((1, 1), mean), torch.full((1, 1, 1), variance))
    prediction = PREDICTIONS[name]
    level_of = (lambda feature: schedule.at_log_snr(-8.0 * feature)) if name == "edm" else schedule.at
    model = Model(Oracle(world, prediction, level_of), GaussianProcess(schedule), prediction)
    batch = Batch(world.sample(Keys.for_draws(2, 0, n)).x0, Cond())
    record, _ = Matching(Stratified(schedule, n, start), Elbo())(model, batch, Keys.for_draws(3, 0, n), 0.0, {})
    t = torch.linspace(start, schedule.noisiest, 4001, dtype=torch.float64)
    level = schedule.at(t)
    snr = (torch.as_tensor(level.alpha) / level.sigma) ** 2
    expected = float(torch.trapezoid(Elbo()(level) * variance / (1.0 + variance * snr), t)) / (schedule.noisiest - start)
    floor = variance / (1.0 + variance * (torch.as_tensor(schedule.at(record.t).alpha) / schedule.at(record.t).sigma) ** 2)
    excess = record.per_example - Elbo()(schedule.at(record.t)) * floor
    error = float(excess.std()) / n**0.5  # given the times, which cover the range, only noise is left
    assert abs(float(record.losses["model"]) - expected) < 3.0 * error + 1e-3 * expected
    worse, _ = Matching(Stratified(schedule, n, start), Elbo())(_shifted(model), batch, Keys.for_draws(3, 0, n), 0.0, {})
    assert float(worse.losses["model"]) > expected + 3.0 * error


def _shifted(model: Model) -> Model:
    """The same model, a little off."""
    exact = model.network

    class Off(nn.Module):
        def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
            y: Tensor = exact(x, features, cond)
            return y + 0.5

    return Model(Off(), model.process, model.prediction)


def test_an_example_is_treated_alike_in_every_split_of_the_batch() -> None:
    schedule, batch = Cosine(), _batch(12)
    model = Model(Small(), GaussianProcess(schedule), V())
    objective = Matching(Stratified(schedule, 12), Simple(), condition_drop=0.5)
    whole, _ = objective(model, batch, Keys.for_draws(1, 24, 12), 0.0, {})
    for start in range(0, 12, 4):
        part = Batch(batch.x0[start : start + 4], batch.cond.take(slice(start, start + 4)))
        record, _ = objective(model, part, Keys.for_draws(1, 24 + start, 4), 0.0, {})
        torch.testing.assert_close(record.per_example, whole.per_example[start : start + 4], rtol=1e-12, atol=0.0)
        assert record.t.equal(whole.t[start : start + 4])


def test_copies_of_one_example_get_different_times_and_noise() -> None:
    schedule = Cosine()
    batch = Batch(torch.zeros(8, 2, dtype=torch.float64), Cond())
    model = Model(Small(), GaussianProcess(schedule), V())
    record, _ = Matching(Uniform(schedule), Simple())(model, batch, Keys.for_draws(1, 0, 8), 0.0, {})
    assert len(record.t.unique()) == 8
    assert len(record.per_example.unique()) == 8


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_conditions_are_dropped_as_asked(probability: float) -> None:
    seen: list[Tensor] = []

    class Watcher(Small):
        def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
            assert cond.label is not None
            seen.append(cond.label)
            return super().forward(x, features, cond)

    schedule, n = Cosine(), 800
    Matching(Uniform(schedule), Simple(), probability)(
        Model(Watcher(), GaussianProcess(schedule), V()), _batch(n), Keys.for_draws(1, 0, n), 0.0, {}
    )
    share = float((seen[0] == NULL_LABEL).double().mean())
    assert abs(share - probability) <= 3.0 * math.sqrt(probability * (1.0 - probability) / n)


def test_importance_weights_multiply_the_loss() -> None:
    class Doubled(Uniform):
        def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
            t, weight = super().__call__(keys)
            return t, 2.0 * weight

    schedule, batch, keys = Cosine(), _batch(4), Keys.for_draws(1, 0, 4)
    model = Model(Small(), GaussianProcess(schedule), V())
    plain, _ = Matching(Uniform(schedule), Simple())(model, batch, keys, 0.0, {})
    doubled, _ = Matching(Doubled(schedule), Simple())(model, batch, keys, 0.0, {})
    torch.testing.assert_close(doubled.per_example, 2.0 * plain.per_example)


def test_the_loss_has_gradients_and_the_record_has_none() -> None:
    schedule, network = Cosine(), Small()
    objective = Matching(Uniform(schedule), Simple())
    assert objective.init() == {}
    state = {"kept": 1}
    record, after = objective(Model(network, GaussianProcess(schedule), V()), _batch(4), Keys.for_draws(1, 0, 4), 0.0, state)
    record.losses["model"].backward()
    assert network.weight.grad is not None
    assert bool((network.weight.grad != 0).all())
    assert not record.per_example.requires_grad
    assert record.per_example.dtype == record.t.dtype == torch.float64
    assert not record.is_bound
    assert after is state
