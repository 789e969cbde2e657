# SPDX-License-Identifier: Apache-2.0
"""One-step rules that follow the process's reverse law, and the second-order multistep rule of DPM-Solver++.

Write lambda = log(alpha/sigma), h = lambda_s - lambda_t. The exact solution of the probability-flow ODE is
    x_s = (sigma_s/sigma_t) x_t + sigma_s * integral of e^lambda x_0(lambda) d lambda   over [lambda_t, lambda_s]
(Lu et al. 2022, arXiv 2211.01095, eq. 8). Freezing x_0 gives DDIM; extrapolating it linearly from the last two
evaluations gives 2M. Runge-Kutta rules are in `runge_kutta`.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import Noise
from ornstein.process.level import Level
from ornstein.sample.protocol import Advance, Bound, Solver

_BOTH = frozenset({"noise", "clean"})


class Ancestral(Solver):
    """DDPM ancestral sampling (Ho et al. 2020, arXiv 2006.11239, algorithm 2): a draw from the reverse law per move.

    Args:
        spread: log-variance of each move as a fraction in [0, 1] between the posterior (0) and the forward variance (1)
            of the paper's section 3.2; None keeps what the denoiser says, or the posterior where it says nothing.
    """

    order, stochastic, ends = 1, True, _BOTH

    def __init__(self, spread: float | None = None) -> None:
        self.spread = spread

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: None, noise: Noise) -> Advance:
        """One draw; see `Solver.step`."""
        t, s = plan[:2]
        estimate: Gaussian = model(x, t, s)
        told = estimate if self.spread is None else estimate._replace(spread=self.spread)
        return Advance(model.process.reverse_law(told, x, t, s).draw(noise), s, 1, None, estimate, 1)


class DDIM(Solver):
    """DDIM (Song et al. 2021, arXiv 2010.02502, eq. 12).

    Args:
        eta: 0 is the deterministic rule (Euler in sigma/alpha), 1 is DDPM with the posterior variance.
    """

    order, ends = 1, _BOTH

    def __init__(self, eta: float = 0.0) -> None:
        self.eta, self.stochastic = eta, eta > 0.0

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: None, noise: Noise) -> Advance:
        """One move; see `Solver.step`."""
        t, s = plan[:2]
        estimate: Gaussian = model(x, t, s)
        return Advance(model.process.reverse_law(estimate, x, t, s, self.eta).draw(noise), s, 1, None, estimate, 1)


class Row(NamedTuple):
    """Coefficients of one linear multistep move: x_s = keep x_t + new x_0(now) + old x_0(before)."""

    keep: float
    new: float
    old: float


class DPMSolverMultistep(Solver):
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2); first order on its first move."""

    order = 2

    def init(self, plan: tuple[Level, ...]) -> _History:
        """All rows of the plan."""
        half_log_snr = [float(level.half_log_snr) for level in plan]
        steps = [after - before for before, after in pairwise(half_log_snr)]
        moves = zip(plan, plan[1:], steps, [math.inf, *steps], strict=False)
        return _History(tuple(_row(*move) for move in moves), 0, None)

    def step(self, model: Bound, x: Tensor, plan: tuple[Level, ...], state: _History, noise: Noise) -> Advance:
        """One move; see `Solver.step`."""
        t, s = plan[:2]
        estimate: Gaussian = model(x, t, s)
        row, x0 = state.rows[state.at], estimate.x0
        moved = (x * row.keep).add_(x0, alpha=row.new)
        if state.last is not None:
            moved.add_(state.last, alpha=row.old)
        return Advance(moved, s, 1, _History(state.rows, state.at + 1, x0), estimate, 1)


class _History(NamedTuple):
    rows: tuple[Row, ...]
    at: int
    last: Tensor | None


def _row(t: Level, s: Level, step: float, last: float) -> Row:
    """The 2M row of the move from t to s, a step of half log-SNR after the last one; an infinite last step gives DDIM."""
    weight, slope = -float(s.alpha) * math.expm1(-step), 0.5 * step / last
    return Row(float(s.sigma / t.sigma), weight * (1.0 + slope), -weight * slope)
