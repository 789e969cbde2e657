# SPDX-License-Identifier: Apache-2.0
"""One seed gives one sample, bit for bit, whatever else is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from solver_cases import SOLVERS
from torch import Tensor, nn

from ornstein.base.keys import generator_of
from ornstein.exact.mixture import smooth
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.guidance import ClassifierFree
from ornstein.model.prediction import V
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import Cosine
from ornstein.sample import plans
from ornstein.sample.draw import Sampler
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Solver


class Mixer(nn.Module):
    """Matrix products over the batch: the sums whose order depends on its size."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.randn(48, 96, generator=generator_of("inner")) / 7.0)
        self.outer = nn.Parameter(torch.randn(96, 48, generator=generator_of("outer")) / 10.0)

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        assert cond.label is not None
        hidden = torch.tanh(x.flatten(1) @ self.inner + features + 0.1 * cond.label[:, None])
        return (hidden @ self.outer).reshape(x.shape)


def _sampler(solver: Solver, micro_batch: int = 8) -> Sampler:
    model = ClassifierFree(Model(Mixer(), GaussianProcess(Cosine()), V()), 2.0)

    def condition(seeds: Sequence[int]) -> Cond:
        return Cond(torch.tensor([seed % 10 for seed in seeds]))

    return Sampler(model, solver, plans.uniform(Cosine(), 5), (3, 4, 4), condition, micro_batch)


PINNED = {"ddpm": -1.9470648, "ddim": 4.9508101, "euler": 5.5606740, "heun": 5.7426164, "dpm++2m": 5.4473809}


def _draw(sampler: Sampler, seeds: Sequence[int]) -> Tensor:
    return torch.cat(list(sampler.draw(seeds)))


@pytest.mark.parametrize("name", SOLVERS)
def test_a_seed_gives_the_same_bits_in_any_company(name: str) -> None:
    sampler = _sampler(SOLVERS[name])
    hundred = _draw(sampler, range(100))
    assert hundred.shape == (100, 3, 4, 4)
    for seeds in ([3], [0, 1, 2, 3], range(5, 30), [99, 0, 50], [7, 7, 8], range(40, 41)):
        assert _draw(sampler, seeds).equal(hundred[list(seeds)])
    assert len(hundred.flatten(1).unique(dim=0)) == 100


def test_seed_s_plus_3_alone_is_the_fourth_of_four_from_s() -> None:
    sampler, start = _sampler(SOLVERS["dpm++2m"]), 1_000_003
    assert _draw(sampler, [start + 3])[0].equal(_draw(sampler, range(start, start + 4))[3])


@pytest.mark.parametrize(("name", "total"), PINNED.items())
def test_sums_of_samples_are_pinned_across_versions(name: str, total: float) -> None:
    """A change here makes the pictures of stored seeds others than they were."""
    process = GaussianProcess(Cosine())
    sampler = Sampler(smooth().denoiser(process), SOLVERS[name], plans.uniform(Cosine(), 6), (2,), lambda seeds: None, 8)
    assert float(_draw(sampler, range(8)).double().sum()) == pytest.approx(total, abs=1e-5)


def test_one_yield_per_micro_batch() -> None:
    sampler = _sampler(SOLVERS["ddim"])
    assert [len(part) for part in sampler.draw(range(6, 20))] == [2, 8, 4]
    assert list(sampler.draw([])) == []


def test_draws_are_the_loop_with_the_prior_and_condition_of_the_seeds() -> None:
    sampler = _sampler(SOLVERS["ddpm"])
    noise = SampleNoise(range(8, 16))
    x = sampler.model.process.prior((3, 4, 4), noise.prior_keys())
    *_, last = sample(sampler.model, sampler.solver, sampler.plan, x, noise, Cond(torch.tensor([8, 9, 0, 1, 2, 3, 4, 5])))
    assert _draw(sampler, range(8, 16)).equal(last.x)
    steps = list(sampler.steps(range(8, 16)))
    assert [step.i for step in steps] == [0, 1, 2, 3, 4]
    assert steps[-1].x.equal(last.x)


def test_samples_can_go_unconditioned() -> None:
    model = Model(_Plain(), GaussianProcess(Cosine()), V())
    sampler = Sampler(model, SOLVERS["ddim"], plans.uniform(Cosine(), 3), (2,), lambda seeds: None, 4)
    assert _draw(sampler, [1, 2]).shape == (2, 2)


class _Plain(nn.Module):
    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        assert cond == Cond()
        return -x
