# SPDX-License-Identifier: Apache-2.0
"""Figures of many subsets of one comparison, as `intervals.Part`s: what can be worked out once for all subsets, is.

Each agrees with the function of the same name on the kept items, to rounding; the sliced distance takes `SLICES` directions.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ornstein.evaluate.distances import Kernel, directions, frechet, quantile_cuts
from ornstein.evaluate.intervals import Part
from ornstein.evaluate.scores import class_score

SLICES = 32
_FAR = 8  # neighbours kept of each point, in multiples of k: half of them leaving, fewer than k stay once in a hundred million

Points = Float[Tensor, "n d"]
Others = Float[Tensor, "m d"]


def frechet_part(name: str, x: Points, y: Others) -> Part:
    """`frechet`."""

    def part(kept_x: Tensor, kept_y: Tensor) -> dict[str, Tensor]:
        pairs = ((x[i], y[j]) for i, j in zip(kept_x, kept_y, strict=True))
        return {name: torch.tensor([frechet(*pair) for pair in pairs], dtype=torch.float64)}

    return part


def kernel_part(name: str, x: Points, y: Others, kernel: Kernel) -> Part:
    """`kernel_distance`, the value alone."""
    xx, yy, xy = kernel(x, x).fill_diagonal_(0), kernel(y, y).fill_diagonal_(0), kernel(x, y)

    def part(kept_x: Tensor, kept_y: Tensor) -> dict[str, Tensor]:
        u, v = kept_x.double(), kept_y.double()
        n, m = u[0].sum(), v[0].sum()
        within = ((u @ xx) * u).sum(1) / (n * (n - 1)) + ((v @ yy) * v).sum(1) / (m * (m - 1))
        return {name: within - 2 * ((u @ xy) * v).sum(1) / (n * m)}

    return part


def coverage_part(x: Points, y: Others, k: int) -> Part:
    """`coverage` of generated x and real y."""
    near_x, near_y, table = _Near(x, k), _Near(y, k), _apart(y, x)

    def part(kept_x: Tensor, kept_y: Tensor) -> dict[str, Tensor]:
        radii_x, radii_y = near_x.radii(kept_x), near_y.radii(kept_y)
        rows = []
        for i, j, own_x, own_y in zip(kept_x, kept_y, radii_x, radii_y, strict=True):
            apart = table[j][:, i]
            inside = apart <= own_y[j, None]
            around = inside.sum(0).double()
            recalled = (apart <= own_x[i]).any(1).double()
            rows.append([(around > 0).double().mean(), recalled.mean(), around.mean() / k, inside.any(1).double().mean()])
        return dict(zip(("precision", "recall", "density", "coverage"), torch.tensor(rows, dtype=torch.float64).T, strict=True))

    return part


def _apart(x: Points, y: Others) -> Tensor:
    return torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist")


class _Near:
    """The nearest others of each point, in order; the radius of a subset is the k-th of those kept."""

    def __init__(self, points: Points, k: int) -> None:
        table = _apart(points, points).fill_diagonal_(torch.inf)
        self.k = k
        self.distance, self.index = table.topk(min(_FAR * k, len(points) - 1), largest=False)

    def radii(self, kept: Bool[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Radii of every point within each subset."""
        place = (kept[:, self.index].cumsum(2, dtype=torch.int16) < self.k).sum(2).clamp_max(self.index.shape[1] - 1)
        return self.distance.expand(len(kept), -1, -1).gather(2, place[..., None])[..., 0]


def sliced_part(name: str, x: Points, y: Others) -> Part:
    """`sliced_wasserstein`."""
    slices = directions(x.shape[1], SLICES)[:, :SLICES]
    (low_x, order_x), (low_y, order_y) = ((points @ slices).T.sort(1) for points in (x, y))

    def part(kept_x: Tensor, kept_y: Tensor) -> dict[str, Tensor]:
        left_x, left_y, widths = quantile_cuts(int(kept_x[0].sum()), int(kept_y[0].sum()))
        values = []
        for i, j in zip(kept_x, kept_y, strict=True):
            gaps = _picked(low_x, i[order_x])[:, left_x] - _picked(low_y, j[order_y])[:, left_y]
            values.append(math.sqrt(float((gaps.square() @ widths).mean())))
        return {name: torch.tensor(values, dtype=torch.float64)}

    return part


def _picked(values: Float[Tensor, "k n"], mask: Bool[Tensor, "k n"]) -> Float[Tensor, "k m"]:
    return values[mask].view(len(values), -1)


def mean_part(name: str, values: Float[Tensor, " n"]) -> Part:
    """The mean of a number per generated item."""

    def part(kept_x: Tensor, kept_y: Tensor) -> dict[str, Tensor]:
        return {name: values[_rows(kept_x)].mean(1)}

    return part


def median_part(name: str, values: Float[Tensor, " n"]) -> Part:
    """The median of a number per generated item."""

    def part(kept_x: Tensor, kept_y: Tensor) -> dict[str, Tensor]:
        return {name: values[_rows(kept_x)].quantile(0.5, dim=1)}

    return part


def _rows(kept: Bool[Tensor, "b n"]) -> Int[Tensor, "b m"]:
    return kept.nonzero()[:, 1].view(len(kept), -1)


def score_part(name: str, log_probabilities: Float[Tensor, "n classes"]) -> Part:
    """`class_score` of the generated items."""

    def part(kept_x: Tensor, kept_y: Tensor) -> dict[str, Tensor]:
        return {name: torch.tensor([class_score(log_probabilities[i]) for i in kept_x], dtype=torch.float64)}

    return part
