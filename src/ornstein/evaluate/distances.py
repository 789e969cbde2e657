# SPDX-License-Identifier: Apache-2.0
"""Distances between two sets of points or features, in float64.

Frechet distance of two Gaussians N(m, S) and N(m', S') (Dowson & Landau 1982; of image features: Heusel et al. 2017,
arXiv 1706.08500, eq. 6), without a square root taken at the end:

    d = |m - m'|^2 + tr S + tr S' - 2 tr (S^1/2 S' S^1/2)^1/2

The last trace is the sum of the singular values of S^1/2 S'^1/2. Read off there, it stays exact to rounding where a
covariance is singular, while eigenvalues of the product would pass their rounding errors through a square root. Any
factors with S = A^T A and S' = B^T B serve for the roots, as A B^T has the same singular values: Cholesky's where a covariance
is far from singular, and with fewer points than dimensions the centred points over sqrt(n - 1).

Kernel distance: the unbiased estimate of the squared maximum mean discrepancy (Gretton et al. 2012, lemma 6)

    sum_{i != j} k(x_i, x_j) / n(n-1) + sum_{i != j} k(y_i, y_j) / m(m-1) - 2 sum_ij k(x_i, y_j) / nm

With `cubic` it is the kernel distance of Binkowski et al. 2018 (arXiv 1801.01401); with `negative_distance` it is the
energy distance (Sejdinovic et al. 2013, arXiv 1207.6076). Being unbiased, it is 0 in the mean for equal laws and may
be negative.

Sliced Wasserstein distance (Rabin et al. 2012): the root mean square, over directions, of the 2-Wasserstein distance
of the projections, which in one dimension is the L2 distance of the quantile functions. The directions come as whole
orthonormal bases (Rowland et al. 2019, arXiv 1903.03784), so a shift by s has distance |s| / sqrt(dim) exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.base.keys import generator_of, permutation

ENTRIES = 1 << 22  # numbers of an n x m table held at once
_SOUND = 1e-6  # least ratio of the smallest to the largest pivot of a Cholesky factor that is used

Kernel = Callable[[Float[Tensor, "n d"], Float[Tensor, "m d"]], Float[Tensor, "n m"]]


@dataclass(frozen=True)
class Moments:
    """Count, mean `(d,)` and covariance `(d, d)` (divisor n - 1) of a feature set, in float64; shards merge exactly."""

    n: int
    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]

    @staticmethod
    def of(features: Float[Tensor, "n d"]) -> Moments:
        """Moments of at least two points."""
        x = features.double()
        if len(x) < 2:
            raise ValueError(f"A covariance needs at least 2 points, not {len(x)}.")
        mean = x.mean(0)
        centred = x - mean
        return Moments(len(x), mean, centred.T @ centred / (len(x) - 1))

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets together (Chan, Golub & LeVeque 1979)."""
        n, gap = self.n + other.n, other.mean - self.mean
        scatter = (self.n - 1) * self.covariance + (other.n - 1) * other.covariance + torch.outer(gap, gap) * (self.n * other.n / n)
        return Moments(n, self.mean + gap * (other.n / n), scatter / (n - 1))


def _root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """A with A A^T the covariance: Cholesky's, or else the symmetric root without a null space.

    In that, eigenvalues below rounding error of the largest count as 0, so that a null space stays null.
    """
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(covariance)
    scales = lower.diagonal()
    if not bool(failed) and bool(scales.min() > _SOUND * scales.max()):
        return lower
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    threshold = values[-1].clamp_min(0) * len(values) * torch.finfo(values.dtype).eps
    root: Tensor = (vectors * torch.where(values > threshold, values, 0).sqrt()) @ vectors.T
    return root


def frechet_of(a: Moments, b: Moments) -> float:
    """Frechet distance (squared, as is usual) of the Gaussians with these moments; >= 0 up to rounding."""
    cross = torch.linalg.svdvals(_root(a.covariance).T @ _root(b.covariance)).sum()
    return float((a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * cross)


def frechet(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> float:
    """Frechet distance of two feature sets of at least 2 points; biased upwards by about 1/n, so compare at equal n."""
    if min(len(x), len(y)) >= x.shape[1]:
        return frechet_of(Moments.of(x), Moments.of(y))
    (a, mean_a), (b, mean_b) = _factor(x.double()), _factor(y.double())
    return float((mean_a - mean_b).square().sum() + a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum())


def _factor(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " d"]]:
    """A with A^T A the covariance (divisor n - 1), and the mean."""
    if len(x) < 2:
        raise ValueError(f"A covariance needs at least 2 points, not {len(x)}.")
    mean = x.mean(0)
    return (x - mean) / math.sqrt(len(x) - 1), mean


def cubic(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """(x.y / dim + 1)^3; sees moments up to the third."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def negative_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """-|x - y|; sees every difference between two laws."""
    return -euclidean(x, y)


def euclidean(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """|x - y| from differences, not from products: 0 for equal points, and the same in any chunking."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def pieces(n: int, m: int) -> Iterator[slice]:
    """Slices of 0..n-1 so short that a table of their rows by m columns stays small."""
    rows = max(1, ENTRIES // m)
    return (slice(start, min(start + rows, n)) for start in range(0, n, rows))


class KernelDistance(NamedTuple):
    """An estimate of a squared maximum mean discrepancy and its standard error."""

    value: float
    error: float


def _means(x: Tensor, y: Tensor, kernel: Kernel, same: bool) -> Tensor:
    """For every x the mean of k(x, y) over y, without the pair of a point with itself where x and y are the same set."""
    rows = []
    for piece in pieces(len(x), len(y)):
        table = kernel(x[piece], y)
        if same:
            table.diagonal(piece.start).zero_()
        rows.append(table.sum(1))
    return torch.cat(rows) / (len(y) - same)


def kernel_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], kernel: Kernel = cubic) -> KernelDistance:
    """Unbiased squared maximum mean discrepancy of two sets of at least 2 points, over all pairs.

    The standard error comes from the spread of each point's own contribution (the first term of the Hoeffding
    decomposition); where the laws are equal that term vanishes and the error is overstated by about sqrt(2).
    """
    if min(len(x), len(y)) < 2:
        raise ValueError("A kernel distance needs at least 2 points on each side.")
    x, y = x.double(), y.double()
    xx, yy = _means(x, x, kernel, same=True), _means(y, y, kernel, same=True)
    xy, yx = _means(x, y, kernel, same=False), _means(y, x, kernel, same=False)
    value = xx.mean() + yy.mean() - xy.mean() - yx.mean()
    variance = 4 * ((xx - xy).var() / len(x) + (yy - yx).var() / len(y))
    return KernelDistance(float(value), math.sqrt(float(variance)))


def kernel_distance_of_subsets(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], subsets: Sequence[tuple[Tensor, Tensor]], kernel: Kernel = cubic
) -> KernelDistance:
    """Mean over subsets of the unbiased estimate, and their standard deviation (divisor: their number) in the place of an error.

    The scheme in which the kernel inception distance is usually published (Binkowski et al. 2018, section 4): 100 subsets of
    1,000 points of each set. It has the mean of `kernel_distance` and a larger variance.

    Args:
        x, y: the points.
        subsets: rows of x and rows of y of each; `subsets_of` draws them.
    """
    values = torch.tensor([kernel_distance(x[i], y[j], kernel).value for i, j in subsets], dtype=torch.float64)
    return KernelDistance(float(values.mean()), float(values.std(correction=0)))


def subsets_of(n: int, m: int, size: int = 1000, count: int = 100, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """`count` pairs of `size` rows out of n and out of m, none twice in a subset; a pure function of the arguments."""
    draw = [[permutation(rows, seed, "subset", side, i)[:size] for side, rows in enumerate((n, m))] for i in range(count)]
    return [(i, j) for i, j in draw]


def wasserstein_1d(x: Float[Tensor, "n k"], y: Float[Tensor, "m k"]) -> Float[Tensor, " k"]:
    """Squared 2-Wasserstein distance of each column of x and y: exact for equal and for unequal n and m."""
    left_x, left_y, widths = quantile_cuts(len(x), len(y))
    gaps = x.double().sort(0).values[left_x] - y.double().sort(0).values[left_y]
    return torch.mv(gaps.square().T, widths)


def quantile_cuts(n: int, m: int) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Places in n and in m sorted numbers, and widths, of the pieces on which both quantile functions are constant.

    They change at {i/n} and {j/m}; the cuts are counted in units of 1/(nm), so that no rounding moves one.
    """
    cuts = torch.unique(torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]))
    left = cuts[:-1]
    return left // m, left // n, cuts.diff().double() / (n * m)


def directions(dim: int, count: int, seed: int = 0) -> Float[Tensor, "dim k"]:
    """At least `count` unit directions in `dim` dimensions: whole random orthonormal bases, a pure function of the arguments."""
    generator = generator_of(seed, "slices", dim)
    bases = [torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=generator)).Q for _ in range(-(-count // dim))]
    return torch.cat(bases, dim=1)


def sliced_wasserstein(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], count: int = 256, seed: int = 0) -> float:
    """Sliced 2-Wasserstein distance over at least `count` directions fixed by `seed`, in the unit of the coordinates."""
    slices = directions(x.shape[1], count, seed)
    return math.sqrt(float(wasserstein_1d(x.double() @ slices, y.double() @ slices).mean()))
