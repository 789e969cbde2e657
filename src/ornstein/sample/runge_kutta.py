# SPDX-License-Identifier: Apache-2.0
"""Runge-Kutta rules for the probability-flow ODE, in the variable of one's choice.

The same ODE reads differently in different variables, and so does the error of a rule:

| variable | u | y | dy/du |
|---|---|---|---|
| `InTime` | t | x | alpha' x_0 + sigma' eps, the schedule's own velocity |
| `InSigma` | sigma/alpha | x/alpha | eps (Song et al. 2021, arXiv 2010.02502, eq. 14; Karras et al. 2022, arXiv 2206.00364) |
| `InLogSnr` | log(alpha/sigma) | x/alpha | x_0 - y |

A rule is a Butcher tableau; the stages' levels between the nodes come from the schedule.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import Noise
from ornstein.process.level import Level
from ornstein.process.schedule import Schedule
from ornstein.sample.protocol import Advance, Bound, Solver


class Variable(ABC):
    """The variable u in which a rule takes its steps, and the state y that goes with it."""

    @abstractmethod
    def place(self, level: Level) -> float:
        """u of a level."""

    @abstractmethod
    def level(self, schedule: Schedule, u: float) -> Level:
        """The level at u."""

    @abstractmethod
    def slope(self, x: Tensor, x0: Tensor, level: Level) -> Tensor:
        """dy/du at x."""

    def enter(self, x: Tensor, level: Level) -> Tensor:
        """y of x."""
        return x / level.alpha

    def leave(self, y: Tensor, level: Level) -> Tensor:
        """x of y."""
        return y * level.alpha


class InTime(Variable):
    """The schedule's own time."""

    def place(self, level: Level) -> float:
        """t."""
        return float(level.t)

    def level(self, schedule: Schedule, u: float) -> Level:
        """The level at time u."""
        return schedule.at(u)

    def slope(self, x: Tensor, x0: Tensor, level: Level) -> Tensor:
        """alpha' x_0 + sigma' (x - alpha x_0)/sigma."""
        share = level.sigma_rate / level.sigma
        return share * x + (level.alpha_rate - share * level.alpha) * x0

    def enter(self, x: Tensor, level: Level) -> Tensor:
        """x itself."""
        return x

    def leave(self, y: Tensor, level: Level) -> Tensor:
        """y itself."""
        return y


class InSigma(Variable):
    """The noise-to-signal ratio."""

    def place(self, level: Level) -> float:
        """sigma/alpha."""
        return float(level.noise_to_signal)

    def level(self, schedule: Schedule, u: float) -> Level:
        """The level with sigma/alpha = u."""
        return schedule.at_log_snr(-2.0 * math.log(u))

    def slope(self, x: Tensor, x0: Tensor, level: Level) -> Tensor:
        """eps = (x - alpha x_0)/sigma."""
        return x * (1.0 / level.sigma) - x0 * (level.alpha / level.sigma)


class InLogSnr(Variable):
    """Half the log-SNR."""

    def place(self, level: Level) -> float:
        """log(alpha/sigma)."""
        return float(level.half_log_snr)

    def level(self, schedule: Schedule, u: float) -> Level:
        """The level with log(alpha/sigma) = u."""
        return schedule.at_log_snr(2.0 * u)

    def slope(self, x: Tensor, x0: Tensor, level: Level) -> Tensor:
        """x_0 - x/alpha."""
        return x0 - x / level.alpha


class Tableau(NamedTuple):
    """An explicit Runge-Kutta rule: stage times c in [0, 1], stage weights a, final weights b, order."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int


EULER = Tableau((0.0,), ((),), (1.0,), 1)
HEUN = Tableau((0.0, 1.0), ((), (1.0,)), (0.5, 0.5), 2)
MIDPOINT = Tableau((0.0, 0.5), ((), (0.5,)), (0.0, 1.0), 2)
RK4 = Tableau((0.0, 0.5, 0.5, 1.0), ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), 4)


class RungeKutta(Solver):
    """An explicit Runge-Kutta rule in a variable.

    Args:
        tableau: the rule.
        variable: where it takes its steps.
    """

    def __init__(self, tableau: Tableau, variable: Variable) -> None:
        self.tableau, self.variable = tableau, variable
        self.order, self.stages = tableau.order, len(tableau.c)

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: None, noise: Noise) -> Advance:
        """One move; see `Solver.step`."""
        t, s = plan[:2]
        start, end = self.variable.place(t), self.variable.place(s)
        y, slopes = self.variable.enter(x, t), list[Tensor]()
        for c, weights in zip(self.tableau.c, self.tableau.a, strict=True):
            level = self._stage(model.process.schedule, c, t, s)
            here = self.variable.leave(combine(y, end - start, weights, slopes), level) if slopes else x
            estimate: Gaussian = model(here, level, s)
            slopes.append(self.variable.slope(here, estimate.x0, level))
        moved = self.variable.leave(combine(y, end - start, self.tableau.b, slopes), s)
        return Advance(moved, s, 1, None, estimate, self.stages)

    def _stage(self, schedule: Schedule, c: float, t: Level, s: Level) -> Level:
        if c in (0.0, 1.0):
            return s if c else t
        start, end = self.variable.place(t), self.variable.place(s)
        return self.variable.level(schedule, start + c * (end - start))


def combine(y: Tensor, step: float, weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    """y + step times the weighted sum of slopes."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            y = y.add(slope, alpha=step * weight)
    return y


VARIABLES: dict[str, type[Variable]] = {"time": InTime, "sigma": InSigma, "log-snr": InLogSnr}


def euler(variable: str = "time") -> RungeKutta:
    """Euler's rule; `variable` is "time" (the flow-matching sampler), "sigma" (equal to DDIM) or "log-snr"."""
    return RungeKutta(EULER, VARIABLES[variable]())


def heun(variable: str = "sigma") -> RungeKutta:
    """Heun's second-order rule; "sigma" is the EDM sampler (Karras et al. 2022, arXiv 2206.00364, algorithm 1)."""
    return RungeKutta(HEUN, VARIABLES[variable]())


def midpoint(variable: str = "sigma") -> RungeKutta:
    """The second-order rule of the middle slope."""
    return RungeKutta(MIDPOINT, VARIABLES[variable]())


def rk4(variable: str = "sigma") -> RungeKutta:
    """The classical fourth-order rule."""
    return RungeKutta(RK4, VARIABLES[variable]())
