# SPDX-License-Identifier: Apache-2.0
"""The classifier's loss is the cross-entropy of noisy data, least for the exact class posterior."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ornstein.base.errors import DataError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import GaussianMixture
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.prediction import Edm, V
from ornstein.objective.classification import Classification
from ornstein.objective.record import Batch
from ornstein.objective.times import Stratified, TimeSampler, Uniform
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import EDM, Cosine

WORLD = GaussianMixture([0.3, 0.3, 0.4], torch.tensor([[-1.0, 0.0], [1.0, 0.2], [0.0, 1.2]]), 0.05 * torch.eye(2).expand(3, 2, 2))
N = 2048


def batch() -> Batch:
    points = WORLD.sample(Keys.for_draws(5, 0, N))
    return Batch(points.x0, Cond(points.label))


class Judge(nn.Module):
    """The exact class posterior with its logits flattened or sharpened; undoes the input scale."""

    def __init__(self, model: Model | None = None, sharper: float = 1.0) -> None:
        super().__init__()
        self.sharper, self.calls = sharper, list[object]()

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        self.calls.append(cond.label)
        return self.sharper * WORLD.logits(x, Cosine().at(features[:, 0]))


def loss(sharper: float) -> tuple[float, float]:
    model = Model(Judge(sharper=sharper), GaussianProcess(Cosine()), V())
    record, _ = Classification(Stratified(Cosine(), N))(model, batch(), Keys.for_draws(1, 0, N), 0.0, {})
    assert model.network.calls == [None]  # type: ignore[comparison-overlap]
    return float(record.losses["model"]), record.parts["accuracy"]


def test_the_exact_class_posterior_has_the_least_loss() -> None:
    best, accuracy = loss(1.0)
    assert best < min(loss(0.7)[0], loss(1.4)[0]) < math.log(3.0)
    assert 0.5 < accuracy < 1.0
    assert loss(0.0)[0] == pytest.approx(math.log(3.0), abs=1e-6)


def test_every_example_is_judged_at_its_own_level() -> None:
    model, keys = Model(Judge(), GaussianProcess(Cosine()), V()), Keys.for_draws(1, 0, N)
    times = Uniform(Cosine())
    record, _ = Classification(times)(model, batch(), keys, 0.0, {})
    assert record.t.equal(times(keys.of("time"))[0])
    noise = keys.of("noise").normal((2,)).double()
    level = Cosine().at(record.t)
    x = model.process.corrupt(batch().x0, noise, level)
    expected = -(WORLD.logits(x, level).log_softmax(1)).gather(1, batch().cond.label[:, None])[:, 0]  # type: ignore[index]
    torch.testing.assert_close(record.per_example, expected, rtol=1e-8, atol=1e-9)


def test_importance_weights_enter_and_the_input_scale_is_the_predictions() -> None:
    class Doubled(TimeSampler):
        def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
            return torch.full((len(keys),), 0.5, dtype=torch.float64), torch.full((len(keys),), 2.0, dtype=torch.float64)

    class Seen(nn.Module):
        def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
            self.std = float(x.std())
            return torch.zeros(len(x), 3, dtype=x.dtype)

    network = Seen()
    model = Model(network, GaussianProcess(EDM()), Edm(0.5))
    record, _ = Classification(Doubled())(model, batch(), Keys.for_draws(1, 0, N), 0.0, {})
    assert float(record.losses["model"]) == pytest.approx(2.0 * math.log(3.0))
    assert network.std == pytest.approx(1.0, abs=0.2)


def test_data_without_classes_teach_no_classifier() -> None:
    model = Model(Judge(), GaussianProcess(Cosine()), V())
    with pytest.raises(DataError, match="without classes"):
        Classification(Uniform(Cosine()))(model, Batch(batch().x0, Cond()), Keys.for_draws(1, 0, N), 0.0, {})
