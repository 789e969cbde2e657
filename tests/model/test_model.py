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
from ornstein.model.prediction import X0, Edm, Eps, V
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


def test_singular_levels_are_refused_where_they_are_asked() -> None:
    model = Model(Recorder(), GaussianProcess(Cosine()), Eps())
    with pytest.raises(SingularPrediction, match="Eps"):
        model(X, Cosine().at(1.0))
