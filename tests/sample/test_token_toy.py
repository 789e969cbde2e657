# SPDX-License-Identifier: Apache-2.0
"""Masked tokens go through the same loop: another dtype, another estimate, another reverse law, no change to the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from solver_cases import fast_noise
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.gaussian import Noise
from ornstein.process.level import CLEAN, Level, over
from ornstein.process.schedule import Flow, Schedule
from ornstein.sample import plans
from ornstein.sample.draw import Sampler
from ornstein.sample.loop import sample
from ornstein.sample.protocol import Advance, Bound, Renoise, Solver
from ornstein.sample.solvers import Ancestral

LETTERS, LENGTH = 3, 3
MASK = LETTERS
JOINT = torch.softmax(2.0 * Keys.for_draws(0, 0, 1, "joint").normal((LETTERS,) * LENGTH, torch.float64).flatten(), 0)
WORDS = torch.cartesian_prod(*[torch.arange(LETTERS)] * LENGTH)


class Categorical(NamedTuple):
    """Log-probabilities of every clean letter, `(batch, length, letters)`."""

    log_probs: Tensor


class TokenLaw(NamedTuple):
    """Independent letters, the mask among them."""

    probs: Tensor

    def draw(self, noise: Noise) -> Tensor:
        u = noise.uniform(self.probs[..., 0])
        return (self.probs.cumsum(-1) < u[..., None]).sum(-1).clamp_max(MASK)


class MaskProcess:
    """A letter survives to t with probability alpha(t), else it is the mask (2406.07524)."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def draw(self, shape: Sequence[int], keys: Keys) -> Tensor:
        return keys.uniform(shape)

    def corrupt(self, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
        return torch.where(noise < over(level.alpha, noise), x0, MASK)

    def renoise(self, x: Tensor, s: Level, t: Level, noise: Noise) -> Tensor:
        return torch.where(noise.uniform(x) < t.alpha / s.alpha, x, MASK)

    def prior(self, shape: Sequence[int], keys: Keys) -> Tensor:
        return torch.full((len(keys), *shape), MASK)

    def reverse_law(self, estimate: Categorical, x: Tensor, t: Level, s: Level, eta: float = 1.0) -> TokenLaw:
        stay = (1.0 - s.alpha) / (1.0 - t.alpha)
        told = estimate.log_probs.exp()
        hidden = torch.cat([told * (1.0 - stay), torch.full_like(told[..., :1], stay)], -1)
        return TokenLaw(torch.where((x == MASK)[..., None], hidden, torch.nn.functional.one_hot(x, MASK + 1).double()))


class ExactTokens(Denoiser):
    """The conditional law of every letter given the visible ones, from the joint table."""

    def __init__(self) -> None:
        self.process: Any = MaskProcess(Flow())

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Any:
        fits = ((x[:, None] == WORDS) | (x[:, None] == MASK)).all(-1)
        weight = fits * JOINT
        probs = torch.einsum("bw,wlk->blk", weight, torch.nn.functional.one_hot(WORDS, LETTERS).double())
        return Categorical((probs / weight.sum(1)[:, None, None]).clamp_min(1e-300).log())


class OneByOne(Solver):
    """Unmasks one letter per step, at random; levels are per sample, and a node is passed only when all are done."""

    order, stochastic, ends = 1, True, frozenset({"noise", "clean"})

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: None, noise: Noise) -> Advance:
        estimate: Categorical = model(x, plan[0], plan[1])
        order = noise.uniform(x, 0).masked_fill(x != MASK, -1.0)
        site = torch.nn.functional.one_hot(order.argmax(1), LENGTH).bool() & (x == MASK)
        drawn = TokenLaw(estimate.log_probs.exp()).draw(_Stage(noise, 1)).clamp_max(LETTERS - 1)
        x = torch.where(site, drawn, x)
        left = (x == MASK).double().mean(1)
        done = not bool(left.any())
        return Advance(x, plan[1] if done else Level(left, 1.0 - left, left), int(done), None, estimate, 1)


class _Stage:
    """The same noise, at another stage."""

    def __init__(self, noise: Noise, stage: int) -> None:
        self.noise, self.stage = noise, stage

    def normal(self, like: Tensor, stage: int = 0) -> Tensor:
        return self.noise.normal(like, self.stage)

    def uniform(self, like: Tensor, stage: int = 0) -> Tensor:
        return self.noise.uniform(like, self.stage)


def _distance(x: Tensor) -> float:
    """Total variation between the law of the samples and the joint table."""
    index = (x * torch.tensor([LETTERS**2, LETTERS, 1])).sum(1)
    return 0.5 * float((torch.bincount(index, minlength=LETTERS**LENGTH) / len(x) - JOINT).abs().sum())


@pytest.mark.parametrize(("solver", "moves", "evaluations"), [(Ancestral(), 60, 60), (OneByOne(), 1, 3)], ids=["ancestral", "one by one"])
def test_tokens_reach_their_joint_law(solver: Solver, moves: int, evaluations: int) -> None:
    n, model = 4000, ExactTokens()
    prior = model.process.prior((LENGTH,), Keys.for_draws(0, 0, n))
    *_, last = sample(model, solver, plans.uniform(Flow(), moves), prior, fast_noise(n, 3))
    assert last.x.dtype == torch.int64
    assert last.at == CLEAN
    assert last.evaluations == evaluations
    assert bool((last.x < MASK).all())
    # Expected distance of n independent draws, plus a little.
    assert _distance(last.x) < 1.5 * float((JOINT * (1.0 - JOINT) / n).sqrt().sum()) * 0.4 + 0.02


def test_one_big_ancestral_move_forgets_the_dependence() -> None:
    """The test above can fail: unmasking all letters at once draws them independently."""
    n, model = 4000, ExactTokens()
    prior = model.process.prior((LENGTH,), Keys.for_draws(0, 0, n))
    *_, last = sample(model, Ancestral(), plans.uniform(Flow(), 1), prior, fast_noise(n, 3))
    assert _distance(last.x) > 0.1


def test_visible_tokens_stay_and_renoising_masks_again() -> None:
    n, model, schedule = 400, ExactTokens(), Flow()
    x = torch.full((n, LENGTH), MASK)
    x[:, 0] = 1
    plan = (schedule.at(0.9), schedule.at(0.2), Renoise(schedule.at(0.6)), CLEAN)
    steps = list(sample(model, Ancestral(), plan, x, fast_noise(n, 5)))
    assert bool((steps[0].x[:, 0] == 1).all())
    more = [float((step.x == MASK).double().mean()) for step in steps]
    assert more[0] < more[1]
    assert more[2] == 0.0


def test_the_sampler_draws_tokens_by_seed() -> None:
    sampler = Sampler(ExactTokens(), Ancestral(), plans.uniform(Flow(), 8), (LENGTH,), lambda seeds: None, micro_batch=8)
    whole = torch.cat(list(sampler.draw(range(20))))
    assert whole.shape == (20, LENGTH)
    assert torch.cat(list(sampler.draw([13]))).equal(whole[13:14])
