# SPDX-License-Identifier: Apache-2.0
r"""Posterior sampling: a denoiser that also knows a measurement y = A x_0 + std n of the clean data.

The exact answer adds the score of p(y | x_t) to the prior's. With x^ = E[x_0 | x_t], V = Cov[x_0 | x_t] and Tweedie's
second formula V = (sigma^2/alpha) d x^/d x_t it reads, if p(x_0 | x_t) were normal,

    E[x_0 | x_t, y] = x^ + V A^T (A V A^T + std^2 I)^-1 (y - A x^),

which holds exactly for a Gaussian world. What is not known is V:

- `PseudoinverseGuided` (Song et al. 2023, "Pseudoinverse-guided diffusion models for inverse problems", ICLR) keeps the outer V
  as the derivative of the network and takes r^2 I for the inner one, with r^2 = s^2 sigma^2/(alpha^2 s^2 + sigma^2), the
  posterior variance of round data of standard deviation s. It is exact for round Gaussian worlds and any A.
- `PosteriorSampled` (Chung et al. 2023, arXiv 2209.14687, algorithm 1) walks down the gradient of |y - A x^| by a fixed
  length per move. It needs no solving with A A^T, and many small moves.

Both differentiate the denoiser in x_t; a call stays one evaluation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.model.operators import Operator
from ornstein.process.estimate import Gaussian
from ornstein.process.level import CLEAN, Level, over


class PseudoinverseGuided(Denoiser):
    """Pseudo-inverse guidance towards a measurement.

    Args:
        denoiser: the prior, guided or not; differentiable in x_t.
        operator: A.
        measurement: y of one sample, without batch; all samples share it.
        std: standard deviation of the measurement's noise, >= 0.
        data_std: standard deviation of the data, > 0.

    Levels are of floats. Where alpha = 0 the answer is the prior's: x_t holds nothing to differentiate.
    """

    def __init__(self, denoiser: Denoiser, operator: Operator, measurement: Tensor, std: float = 0.0, data_std: float = 1.0) -> None:
        self.denoiser, self.operator, self.measurement = denoiser, operator, measurement
        self.std, self.data_std, self.process = std, data_std, denoiser.process

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Guided estimate; see `Denoiser`."""
        if level.is_noise:
            prior: Gaussian = self.denoiser(x, level, cond, towards)
            return prior
        alpha, sigma = float(level.alpha), float(level.sigma)
        variance = (self.data_std * sigma) ** 2 / ((alpha * self.data_std) ** 2 + sigma**2)

        def agreement(x0: Tensor) -> Tensor:
            """<x_0, u>, whose gradient is (d x^/d x_t)^T u, for the pull u = A^T (r^2 A A^T + std^2 I)^-1 (y - A x^)."""
            with torch.no_grad():
                residual = self.measurement.to(x0) - self.operator(x0)
                pull = self.operator.adjoint(self.operator.solve(residual, variance, self.std**2))
            return (x0 * pull).sum()

        estimate, gradient = _differentiated(self.denoiser, x, level, cond, towards, agreement)
        return estimate._replace(x0=estimate.x0 + (sigma**2 / alpha) * gradient)


class PosteriorSampled(Denoiser):
    """Diffusion posterior sampling: every move ends `length` further down the gradient of |y - A x^| in x_t.

    The answer is shifted so that a DDPM move to `towards` lands there, as in the paper; other rules of one evaluation per
    move take a slightly different length.

    Args:
        denoiser: the prior, guided or not; differentiable in x_t.
        operator: A.
        measurement: y of one sample, without batch; all samples share it.
        length: the paper's zeta', >= 0.

    Raises:
        UsageError: when called without a cleaner level to move towards, as by rules with several evaluations per move.
    """

    def __init__(self, denoiser: Denoiser, operator: Operator, measurement: Tensor, length: float = 1.0) -> None:
        self.denoiser, self.operator, self.measurement = denoiser, operator, measurement
        self.length, self.process = length, denoiser.process

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Guided estimate; see `Denoiser`."""

        def misfit(x0: Tensor) -> Tensor:
            residual = (self.measurement.to(x0) - self.operator(x0)).flatten(1)
            total: Tensor = torch.linalg.vector_norm(residual, dim=1).sum()
            return total

        share = _share(level, CLEAN if towards is None else towards)
        estimate, gradient = _differentiated(self.denoiser, x, level, cond, towards, misfit)
        return estimate._replace(x0=estimate.x0 - over(self.length / share, x) * gradient)


def _share(t: Level, s: Level) -> float:
    """Coefficient of x_0 in the mean of a DDPM move from t to s: alpha_s (1 - SNR_t/SNR_s)."""
    kept = 1.0 - float(t.alpha * s.sigma / (s.alpha * t.sigma)) ** 2 if float(s.alpha) > 0.0 else 0.0
    if kept <= 0.0:
        what = "Diffusion posterior sampling was asked at a level that is no noisier than where the move goes."
        raise UsageError(what, "Use a solver of one evaluation per move (ddpm, ddim or dpm++2m).")
    return float(s.alpha) * kept


def _differentiated(
    denoiser: Denoiser, x: Tensor, level: Level, cond: Cond | None, towards: Level | None, of: Callable[[Tensor], Tensor]
) -> tuple[Gaussian, Tensor]:
    """The estimate at x, and the gradient in x of a number made of its x_0."""
    with torch.enable_grad():
        place = x.detach().requires_grad_()
        estimate: Gaussian = denoiser(place, level, cond, towards)
        (gradient,) = torch.autograd.grad(of(estimate.x0), place)
    spread = estimate.spread
    return Gaussian(estimate.x0.detach(), spread.detach() if isinstance(spread, Tensor) else spread), gradient
