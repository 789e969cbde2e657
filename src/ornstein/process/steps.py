# SPDX-License-Identifier: Apache-2.0
"""What one step of the reverse process costs: a term of the variational bound (Ho et al. 2020, arXiv 2006.11239, eq. 5)."""

from __future__ import annotations

from torch import Tensor

from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level


def step_kl(process: GaussianProcess, x0: Tensor, estimate: Gaussian, x: Tensor, t: Level, s: Level) -> Tensor:
    """KL( q(x_s | x_t, x_0) || p(x_s | x_t) ) in nats, summed over all but the first dimension: `(batch,)`.

    Args:
        process: gives both laws.
        x0: the clean data, `(batch, ...)`.
        estimate: the denoiser's answer at x_t; with a `spread`, the variance of p is its own.
        x: x_t.
        t: the level of x.
        s: the level of the step's end, cleaner than t and with sigma_s > 0: into clean data q is a point and needs a decoder.
    """
    return process.reverse_law(Gaussian(x0), x, t, s).kl(process.reverse_law(estimate, x, t, s))
