# SPDX-License-Identifier: Apache-2.0
r"""What a noise level tells of the data, and how a plan deals that out over its moves; in nats per dimension.

For Gaussian data of variances v_1..v_d along its axes and SNR r = alpha^2 / sigma^2,

    information  I(r) = mean_i 1/2 log(1 + v_i r)        what x_t says about x_0
    remaining    D(r) = mean_i v_i / (1 + v_i r)         the squared error of the best estimate of x_0

and dI/dr = D/2 (Guo, Shamai & Verdu 2005, arXiv cs/0412108, theorem 1). A sampler's move from r to s > r adds I(s) - I(r).
In the discrete bound it costs  KL = (s - r)/2 * D(r)  (Kingma et al. 2021, arXiv 2107.00630, eq. 14), which is the same integral
by its left end: never less than what it adds, and the surplus is what the size of the step wastes. It falls like 1/moves.

Real data are no Gaussian, but their covariance tells at which noise levels most of their variance is settled.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from ornstein.process.level import Level
from ornstein.sample.protocol import Plan


def information(log_snr: Float[Tensor, "*n"], variances: Float[Tensor, " d"]) -> Float[Tensor, "*n"]:
    """I at each log-SNR, float64; variances >= 0. Infinite at +inf, 0 at -inf."""
    return 0.5 * softplus(_joint(log_snr, variances)).mean(-1)


def remaining(log_snr: Float[Tensor, "*n"], variances: Float[Tensor, " d"]) -> Float[Tensor, "*n"]:
    """D at each log-SNR, float64."""
    return (variances.double() * torch.sigmoid(-_joint(log_snr, variances))).mean(-1)


def _joint(log_snr: Tensor, variances: Tensor) -> Tensor:
    """log(v_i r)."""
    return log_snr.double()[..., None] + variances.double().log()


class Dealt(NamedTuple):
    """What the moves of a plan add and cost, nats per dimension, float64 `(moves,)`.

    Args:
        t: time each move starts from.
        gained: information it adds.
        cost: its KL in the discrete bound, >= `gained`.
    """

    t: Tensor
    gained: Tensor
    cost: Tensor


def dealt(plan: Plan, variances: Float[Tensor, " d"]) -> Dealt:
    """The moves between noisy levels of floats; the last one, into clean data, would add infinitely much to data without grain."""
    levels = [node for node in plan if isinstance(node, Level) and not node.is_clean]
    log_snr = torch.tensor([-math.inf if level.is_noise else float(level.log_snr) for level in levels], dtype=torch.float64)
    known = information(log_snr, variances)
    cost = 0.5 * log_snr.exp().diff() * remaining(log_snr, variances)[:-1]
    return Dealt(torch.tensor([float(level.t) for level in levels[:-1]], dtype=torch.float64), known.diff(), cost)


def spectrum(x0: Tensor, most: int = 1024) -> Float[Tensor, " d"]:
    """Variances of data `(n, ...)` along their principal axes, float64, ascending; beyond `most` dimensions those of single coordinates."""
    points = x0.flatten(1).double()
    if points.shape[1] > most:
        return points.var(0).sort().values
    values: Tensor = torch.linalg.eigvalsh(torch.cov(points.T).reshape(points.shape[1], -1)).clamp_min(0.0)
    return values
