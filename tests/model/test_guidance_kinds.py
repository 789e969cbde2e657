# SPDX-License-Identifier: Apache-2.0
"""Rescaled, negative, auto- and composed guidance on worlds where every answer is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import GaussianMixture, scattered
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.model.guidance import Autoguided, ClassifierFree, Composed, Unconditioned
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import Cosine

WORLD, PROCESS = scattered(3, 6, seed=1), GaussianProcess(Cosine())
EXACT = WORLD.denoiser(PROCESS)
X = Keys.for_draws(0, 0, 6).normal((6,), torch.float64)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])
LEVEL = PROCESS.schedule.at(0.6)
TOLD, UNTOLD = WORLD.expectation(X, LEVEL, LABEL), WORLD.expectation(X, LEVEL)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


class Counted(Denoiser):
    """A denoiser, with a record of the batches it was asked; says a spread of 0, 1, 2, ... by row."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.process, self.batches = inner, inner.process, list[int]()

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        self.batches.append(len(x))
        return self.inner(x, level, cond, towards)._replace(spread=torch.arange(len(x))[:, None] / 100.0)


# -- rescale ---------------------------------------------------------------------------------------------------------------


def test_rescale_puts_the_spread_of_the_conditional_answer_back() -> None:
    wide = ClassifierFree(EXACT, 4.0)(X, LEVEL, Cond(LABEL)).x0
    whole = ClassifierFree(EXACT, 4.0, rescale=1.0)(X, LEVEL, Cond(LABEL)).x0
    assert float((wide.std(1) / TOLD.std(1) - 1.0).abs().min()) > 0.01
    close(whole.std(1), TOLD.std(1))
    close(whole / whole.norm(dim=1, keepdim=True), wide / wide.norm(dim=1, keepdim=True))
    for phi in (0.3, 0.7):
        part = ClassifierFree(EXACT, 4.0, rescale=phi)(X, LEVEL, Cond(LABEL)).x0
        close(part, (1.0 - phi) * wide + phi * whole)


def test_rescale_leaves_images_and_constant_answers_well_defined() -> None:
    flat = GaussianMixture([1.0, 1.0], torch.tensor([[0.0] * 4, [1.0] * 4]), 0.1 * torch.eye(4).expand(2, 4, 4)).denoiser(PROCESS)
    x = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    guided = ClassifierFree(flat, 3.0, rescale=1.0)(x, LEVEL, Cond(torch.tensor([0, 1]))).x0
    assert guided.shape == x.shape
    assert bool(guided.isfinite().all())


def test_rescale_changes_nothing_outside_the_interval() -> None:
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.3], dtype=torch.float64)
    level = PROCESS.schedule.at(t)
    guided = ClassifierFree(EXACT, 3.0, (0.2, 0.6), rescale=0.7)(X, level, Cond(LABEL)).x0
    told = WORLD.expectation(X, level, LABEL)
    outside = (t < 0.2) | (t > 0.6)
    close(guided[outside], told[outside])
    assert float((guided - told)[~outside].abs().amax(1).min()) > 1e-3


# -- negative conditions ---------------------------------------------------------------------------------------------------


def test_a_negative_condition_takes_the_place_of_none() -> None:
    guided = ClassifierFree(EXACT, 2.5, negative=Cond(torch.tensor([2])))(X, LEVEL, Cond(LABEL)).x0
    away = WORLD.expectation(X, LEVEL, torch.full((6,), 2))
    close(guided, away + 2.5 * (TOLD - away))


def test_a_negative_condition_is_a_composition() -> None:
    """away + w (told - away) = untold + w (told - untold) - (w - 1)(away - untold)."""
    one = Cond(torch.tensor([0]))
    negative = ClassifierFree(EXACT, 2.5, negative=Cond(torch.tensor([2])))(X, LEVEL, one.repeat(6)).x0
    close(negative, Composed(EXACT, [(one, 2.5), (Cond(torch.tensor([2])), -1.5)])(X, LEVEL).x0)


# -- autoguidance ----------------------------------------------------------------------------------------------------------


def test_autoguidance_with_itself_is_the_identity() -> None:
    for scale in (0.0, 0.5, 2.0, 7.0):
        close(Autoguided(EXACT, EXACT, scale)(X, LEVEL, Cond(LABEL)).x0, TOLD)


def test_autoguidance_goes_on_from_the_worse_model_through_the_better() -> None:
    """With the unconditional model as the worse one it is classifier-free guidance."""
    worse = Unconditioned(EXACT)
    for scale in (0.0, 1.0, 3.0):
        free = ClassifierFree(EXACT, scale, (0.2, 0.9), rescale=0.4)(X, LEVEL, Cond(LABEL)).x0
        close(Autoguided(EXACT, worse, scale, (0.2, 0.9), rescale=0.4)(X, LEVEL, Cond(LABEL)).x0, free)


def test_autoguidance_undoes_a_known_fault() -> None:
    """Where the worse model errs twice as far in the same direction, scale 2 is the exact answer (2406.02507, section 3)."""

    class Off(Denoiser):
        def __init__(self, by: float) -> None:
            self.by, self.process = by, PROCESS

        def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
            return Gaussian(EXACT(x, level, cond).x0 + self.by * x.sin())

    close(Autoguided(Off(0.1), Off(0.2), 2.0)(X, LEVEL, Cond(LABEL)).x0, TOLD)


def test_the_worse_model_is_asked_only_where_guidance_acts() -> None:
    good, bad = Counted(EXACT), Counted(EXACT)
    guided = Autoguided(good, bad, 3.0, (0.2, 0.6))
    for t in (0.1, 0.4, 0.8):
        guided(X, PROCESS.schedule.at(t), Cond(LABEL))
    assert (good.batches, bad.batches) == ([6, 6, 6], [6])
    Autoguided(good, bad, 1.0)(X, LEVEL, Cond(LABEL))
    assert len(bad.batches) == 1


# -- composition -----------------------------------------------------------------------------------------------------------


def test_one_condition_composed_is_classifier_free_guidance() -> None:
    for scale in (0.0, 1.0, 2.5):
        composed = Composed(EXACT, [(Cond(torch.tensor([1])), scale)])(X, LEVEL).x0
        close(composed, ClassifierFree(EXACT, scale)(X, LEVEL, Cond(torch.ones(6, dtype=torch.int64))).x0)


class Product(Denoiser):
    """Two independent coordinates, each a mixture of two; labels 0, 1 name a component of the first, 2, 3 one of the second."""

    sides = (
        GaussianMixture([0.3, 0.7], torch.tensor([[-1.0], [0.8]]), torch.tensor([[[0.1]], [[0.3]]])),
        GaussianMixture([0.6, 0.4], torch.tensor([[0.5], [-0.9]]), torch.tensor([[[0.2]], [[0.05]]])),
    )
    process = PROCESS

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        label = torch.full((len(x),), -1) if cond is None or cond.label is None else cond.label
        return Gaussian(self.exact(x, level, torch.where(label < 2, label, -1), torch.where(label >= 2, label - 2, -1)))

    def exact(self, x: Tensor, level: Level, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([self.sides[0].expectation(x[:, :1], level, first), self.sides[1].expectation(x[:, 1:], level, second)], 1)


def test_independent_conditions_compose_to_the_exact_conditional() -> None:
    world, x = Product(), X[:, :2]
    for first, second in ((0, 0), (0, 1), (1, 1)):
        both = Composed(world, [(Cond(torch.tensor([first])), 1.0), (Cond(torch.tensor([2 + second])), 1.0)])
        exact = world.exact(x, LEVEL, torch.full((6,), first), torch.full((6,), second))
        close(both(x, LEVEL).x0, exact)
        assert float((exact - world(x, LEVEL).x0).abs().max()) > 0.1


def test_a_composition_is_one_call_and_keeps_its_batch() -> None:
    counted = Counted(EXACT)
    composed = Composed(counted, [(Cond(torch.tensor([k])), 1.0) for k in range(3)])(X, LEVEL)
    assert counted.batches == [24]
    assert composed.x0.shape == X.shape
    with pytest.raises(UsageError, match="no conditions"):
        Composed(EXACT, [])


def test_levels_per_sample_are_composed_per_sample() -> None:
    t = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.3], dtype=torch.float64)
    composed = Composed(EXACT, [(Cond(torch.tensor([0])), 1.5), (Cond(torch.tensor([2])), -0.5)])
    level = PROCESS.schedule.at(t)
    together = composed(X, level, towards=level).x0
    for i in range(len(X)):
        close(together[i : i + 1], composed(X[i : i + 1], PROCESS.schedule.at(float(t[i]))).x0)


def test_the_variance_of_a_move_is_the_conditional_answers() -> None:
    for guided in (ClassifierFree(Counted(EXACT), 2.0), Autoguided(Counted(EXACT), EXACT, 2.0)):
        spread = guided(X, LEVEL, Cond(LABEL)).spread
        assert isinstance(spread, Tensor)
        assert spread[:, 0].tolist() == pytest.approx([0.0, 0.01, 0.02, 0.03, 0.04, 0.05])
