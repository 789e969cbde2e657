# SPDX-License-Identifier: Apache-2.0
"""A small student comes close to the exact probability flow in one or two DDIM moves, where its teacher is far off."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.exact.mixture import GaussianMixture
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser, Model
from ornstein.model.prediction import Edm
from ornstein.model.telling import OneTime, Telling, TwoTimes
from ornstein.network.mlp import MLP
from ornstein.objective.distill.consistency import Consistency
from ornstein.objective.distill.continuous import ContinuousConsistency
from ornstein.objective.distill.drift import Drift, FromData, FromTeacher
from ornstein.objective.distill.mean_flow import MeanFlow
from ornstein.objective.distill.progressive import Progressive
from ornstein.objective.distill.reflow import Pairs, Reflow
from ornstein.objective.distill.spans import Anywhere, Clean, Grid, Halving
from ornstein.objective.record import Batch, Objective
from ornstein.objective.times import Stratified
from ornstein.objective.weighting import EdmWeight
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import EDM
from ornstein.sample.convergence import flow, rms
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.plans import uniform
from ornstein.sample.solvers import DDIM

SCHEDULE, STD = EDM(20.0), 0.75
PROCESS = GaussianProcess(SCHEDULE)
WORLD = GaussianMixture(
    [0.6, 0.4], torch.tensor([[-0.6, 0.3], [0.7, -0.4]]), torch.tensor([[[0.20, 0.08], [0.08, 0.15]], [[0.12, -0.05], [-0.05, 0.20]]])
)
TEACHER = WORLD.denoiser(PROCESS)
ROWS = 128
LAST = SCHEDULE.at_log_snr(12.0)  # from here on the flow moves by less than 1e-3


def noise(n: int, purpose: str) -> Tensor:
    return Keys.for_draws(7, 0, n, purpose).normal((2,)).double()


def exact(z: Tensor) -> Tensor:
    first = SCHEDULE.at(SCHEDULE.noisiest)
    return flow(TEACHER, z * first.sigma, first, LAST, 64)


def error(model: Denoiser, moves: int) -> float:
    """Root mean square of the endpoint against the exact flow, over the data's standard deviation."""
    z = noise(256, "test")
    [last] = deque(sample(model, DDIM(), uniform(SCHEDULE, moves), z * PLAN_SIGMA, SampleNoise(range(len(z)))), maxlen=1)
    return rms(last.x - exact(z)) / STD


PLAN_SIGMA = float(SCHEDULE.at(SCHEDULE.noisiest).sigma)


def trained(objective: Objective, telling: Telling, steps: int) -> Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MLP(2, 64, 2, features=telling.features, time_scale=4.0)
    model = Model(network, PROCESS, Edm(STD), telling=telling)
    optimiser, state = torch.optim.Adam(network.parameters(), lr=4e-3), objective.init()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 4e-3 * (1.0 - step / steps)
        keys = Keys.for_draws(1, step * ROWS, ROWS)
        batch = Batch(WORLD.sample(keys.of("data")).x0.float(), Cond())
        record, state = objective(model, batch, keys, step / steps, state)
        optimiser.zero_grad(set_to_none=True)
        record.losses["model"].backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
    network.eval().double()
    return model


def pairs() -> Pairs:
    z = noise(4000, "pairs")
    return Pairs(z.float(), exact(z).float(), Cond())


TIMES, WEIGHT = Stratified(SCHEDULE, ROWS, 0.01), EdmWeight(STD)
TAUGHT: Drift = FromTeacher(TEACHER)
CASES: dict[str, tuple[Callable[[], Objective], Telling, dict[int, float]]] = {
    "consistency-distillation": (lambda: Consistency(TIMES, WEIGHT, TAUGHT, Grid(12), Clean(), 0.9), OneTime(True), {1: 0.15}),
    "consistency-map": (lambda: Consistency(TIMES, WEIGHT, TAUGHT, Grid(12), Anywhere(), 0.9), TwoTimes(), {1: 0.15, 2: 0.12, 4: 0.1}),
    "consistency-training": (lambda: Consistency(TIMES, WEIGHT, FromData(), Halving(6), Clean()), OneTime(True), {1: 0.3}),
    "continuous": (lambda: ContinuousConsistency(TIMES, WEIGHT, TAUGHT, Clean()), OneTime(True), {1: 0.15}),
    "mean-flow": (lambda: MeanFlow(TIMES, WEIGHT, FromData(), Anywhere()), TwoTimes(), {1: 0.4}),
    "mean-flow-distillation": (lambda: MeanFlow(TIMES, WEIGHT, TAUGHT, Anywhere(), 0.0), TwoTimes(), {1: 0.15, 2: 0.12, 4: 0.1}),
    "progressive": (lambda: Progressive(WEIGHT, TEACHER, 8, 2, 0.9), OneTime(), {2: 0.15}),
    "reflow": (lambda: Reflow(TIMES, WEIGHT, pairs()), OneTime(), {1: 0.15, 2: 0.15}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_student_lands_near_the_exact_flow(name: str) -> None:
    make, telling, bounds = CASES[name]
    model = trained(make(), telling, 1500)
    for moves, bound in bounds.items():
        assert error(model, moves) < min(bound, 0.5 * error(TEACHER, moves))
