# SPDX-License-Identifier: Apache-2.0
"""What the tests of this room share: every registered part, and noise that makes Monte-Carlo error vanish."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ornstein.base.registry import build, entry, load, names
from ornstein.exact.mixture import GaussianMixture
from ornstein.process.gaussian import Noise
from ornstein.process.level import Level
from ornstein.process.schedule import Schedule
from ornstein.run.recipe_parts import model_of
from ornstein.sample.exponential import deis
from ornstein.sample.noise import MoveNoise, SampleNoise, Stretch
from ornstein.sample.protocol import Plan, Solver
from ornstein.sample.runge_kutta import euler, heun, midpoint
from ornstein.sample.solvers import DDIM, Ancestral


def _detour(name: str, schedule: Schedule, moves: int, **values: Any) -> Plan:
    plan: Plan = build("plan", model_of("plan", name).model_validate(values), schedule=schedule, moves=moves)
    return plan


SCHEDULES: dict[str, Schedule] = {name: load(entry("schedule", name))() for name in names("schedule")}
PLANS = {name: load(entry("plan", name)) for name in names("plan") if not entry("plan", name).parts}
"""Grids: (schedule, moves, values of their own) -> levels from the noisiest to clean."""
DETOURS = {name: partial(_detour, name) for name in names("plan") if entry("plan", name).parts}
"""Plans around a plan, with `Renoise` nodes: likewise."""
SOLVERS: dict[str, Solver] = {name: load(entry("solver", name))() for name in names("solver")}
STOCHASTIC: dict[str, Solver] = {name: solver for name, solver in SOLVERS.items() if solver.stochastic}
STOCHASTIC |= {"ddpm, forward variance": Ancestral(spread=1.0), "ddim, eta 0.5": DDIM(0.5), "ddim, eta 1": DDIM(1.0)}

DETERMINISTIC: dict[str, Solver] = {name: solver for name, solver in SOLVERS.items() if not solver.stochastic}
DETERMINISTIC |= {"euler in sigma": euler("sigma"), "euler in log-snr": euler("log-snr")}
DETERMINISTIC |= {"heun in time": heun("time"), "heun in log-snr": heun("log-snr")}
DETERMINISTIC |= {"midpoint in time": midpoint("time"), "deis in sigma": deis(2, "sigma")}
SEARCHING = ("midpoint", "rk4", "dopri5", "dpm-solver", "dpm++s")
"""Those whose inner stages ask a schedule for a level by its log-SNR."""
STEPPED = {name: solver for name, solver in DETERMINISTIC.items() if not solver.adaptive}
"""Those that make one move per node."""

TILTED = GaussianMixture([1.0], torch.tensor([[0.5, -0.3]]), torch.tensor([[[0.30, 0.10], [0.10, 0.20]]]))
"""One Gaussian: every sampler is linear on it, so the moments of its samples are those of the numbers fed in."""


def hadamard(size: int) -> Tensor:
    """Orthogonal columns of +-1, `(size, size)` for a power of two; all but the first have mean 0, variance 1 and no correlation."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


class PerMove(SampleNoise):
    """Noise keyed by the move alone."""

    def stretch(self, number: int, levels: tuple[Level, ...]) -> Stretch:
        class Moves(Stretch):
            def move(self, i: int, t: Level, s: Level) -> Noise:
                return self._noise.move(i)

        return Moves(self, number, levels)


class ExactNoise(PerMove):
    """Noise whose sample moments are exactly those of independent standard normals: prior and moves share no column."""

    def __init__(self, size: int) -> None:
        super().__init__(range(size))
        self.columns = hadamard(size)

    def prior(self, dim: int) -> Tensor:
        """The noise that sampling starts from."""
        return self.columns[:, 1 : 1 + dim]

    def move(self, i: int) -> MoveNoise:
        """The columns of move i."""
        columns = self.columns

        class Columns(MoveNoise):
            def normal(self, like: Tensor, stage: int = 0) -> Tensor:
                dim = like.shape[1]
                start = 1 + dim * (i + 1)
                assert start + dim <= len(columns), "more moves than orthogonal columns"
                return columns[:, start : start + dim]

        return Columns(self.seeds, i)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance over the batch, without the correction for degrees of freedom."""
    mean = x.mean(0)
    return mean, (x - mean).T @ (x - mean) / len(x)


def fast_noise(size: int, seed: int) -> SampleNoise:
    """One generator per move instead of one per sample: for statistics over many samples."""

    class Stream(PerMove):
        def move(self, i: int) -> MoveNoise:
            class Shared(MoveNoise):
                def normal(self, like: Tensor, stage: int = 0) -> Tensor:
                    return torch.randn(like.shape, generator=self._generator(stage), dtype=like.dtype)

                def uniform(self, like: Tensor, stage: int = 0) -> Tensor:
                    return torch.rand(like.shape, generator=self._generator(stage), dtype=torch.float64)

                def _generator(self, stage: int) -> torch.Generator:
                    return torch.Generator().manual_seed((seed * 1000 + i) * 10 + stage)

            return Shared(self.seeds, i)

    return Stream(range(size))
