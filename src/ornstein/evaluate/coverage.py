# SPDX-License-Identifier: Apache-2.0
"""Fidelity and variety from balls around points: precision and recall, density and coverage.

Let r(u) be the distance of u to its k-th nearest other point of its own set. The ball of u has radius r(u), and its
edge belongs to it. With real points x_1..x_n and generated points y_1..y_m:

    precision  share of y inside the ball of any x    (Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1-2)
    recall     share of x inside the ball of any y    (same)
    density    number of balls of x around y, over k, mean over y    (Naeem et al. 2020, arXiv 2002.09797, eq. 3)
    coverage   share of x whose own ball holds any y                 (same, eq. 5)

Density may exceed 1. A far-out real point has a large ball, which flatters precision; density and coverage are robust
to it. All four depend on k, n and m: compare at equal ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.evaluate.distances import euclidean, pieces


class Coverage(NamedTuple):
    """The four figures: precision, recall and coverage in [0, 1], density >= 0."""

    precision: float
    recall: float
    density: float
    coverage: float


def radii(points: Float[Tensor, "n d"], k: int = 5) -> Float[Tensor, " n"]:
    """Distance of each point to its k-th nearest other point of the set (a twin counts, at distance 0). Needs n > k >= 1."""
    if not 1 <= k < len(points):
        raise ValueError(f"{len(points)} points have no {k}-th nearest other point.")
    points = points.double()
    found = []
    for piece in pieces(len(points), len(points)):
        table = euclidean(points[piece], points)
        table.diagonal(piece.start).fill_(torch.inf)
        found.append(table.kthvalue(k, dim=1).values)
    return torch.cat(found)


def coverage(generated: Float[Tensor, "m d"], real: Float[Tensor, "n d"], k: int = 5) -> Coverage:
    """All four figures, by the k nearest points of each set. Needs more than k points on each side."""
    generated, real = generated.double(), real.double()
    real_radii, generated_radii = radii(real, k), radii(generated, k)
    around = torch.zeros(len(generated), dtype=torch.int64)  # balls of real points around each generated one
    recalled, covered = [], []
    for piece in pieces(len(real), len(generated)):
        table = euclidean(real[piece], generated)
        inside = table <= real_radii[piece, None]
        around += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((table <= generated_radii).any(1))
    return Coverage(
        precision=_share(around > 0),
        recall=_share(torch.cat(recalled)),
        density=float(around.double().mean()) / k,
        coverage=_share(torch.cat(covered)),
    )


def _share(flags: Tensor) -> float:
    return float(flags.double().mean())
