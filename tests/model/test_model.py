# SPDX-License-Identifier: Apache-2.0
"""`Model` hands its network exactly what the prediction asks for and reads the answer back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ornstein.base.errors import SingularPrediction
from ornstein.base.keys import Keys
from ornstein.exact.mixture import smooth
from ornstein.exact.world import Oracle
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.guidance import ClassifierFree
from ornstein.model.prediction import X0, Edm, Eps, Prediction, V
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import EDM, Cosine

X = Keys.for_draws(2, 0, 4).normal((2,), torch.float64)


class Recorder(nn.Module):
    """Keeps what it was called with and returns its input."""

    def forward(self, x: Tensor, features: Tensor, cond: Cond | None) -> Tensor:
        self.x, self.features, self.cond = x, features, cond
        return x


def test_network_sees_scaled_input_one_feature_per_sample_and_a_condition() -> None:
    network, schedule, row = Recorder(), EDM(), Edm(0.5)
    level = schedule.at(0.6)
    Model(network, GaussianProcess(schedule), row).raw(X, level)
    torch.testing.assert_close(network.x, X / (level.sigma**2 + 0.25) ** 0.5)
    assert network.features.shape == (4, 1)
    torch.testing.assert_close(network.features, torch.full((4, 1), row.feature(level), dtype=torch.float64))
    assert network.cond == Cond()
    per_sample = schedule.at(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64))
    cond = Cond(torch.arange(4))
    Model(network, GaussianProcess(schedule), X0()).raw(X, per_sample, cond)
    assert network.features[:, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert network.cond is cond


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_output_keeps_the_dtype_of_x(precision: str) -> None:
    network = nn.Linear(2, 2)
    network.forward = lambda x, features, cond: nn.functional.linear(x, network.weight, network.bias)  # type: ignore[assignment]
    model = Model(network, GaussianProcess(Cosine()), V(), precision)
    x = X.float()
    y = model.raw(x, Cosine().at(0.5))
    assert y.dtype == torch.float32
    plain = nn.functional.linear(x, network.weight, network.bias)
    assert y.equal(plain) is (precision == "fp32")
    torch.testing.assert_close(y, plain, rtol=0.05, atol=0.05)


def test_estimate_of_an_exact_network_is_exact() -> None:
    schedule, world = Cosine(), smooth()
    model = Model(Oracle(world, V(), schedule.at), GaussianProcess(schedule), V())
    for level in (schedule.at(0.3), schedule.at(torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.float64))):
        torch.testing.assert_close(model(X, level).x0, world.expectation(X, level), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("prediction", [X0(), Eps(), V(), Edm(0.5)], ids=["x0", "eps", "v", "edm"])
def test_all_derivatives_of_an_estimate_pass_through_in_one_batch(prediction: Prediction) -> None:
    """Exact likelihoods push a basis of tangents through the model: forward mode under vmap, and reverse mode."""
    schedule, network = Cosine(), Twist()
    model, level = Model(network, GaussianProcess(schedule), prediction), schedule.at(0.4)

    def estimate(x: Tensor) -> Tensor:
        guided: Tensor = ClassifierFree(model, 2.0)(x, level, Cond(torch.arange(4))).x0
        return guided

    basis = torch.eye(2, dtype=torch.float64)[:, None].expand(2, 4, 2)
    forward = torch.func.vmap(lambda v: torch.func.jvp(estimate, (X,), (v,))[1])(basis)
    step = 1e-6
    for i, direction in enumerate(basis):
        difference = (estimate(X + step * direction) - estimate(X - step * direction)) / (2.0 * step)
        torch.testing.assert_close(forward[i], difference, rtol=1e-7, atol=1e-8)
    x = X.clone().requires_grad_()
    (backward,) = torch.autograd.grad(estimate(x)[:, 0].sum(), x)
    torch.testing.assert_close(backward, forward[:, :, 0].T, rtol=1e-10, atol=1e-12)


class Twist(nn.Module):
    """A smooth function that mixes coordinates."""

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        assert cond.label is not None
        return torch.sin(x.flip(1) + features) + 0.1 * cond.label[:, None] * x


def test_singular_levels_are_refused_where_they_are_asked() -> None:
    model = Model(Recorder(), GaussianProcess(Cosine()), Eps())
    with pytest.raises(SingularPrediction, match="Eps"):
        model(X, Cosine().at(1.0))
