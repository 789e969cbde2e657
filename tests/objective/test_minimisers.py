# SPDX-License-Identifier: Apache-2.0
"""Every legal objective x prediction x schedule x weighting has its minimum at the exact denoiser; every illegal one is refused.

On a Gaussian world each of these losses is a polynomial of degree two in the standard normal numbers behind data and noise, so that
its expectation, and that of its gradient, is the plain mean over all combinations of -1 and 1: no Monte-Carlo error is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein.base.errors import RecipeError
from ornstein.base.keys import Keys
from ornstein.base.registry import build, entry, names
from ornstein.exact.mixture import GaussianMixture
from ornstein.exact.world import Oracle
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.prediction import Edm, Prediction
from ornstein.model.reading import Plain, WithSpread
from ornstein.objective.hybrid import Hybrid
from ornstein.objective.matching import Matching
from ornstein.objective.record import Batch, Objective
from ornstein.objective.sliced import SlicedScore
from ornstein.objective.times import TimeSampler
from ornstein.objective.weighting import Weighting
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import Schedule
from ornstein.run.recipe import Recipe
from ornstein.run.recipe_parts import part_of
from ornstein.run.yaml_strict import Document

MEAN = torch.tensor([[0.5, -0.3]], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.30, 0.10], [0.10, 0.20]], dtype=torch.float64)
WORLD = GaussianMixture([1.0], MEAN, COVARIANCE[None])
STEPS = 10
SCHEDULES: dict[str, Schedule] = {name: build("schedule", part_of("schedule", name)) for name in names("schedule")}
PREDICTIONS: dict[str, Prediction] = {name: build("prediction", part_of("prediction", name)) for name in names("prediction")}
WEIGHTINGS: dict[str, Weighting] = {name: build("weighting", part_of("weighting", name)) for name in names("weighting")}
OURS = ("matching", "hybrid", "sliced-score")


class Signs(Keys):
    """Draw d stands for the signs in the bits of d: two directions, two of data, two of noise."""

    def of(self, purpose: str | int) -> Keys:
        return Signs(self.pairs, f"{self.purpose}/{purpose}")

    def bits(self, first: int) -> Tensor:
        return torch.tensor([[float(draw >> bit & 1) for bit in (first, first + 1)] for draw in self.draws], dtype=torch.float64)

    def uniform(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float64) -> Tensor:
        assert self.purpose.endswith("direction/0")
        return 0.25 + 0.5 * self.bits(0)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        return 2.0 * self.bits(4) - 1.0


KEYS = Signs(tuple((0, draw) for draw in range(64)))
X0 = MEAN + (2.0 * KEYS.bits(2) - 1.0) @ torch.linalg.cholesky(COVARIANCE).T


class At(TimeSampler):
    """One time for every draw."""

    def __init__(self, t: float) -> None:
        self.t = t

    def __call__(self, keys: Keys) -> tuple[Tensor, Tensor]:
        one = torch.ones(len(keys), dtype=torch.float64)
        return self.t * one, one


class Near(nn.Module):
    """An exact network and a linear error beside it, 0 at first; where asked, the exact spread and an error beside that."""

    def __init__(self, exact: Oracle, schedule: Schedule, spread: bool) -> None:
        super().__init__()
        self.exact, self.schedule, self.spread = exact, schedule, spread
        self.shift, self.tilt = nn.Parameter(torch.zeros(2).double()), nn.Parameter(torch.zeros(2, 2).double())
        self.wider = nn.Parameter(torch.zeros(2).double())

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        y = self.exact(x, features, cond) + self.shift + x @ self.tilt.T
        if not self.spread:
            return y
        told = exact_spread(self.schedule, float(self.exact.level_of(features[:1, 0]).t)) + self.wider
        return torch.cat([y, (2.0 * told - 1.0).expand_as(y)], 1)


def exact_spread(schedule: Schedule, t: float) -> Tensor:
    """Where Var(x_s | x_t), from the joint law of a Markov chain of Gaussians, lies between posterior and forward variance."""
    at, to = schedule.at(t), schedule.at(t - schedule.noisiest / STEPS)
    late, early = (level.alpha**2 * COVARIANCE + level.sigma**2 * torch.eye(2).double() for level in (at, to))
    ratio = at.alpha / to.alpha
    variance = (early - ratio**2 * early @ torch.linalg.solve(late, early)).diagonal()
    forward = at.sigma**2 - ratio**2 * to.sigma**2
    posterior = math.log(forward * to.sigma**2 / at.sigma**2)
    return (variance.log() - posterior) / (math.log(forward) - posterior)


def model_of(prediction: str, schedule: str, spread: bool) -> Model:
    path, row = SCHEDULES[schedule], PREDICTIONS[prediction]

    def level_of(features: Tensor) -> Level:
        return path.at_log_snr(-8.0 * features.detach()) if isinstance(row, Edm) else path.at(features.detach())

    network = Near(Oracle(WORLD, row, level_of), path, spread)
    return Model(network, GaussianProcess(path), row, reading=WithSpread() if spread else Plain())


def objective_of(name: str, t: float, weighting: str) -> Objective:
    if name == "hybrid":
        return Hybrid(At(t), WEIGHTINGS[weighting], STEPS, 0.3)
    return Matching(At(t), WEIGHTINGS[weighting]) if name == "matching" else SlicedScore(At(t), WEIGHTINGS[weighting])


def errors_of(model: Model) -> list[nn.Parameter]:
    assert isinstance(model.network, Near)
    return [model.network.shift, model.network.tilt, model.network.wider]


def gradient(objective: Objective, model: Model) -> Tensor:
    """Of the network's errors, in one vector."""
    record, _ = objective(model, Batch(X0, Cond()), KEYS, 0.0, objective.init())
    parameters = errors_of(model)
    found = torch.autograd.grad(record.losses["model"], parameters, allow_unused=True)
    return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in zip(parameters, found, strict=True)])


@cache
def is_legal(objective: str, prediction: str, schedule: str, weighting: str) -> bool:
    sections: dict[str, Any] = {"schedule": {"kind": schedule}, "prediction": {"kind": prediction}, "network": {"kind": "mlp"}}
    taught = {"kind": objective, "weighting": {"kind": weighting}}
    try:
        Recipe.parse(Document({"name": "a", "data": {"kind": "points"}, **sections, "objective": taught}))
    except RecipeError:
        return False
    return True


def combinations(objective: str) -> Iterator[tuple[str, str, str]]:
    """Every prediction, schedule and weighting; all weightings for matching, whose weights are those of the others too."""
    weightings = WEIGHTINGS if objective == "matching" else ("simple", "elbo", "p2")
    return ((prediction, schedule, weighting) for prediction in PREDICTIONS for schedule in SCHEDULES for weighting in weightings)


def _traits(kind: str, name: str) -> frozenset[str]:
    return entry(kind, name).traits(part_of(kind, name).model_dump())


@pytest.mark.parametrize("objective", OURS)
def test_what_is_refused_is_what_has_a_reason(objective: str) -> None:
    for prediction, schedule, weighting in combinations(objective):
        blind = "needs-signal" in _traits("prediction", prediction) | _traits("objective", objective)
        singular = blind and "zero-terminal-snr" in _traits("schedule", schedule)
        unteachable = schedule == "learned" and (objective != "matching" or weighting != "elbo")
        assert is_legal(objective, prediction, schedule, weighting) != (singular or unteachable), (prediction, schedule, weighting)


@pytest.mark.parametrize("objective", OURS)
def test_the_exact_denoiser_is_where_the_gradient_vanishes(objective: str) -> None:
    seen = 0
    for prediction, schedule, weighting in combinations(objective):
        if not is_legal(objective, prediction, schedule, weighting):
            continue
        model, taught = (
            model_of(prediction, schedule, objective == "hybrid"),
            objective_of(objective, 0.4 * SCHEDULES[schedule].noisiest, weighting),
        )
        there = gradient(taught, model)
        with torch.no_grad():
            for parameter in errors_of(model):
                parameter += 0.1
        beside = gradient(taught, model)
        used = beside.abs() > 0.0
        assert int(used.sum()) >= (8 if objective == "hybrid" else 6)
        where = f"{prediction}, {schedule}, {weighting}"
        assert float((there.abs()[used] / beside.abs().max()).max()) < 1e-7, where
        assert float((beside * 0.1).sum()) > 0.0, where  # and it is a minimum: away from it the loss rises
        seen += 1
    assert seen > 60


def test_the_bound_teaches_the_variance_alone() -> None:
    """Away from the minimum the gradient of the hybrid loss in the mean is that of matching: the bound's stops before it."""
    gradients = []
    for name in ("hybrid", "matching"):
        model = model_of("eps", "linear-beta", name == "hybrid")
        with torch.no_grad():
            for parameter in errors_of(model):
                parameter += 0.3
        gradients.append(gradient(objective_of(name, 0.4, "simple"), model))
    hybrid, plain = gradients
    torch.testing.assert_close(hybrid[:6], plain[:6], rtol=1e-12, atol=0.0)
    assert bool((hybrid[6:].abs() > 1e-3).all())


def test_the_spread_of_the_minimum_is_the_exact_variance_of_a_move() -> None:
    """Stated again without the network: the spread that the hybrid loss asks for gives `reverse_law` the true deviation."""
    from ornstein.process.estimate import Gaussian

    schedule = SCHEDULES["cosine"]
    t, s = schedule.at(0.6), schedule.at(0.5)
    x = MEAN.expand(3, 2)
    law = GaussianProcess(schedule).reverse_law(Gaussian(WORLD.expectation(x, t), exact_spread(schedule, 0.6).expand(3, 2)), x, t, s)
    joint = torch.distributions.MultivariateNormal(MEAN[0], COVARIANCE)
    n = 40000
    keys = Keys.for_draws(4, 0, 1)
    noise = torch.randn(n, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert len(keys) == 1
    x0 = MEAN + noise[:, :2] @ joint.scale_tril.T
    x_s = s.alpha * x0 + s.sigma * noise[:, 2:]
    ratio = t.alpha / s.alpha
    x_t = ratio * x_s + (t.sigma**2 - ratio**2 * s.sigma**2) ** 0.5 * torch.randn(
        n, 2, generator=torch.Generator().manual_seed(6), dtype=torch.float64
    )
    design = torch.cat([x_t, torch.ones(n, 1).double()], 1)
    left = x_s - design @ torch.linalg.lstsq(design, x_s).solution
    assert isinstance(law.std, Tensor)
    torch.testing.assert_close(left.std(0), law.std[0], rtol=0.02, atol=0.0)
