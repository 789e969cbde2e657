# SPDX-License-Identifier: Apache-2.0
r"""Dormand-Prince: a fifth-order Runge-Kutta rule that chooses its own steps.

Each trial step gives two answers, of orders 5 and 4; their difference estimates the error of the lower one. The step stands
where, for every sample of the batch, the root mean square over dimensions of

    difference / (tolerance (1 + |y|))

is at most 1; otherwise it is tried again, shorter. The next step is the last one times 0.9 error^(-1/5), between a fifth
and five times (Dormand & Prince 1980; Hairer, Norsett & Wanner, Solving Ordinary Differential Equations I, section II.4).
The last stage of a step is the first of the next, so a step costs 6 evaluations and the first one 7.

One step length serves the whole batch, that of its most difficult sample. `ornstein.sample.draw` computes a seed in the same
micro-batch whatever was asked for, so a seed still gives one result. Only the ends of a plan matter: its inner nodes are
passed over.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import Noise
from ornstein.process.level import Level
from ornstein.sample.protocol import Advance, Bound, Solver
from ornstein.sample.runge_kutta import VARIABLES, Tableau, combine

DORMAND_PRINCE = Tableau(
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    5,
)
DIFFERENCE = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Weights of the fifth-order answer minus those of the fourth-order one; the last stage is the slope at the end."""
_SHORTEST = 1e-9  # of the whole path: below it the slope is not a function that steps can follow


class Trial(NamedTuple):
    """Length of the next step in the variable, and the slope at its start where it is known."""

    step: float
    slope: Tensor | None
    estimate: Gaussian | None


class DormandPrince(Solver):
    """Dormand-Prince 5(4) with error control.

    Args:
        tolerance: error per step, absolute and relative, > 0.
        variable: where the rule takes its steps: "time", "sigma" or "log-snr".

    Raises UsageError from `step` where no step is short enough, as when the denoiser's answers are not finite.
    """

    order, stages, adaptive = 5, 6, True

    def __init__(self, tolerance: float = 1e-3, variable: str = "log-snr") -> None:
        self.tolerance, self.variable = tolerance, VARIABLES[variable]()

    def init(self, plan: tuple[Level, ...]) -> Trial:
        """A first step of a twentieth of the path."""
        return Trial((self.variable.place(plan[-1]) - self.variable.place(plan[0])) / 20.0, None, None)

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: Trial, noise: Noise) -> Advance:
        """One trial step towards the end of the plan; `passed` is all of its nodes at the end and 0 before."""
        variable, schedule, t, end = self.variable, model.process.schedule, plan[0], plan[-1]
        start, goal = variable.place(t), variable.place(end)
        step = state.step
        lands = abs(goal - start) <= abs(step) * (1.0 + 1e-9)
        step, s = (goal - start, end) if lands else (step, variable.level(schedule, start + step))
        y = variable.enter(x, t)
        estimate, evaluations = state.estimate, 6
        slopes = [] if state.slope is None else [state.slope]
        if estimate is None:
            estimate, evaluations = model(x, t, s), 7
            slopes = [variable.slope(x, estimate.x0, t)]
        for c, weights in zip(DORMAND_PRINCE.c[1:], DORMAND_PRINCE.a[1:], strict=True):
            level = s if c == 1.0 else variable.level(schedule, start + c * step)
            here = variable.leave(combine(y, step, weights, slopes), level)
            slopes.append(variable.slope(here, model(here, level, s).x0, level))
        better = combine(y, step, DORMAND_PRINCE.b, slopes)
        moved = variable.leave(better, s)
        after: Gaussian = model(moved, s, s)
        slopes.append(variable.slope(moved, after.x0, s))
        error = self._error(y, better, combine(torch.zeros_like(y), step, DIFFERENCE, slopes))
        following = step * min(5.0, max(0.2, 0.9 * error**-0.2)) if error > 0.0 else 5.0 * step
        if error <= 1.0:
            following = max(following, state.step, key=abs) if lands else following
            return Advance(moved, s, len(plan) - 1 if lands else 0, Trial(following, slopes[-1], after), after, evaluations)
        if not abs(step) > _SHORTEST * abs(goal):
            what = f"No step from t = {float(t.t):.4g} is short enough for a tolerance of {self.tolerance:g}."
            raise UsageError(what, "Check that the network's answers are finite, or choose a larger tolerance.")
        return Advance(x, t, 0, Trial(step * 0.2 if error != error else following, slopes[0], estimate), estimate, evaluations)

    def _error(self, y: Tensor, better: Tensor, difference: Tensor) -> float:
        """The largest scaled difference of any sample; NaN where one is not finite."""
        scaled = difference / (self.tolerance * (1.0 + torch.maximum(y.abs(), better.abs())))
        return float(scaled.flatten(1).square().mean(1).sqrt().amax())
