# SPDX-License-Identifier: Apache-2.0
"""What a sampler is made of: a plan of nodes, and a solver whose state is a value.

A plan is a tuple of nodes. `plan[0]` is the level x is at; each further node is a `Level` to solve to, in either
direction, or `Renoise(level)`, which carries x back up with fresh noise (restart, churn, RePaint). A solver advances
along the plan and says how many nodes it has passed: 1 for an ordinary move, 0 for a rejected or partial adaptive
move, many for a parallel-in-time sweep. It keeps nothing in itself: `init` returns the first state, `step` the next,
so a trajectory can be paused, copied, replayed or joined by others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.estimate import Estimate
from ornstein.process.gaussian import GaussianProcess, Noise
from ornstein.process.level import Level


class Renoise(NamedTuple):
    """A node that is reached by adding fresh noise instead of solving.

    Args:
        level: the level to go to, noisier than the one before.
        scale: factor on the fresh noise's standard deviation; 1 keeps the marginal law.
    """

    level: Level
    scale: float = 1.0


Node: TypeAlias = Level | Renoise
Plan: TypeAlias = tuple[Node, ...]


class Advance(NamedTuple):
    """What one solver step did.

    Args:
        x: the new state, same shape as before.
        at: the level of x now.
        passed: how many nodes of the plan lie behind; 0 when x is still before `plan[1]`.
        state: the solver's state for the next step.
        estimate: the denoiser's last answer.
        evaluations: how many times the denoiser was called (a batched call of a whole window counts each of its nodes).
    """

    x: Tensor
    at: Level
    passed: int
    state: Any
    estimate: Estimate
    evaluations: int


class Step(NamedTuple):
    """One yield of `sample`.

    Args:
        i: number of the move, from 0.
        at: the level reached.
        x: the state there.
        estimate: the denoiser's last answer; None after a renoise.
        evaluations: denoiser calls so far.
    """

    i: int
    at: Level
    x: Tensor
    estimate: Estimate | None
    evaluations: int


class Bound:
    """A denoiser with its condition filled in: what a solver calls."""

    def __init__(self, denoiser: Denoiser, cond: Cond | None) -> None:
        self.denoiser, self.cond = denoiser, cond
        self.process: GaussianProcess = denoiser.process

    def __call__(self, x: Tensor, level: Level, towards: Level | None = None) -> Estimate:
        """The estimate at x."""
        return self.denoiser(x, level, self.cond, towards)


class Solver(ABC):
    """A rule for moving x along a plan.

    Class attributes:
        order: order of convergence of the rule (of its weak error where it is stochastic).
        stochastic: whether `step` draws noise.
        stages: denoiser calls of one ordinary move.
        adaptive: whether the rule chooses its own steps between the ends of a stretch and passes over its inner nodes.
        ends: the ends of the path, of "noise" (alpha = 0) and "clean" (sigma = 0), that the rule can handle itself;
            for the others the sampling loop makes the move by the process's reverse law.
    """

    order: int
    stochastic: bool = False
    stages: int = 1
    adaptive: bool = False
    ends: frozenset[str] = frozenset()

    def init(self, plan: tuple[Level, ...]) -> Any:
        """State for a run along `plan`, with every coefficient worked out once."""
        return None

    @abstractmethod
    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: Any, noise: Noise) -> Advance:
        """Advance x from `plan[0]` towards `plan[1]` or beyond.

        Args:
            model: the denoiser, with its condition bound.
            x: the state, `(batch, ...)`, at level `plan[0]`.
            plan: the nodes still ahead, at least two.
            state: what `init` or the last step returned.
            noise: the random numbers of this move.
        """
