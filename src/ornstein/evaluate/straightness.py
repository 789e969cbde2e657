# SPDX-License-Identifier: Apache-2.0
r"""How straight the paths of the probability flow are: what a solver of few steps has to put up with.

Every schedule runs through the same paths at its own pace and scale. They are compared in the coordinates of flow matching,

    u = sigma/(alpha + sigma) in [0, 1],        z = x_t/(alpha + sigma),

where the conditional paths of x_0 and eps are straight lines z = (1 - u) x_0 + u eps. Of a path with nodes z_0..z_n at u_0 > ... > u_n:

    stretch    sum |z_{i+1} - z_i| / |z_n - z_0|                    >= 1, and 1 for a straight line
    defect     mean over u of |dz/du - w|^2 / |w|^2                 w = (z_n - z_0)/(u_n - u_0); 0 for a straight line at even speed
    turning    angle between successive pieces, summed, in radians  0 for a straight line at any speed

The defect is the straightness of rectified flow (Liu et al. 2022, arXiv 2209.03003, section 2.2) over the squared length of the
chord, and what one Euler step over the whole path gets wrong. Polygons cut corners, so stretch and turning need enough nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.level import CLEAN, Level
from ornstein.process.schedule import Schedule
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Solver


class Straightness(NamedTuple):
    """Of each path: stretch, defect, turning `(batch,)`; and the angle turned at each inner node `(n - 1, batch)`."""

    stretch: Tensor
    defect: Tensor
    turning: Tensor
    angles: Tensor


def flow_levels(schedule: Schedule, moves: int) -> tuple[Level, ...]:
    """A plan of equal steps in u from the schedule's noisiest level to clean data."""
    first = schedule.at(schedule.noisiest)
    start = place(first)
    inner = torch.tensor([start * (1.0 - i / moves) for i in range(1, moves)], dtype=torch.float64)
    return (first, *schedule.at_log_snr(2.0 * ((1.0 - inner) / inner).log()).unbind(), CLEAN)


def place(level: Level) -> float:
    """u of a level of floats."""
    return float(level.sigma) / (float(level.alpha) + float(level.sigma))


def path(
    model: Denoiser, solver: Solver, plan: tuple[Level, ...], x: Tensor, noise: SampleNoise, cond: Cond | None = None
) -> Iterator[tuple[float, Tensor]]:
    """(u, z) at the plan's nodes, from x at the first on; z float64 on the CPU, `(batch, dim)`."""
    yield place(plan[0]), _scaled(x, plan[0])
    for step in sample(model, solver, plan, x, noise, cond):
        yield place(step.at), _scaled(step.x, step.at)


def _scaled(x: Tensor, level: Level) -> Tensor:
    return x.detach().flatten(1).double().cpu() / (float(level.alpha) + float(level.sigma))


def straightness(u: Float[Tensor, " nodes"], z: Float[Tensor, "nodes batch dim"]) -> Straightness:
    """Measures of paths with at least 3 nodes, u strictly falling."""
    moved, widths = z.diff(dim=0), u.diff()
    lengths = moved.norm(dim=2)
    chord = z[-1] - z[0]
    even = chord / (u[-1] - u[0])
    wrong = (moved / widths[:, None, None] - even).square().sum(2)
    defect = (wrong * widths.abs()[:, None]).sum(0) / widths.abs().sum() / even.square().sum(1)
    # The half-angle form keeps its digits where the angle is small, unlike an arc cosine.
    heading = moved / lengths[:, :, None]
    before, after = heading[:-1], heading[1:]
    angles = 2.0 * torch.atan2((after - before).norm(dim=2), (after + before).norm(dim=2))
    return Straightness(lengths.sum(0) / chord.norm(dim=1), defect, angles.sum(0), angles)


def gaussian_path(u: Float[Tensor, " nodes"], mean: Tensor, variances: Tensor, end: Float[Tensor, "batch dim"]) -> Tensor:
    """The exact path of data N(mean, diag variances) that is at `end` at u = 1, in closed form: `(nodes, batch, dim)`.

    In each coordinate x_t keeps its rank within the law of x_t, whose deviation at u is sqrt((1 - u)^2 v + u^2).
    """
    share = u[:, None, None]
    return (1.0 - share) * mean + ((1.0 - share) ** 2 * variances + share**2).sqrt() * end
