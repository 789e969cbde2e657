# SPDX-License-Identifier: Apache-2.0
"""Classifier guidance with the exact classifier of a mixture is conditioning."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.exact.mixture import scattered
from ornstein.model.classifier import ClassifierGuided, class_gradient
from ornstein.model.condition import Cond
from ornstein.model.guidance import Unconditioned
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import EDM, Cosine, Flow, Schedule

WORLD = scattered(3, 2, seed=1)
X = Keys.for_draws(0, 0, 6).normal((2,), torch.float64)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def guided(schedule: Schedule, scale: float = 1.0, interval: tuple[float, float] = (0.0, 1.0)) -> ClassifierGuided:
    exact = WORLD.denoiser(GaussianProcess(schedule))
    return ClassifierGuided(Unconditioned(exact), WORLD.logits, scale, interval)


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), EDM()], ids=["cosine", "flow", "edm"])
@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_the_exact_classifier_at_scale_1_gives_the_conditional_denoiser(schedule: Schedule, t: float) -> None:
    level = schedule.at(t)
    x0 = guided(schedule)(X, level, Cond(LABEL)).x0
    torch.testing.assert_close(x0, WORLD.expectation(X, level, LABEL), rtol=1e-9, atol=1e-10)
    assert float((x0 - WORLD.expectation(X, level)).abs().max()) > 1e-4


def test_the_scale_multiplies_the_classifiers_score() -> None:
    level = Cosine().at(0.5)
    base, told = WORLD.expectation(X, level), WORLD.expectation(X, level, LABEL)
    for scale in (0.0, 0.5, 3.0):
        torch.testing.assert_close(guided(Cosine(), scale)(X, level, Cond(LABEL)).x0, base + scale * (told - base), rtol=1e-9, atol=1e-10)


def test_the_gradient_is_that_of_the_class_posterior() -> None:
    level = Cosine().at(0.5)
    expected = WORLD.score(X, level, LABEL) - WORLD.score(X, level)
    torch.testing.assert_close(class_gradient(WORLD.logits, X, level, LABEL), expected, rtol=1e-9, atol=1e-10)


def test_unlabelled_samples_pure_noise_and_times_outside_the_interval_stay_as_they_are() -> None:
    level, schedule = Cosine().at(0.5), Cosine()
    some = torch.tensor([0, -1, 2, -1, 1, -1])
    mixed = guided(schedule)(X, level, Cond(some)).x0
    torch.testing.assert_close(mixed, WORLD.expectation(X, level, some), rtol=1e-9, atol=1e-10)
    assert guided(schedule)(X, level, None).x0.equal(WORLD.expectation(X, level))
    noise = schedule.at(1.0)
    assert noise.is_noise
    assert guided(schedule)(X, noise, Cond(LABEL)).x0.equal(WORLD.expectation(X, noise))
    assert guided(schedule, 1.0, (0.6, 1.0))(X, level, Cond(LABEL)).x0.equal(WORLD.expectation(X, level))


def test_levels_per_sample_are_guided_per_sample() -> None:
    schedule = Cosine()
    t = torch.tensor([0.1, 0.3, 1.0, 0.7, 0.9, 0.3], dtype=torch.float64)
    some = guided(schedule, 2.0, (0.2, 1.0))
    level = schedule.at(t)
    together = some(X, level, Cond(LABEL)).x0
    for i in range(len(X)):
        alone = some(X[i : i + 1], schedule.at(float(t[i])), Cond(LABEL[i : i + 1])).x0
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-10)


def test_guidance_works_under_no_grad_and_leaves_no_graph() -> None:
    with torch.no_grad():
        x0 = guided(Cosine())(X, Cosine().at(0.5), Cond(LABEL)).x0
    assert not x0.requires_grad


def test_guidance_can_itself_be_differentiated() -> None:
    """Against the derivative of the conditional denoiser, which it equals."""
    level = Cosine().at(0.5)

    def slope(denoise: object, x: Tensor) -> Tensor:
        place = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(denoise(place).sum(), place)  # type: ignore[operator]
        return gradient

    whole = slope(lambda x: WORLD.expectation(x, level, LABEL), X)
    torch.testing.assert_close(slope(lambda x: guided(Cosine())(x, level, Cond(LABEL)).x0, X), whole, rtol=1e-8, atol=1e-9)


def test_the_classifier_sees_the_level_it_is_asked_at() -> None:
    seen: list[Level] = []

    def classifier(x: Tensor, level: Level) -> Tensor:
        seen.append(level)
        return WORLD.logits(x, level)

    exact = WORLD.denoiser(GaussianProcess(Cosine()))
    ClassifierGuided(exact, classifier)(X, Cosine().at(0.3), Cond(LABEL))
    assert [level.t for level in seen] == [0.3]
