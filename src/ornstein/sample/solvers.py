# SPDX-License-Identifier: Apache-2.0
"""One-step rules that follow the process's reverse law: DDPM and DDIM.

Multistep rules are in `multistep` and `exponential`, single-step exponential ones in `singlestep`, Runge-Kutta rules in
`runge_kutta` and `adaptive`.
"""

from __future__ import annotations

from torch import Tensor

from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import Noise
from ornstein.process.level import Level
from ornstein.sample.exponential import dpm_solver_2m
from ornstein.sample.protocol import Advance, Bound, Solver

_BOTH = frozenset({"noise", "clean"})

DPMSolverMultistep = dpm_solver_2m
"""The rule by the name of its paper."""


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
