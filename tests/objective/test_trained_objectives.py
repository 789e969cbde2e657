# SPDX-License-Identifier: Apache-2.0
"""A small network taught by each objective comes close to the exact denoiser of a mixture (seconds each)."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from ornstein.base.keys import Keys, seed_of
from ornstein.exact.mixture import smooth
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.prediction import Edm, Prediction, Velocity
from ornstein.model.reading import Plain, WithSpread
from ornstein.network.mlp import MLP
from ornstein.objective.hybrid import Hybrid
from ornstein.objective.loss_aware import LossAware
from ornstein.objective.matching import Matching
from ornstein.objective.record import Batch, Objective
from ornstein.objective.sliced import SlicedScore
from ornstein.objective.times import Levels, Stratified
from ornstein.objective.weighting import P2, EdmWeight, Elbo, TruncatedSnr
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.learned import Learned
from ornstein.process.paths import Geometric, SubVP
from ornstein.process.schedule import Flow, LinearBeta, Schedule
from ornstein.process.wrapped import Shifted, Truncated

BATCH, STEPS, WORLD = 512, 600, smooth()
CUT = Truncated(LinearBeta(), -6.0, 6.0)
NCSN = Truncated(Geometric(0.05, 10.0), -6.0, 4.0)


class Lesson(NamedTuple):
    schedule: Schedule
    prediction: Prediction
    objective: Objective


LEARNED = Learned(CUT)
LESSONS = {
    "denoising score matching over levels": Lesson(NCSN, Edm(0.8), Matching(Levels(NCSN, 10), EdmWeight(0.8))),
    "sliced score matching over levels": Lesson(NCSN, Edm(0.8), SlicedScore(Levels(NCSN, 10), EdmWeight(0.8))),
    "loss-aware, elbo": Lesson(CUT, Edm(0.8), Matching(LossAware(CUT, BATCH, bins=16), Elbo())),
    "hybrid": Lesson(CUT, Edm(0.8), Hybrid(Stratified(CUT, BATCH), EdmWeight(0.8), steps=20, weight=0.05)),
    "p2 on a shifted flow": Lesson(Shifted(Flow()), Velocity(), Matching(Stratified(Flow(), BATCH), P2())),
    "truncated SNR on sub-VP": Lesson(SubVP(), Edm(0.8), Matching(Stratified(SubVP(), BATCH), TruncatedSnr())),
    "learned schedule": Lesson(LEARNED, Edm(0.8), Matching(Stratified(LEARNED, BATCH), Elbo())),
}


def taught(lesson: Lesson) -> Model:
    reading = WithSpread() if isinstance(lesson.objective, Hybrid) else Plain()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("taught"))
        network = MLP(width=64, depth=2, out=2 * reading.width)
    model = Model(network, GaussianProcess(lesson.schedule), lesson.prediction, reading=reading)
    optimiser, state = torch.optim.Adam(model.weights.parameters(), lr=4e-3), lesson.objective.init()
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * (1.0 - step / STEPS)
        keys = Keys.for_draws(0, step * BATCH, BATCH)
        record, state = lesson.objective(model, Batch(fast(keys), Cond()), keys, step / STEPS, state)
        optimiser.zero_grad()
        record.losses["model"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        state = lesson.objective.remember(state, record.t, record.per_example)
    network.eval().requires_grad_(False)
    return model


def fast(keys: Keys) -> Tensor:
    return WORLD.sample(keys.of("data")).x0.float()


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_a_small_network_comes_close_to_the_exact_denoiser(name: str) -> None:
    """Its mean squared distance to E[x_0 | x_t] is a few per cent of what no denoiser can take away plus that of the mean alone."""
    model = taught(LESSONS[name])
    keys = Keys.for_draws(1, 0, 2000)
    x0, noise = fast(keys), keys.of("noise").normal((2,))
    for log_snr in (-3.0, -1.0, 1.0, 3.0):
        level = model.process.schedule.at_log_snr(log_snr)
        x = model.process.corrupt(x0, noise, level)
        exact, found = WORLD.expectation(x, level), model(x, level)
        excess = float((found.x0 - exact).square().mean() / exact.var(0).mean())
        print(f"{name:40} log-SNR {log_snr:+.0f}  excess {excess:.4f}")  # noqa: T201
        assert excess < 0.08
        if found.spread is not None:
            assert isinstance(found.spread, Tensor)
            assert 0.0 < float(found.spread.mean()) < 1.2


@pytest.mark.slow
def test_learned_variance_brings_samples_of_few_steps_closer() -> None:
    """One Gaussian-like move per step: with the learnt spread the bound of a short walk is lower than at either end of the scale."""
    from ornstein.process.estimate import Gaussian
    from ornstein.process.steps import step_kl

    model = taught(LESSONS["hybrid"])
    keys = Keys.for_draws(2, 0, 4000)
    x0, noise = fast(keys), keys.of("noise").normal((2,))
    schedule = model.process.schedule
    for share in (0.3, 0.6, 0.9):
        t = schedule.at(share * schedule.noisiest)
        s = schedule.at((share - 1.0 / 20) * schedule.noisiest)
        x = model.process.corrupt(x0, noise, t)
        told = model(x, t)
        costs = [float(step_kl(model.process, x0, Gaussian(told.x0, spread), x, t, s).mean()) for spread in (told.spread, 0.0, 1.0)]
        assert costs[0] < min(costs[1:]) + 1e-4
