# SPDX-License-Identifier: Apache-2.0
"""Guidance against a mixture whose conditional and unconditional answers are both exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.exact.mixture import scattered
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.model.guidance import ClassifierFree
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import Cosine

WORLD, PROCESS = scattered(3, 2, seed=1), GaussianProcess(Cosine())
X = Keys.for_draws(0, 0, 6).normal((2,), torch.float64)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])
LEVEL = PROCESS.schedule.at(0.6)


class Counted(Denoiser):
    """The exact denoiser, with a record of the batches it was asked."""

    def __init__(self) -> None:
        self.inner, self.process, self.batches = WORLD.denoiser(PROCESS), PROCESS, list[int]()

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        self.batches.append(len(x))
        return self.inner(x, level, cond, towards)


def test_scales_interpolate_between_the_exact_answers() -> None:
    told, untold = WORLD.expectation(X, LEVEL, LABEL), WORLD.expectation(X, LEVEL)
    assert float((told - untold).abs().min()) > 1e-3
    for scale in (0.0, 0.5, 1.0, 3.0):
        guided = ClassifierFree(WORLD.denoiser(PROCESS), scale)(X, LEVEL, Cond(LABEL)).x0
        torch.testing.assert_close(guided, untold + scale * (told - untold), rtol=1e-12, atol=1e-13)


def test_both_branches_are_one_call_and_a_plain_answer_is_one_branch() -> None:
    for scale, cond, rows in ((3.0, Cond(LABEL), 12), (1.0, Cond(LABEL), 6), (3.0, None, 6)):
        counted = Counted()
        ClassifierFree(counted, scale)(X, LEVEL, cond)
        assert counted.batches == [rows]


def test_interval_confines_guidance_in_time() -> None:
    counted = Counted()
    guided = ClassifierFree(counted, 3.0, (0.2, 0.6))
    told = {t: WORLD.expectation(X, PROCESS.schedule.at(t), LABEL) for t in (0.1, 0.2, 0.6, 0.61)}
    for t, inside in ((0.1, False), (0.2, True), (0.6, True), (0.61, False)):
        x0 = guided(X, PROCESS.schedule.at(t), Cond(LABEL)).x0
        assert x0.equal(told[t]) is not inside
    assert counted.batches == [6, 12, 12, 6]


def test_levels_per_sample_are_guided_per_sample() -> None:
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.3], dtype=torch.float64)
    guided = ClassifierFree(WORLD.denoiser(PROCESS), 2.5, (0.2, 0.6))
    level = PROCESS.schedule.at(t)
    together = guided(X, level, Cond(LABEL), towards=level).x0
    for i in range(len(X)):
        alone = guided(X[i : i + 1], PROCESS.schedule.at(float(t[i])), Cond(LABEL[i : i + 1])).x0
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-13)


def test_guiding_x0_is_guiding_the_score() -> None:
    """The guided estimate's score is that of p(x)^(1-w) p(x|c)^w (2207.12598, section 3.2)."""
    scale = 2.0
    x0 = ClassifierFree(WORLD.denoiser(PROCESS), scale)(X, LEVEL, Cond(LABEL)).x0
    score = (LEVEL.alpha * x0 - X) / LEVEL.sigma**2
    expected = (1.0 - scale) * WORLD.score(X, LEVEL) + scale * WORLD.score(X, LEVEL, LABEL)
    torch.testing.assert_close(score, expected, rtol=1e-10, atol=1e-11)


def test_guidance_wraps_guidance() -> None:
    twice = ClassifierFree(ClassifierFree(WORLD.denoiser(PROCESS), 2.0), 3.0)(X, LEVEL, Cond(LABEL)).x0
    told, untold = WORLD.expectation(X, LEVEL, LABEL), WORLD.expectation(X, LEVEL)
    torch.testing.assert_close(twice, untold + 6.0 * (told - untold), rtol=1e-12, atol=1e-12)


def test_guidance_passes_gradients_through() -> None:
    x = X.clone().requires_grad_()
    ClassifierFree(WORLD.denoiser(PROCESS), 2.0)(x, LEVEL, Cond(LABEL)).x0.sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().min()) > 0.0


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_unlabelled_samples_are_left_alone(scale: float) -> None:
    guided = ClassifierFree(WORLD.denoiser(PROCESS), scale)(X, LEVEL, Cond(torch.full((6,), -1))).x0
    torch.testing.assert_close(guided, WORLD.expectation(X, LEVEL), rtol=1e-12, atol=1e-13)
