# SPDX-License-Identifier: Apache-2.0
"""Is a sample a copy? Its distance to the nearest training image, measured by that image's own distance to its nearest.

For a sample s with nearest training image t(s), and t's nearest training image u(t):

    ratio(s) = |s - t| / |t - u|

A copy has ratio 0; a fresh draw of the same law has a ratio around 1, as it lies about as far from the training set
as the training images lie from each other. Distances are Euclidean in whatever coordinates the caller gives, best the
pixels themselves: an extractor may merge what the eye tells apart.

Training images that are equal to one another count as one: u(t) is the nearest image *different* from t, so the ratio
is always finite, and how many of the t have a twin is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.base.errors import DataError
from ornstein.evaluate.distances import pieces


@dataclass(frozen=True)
class Memorisation:
    """The check of m samples.

    Attributes:
        ratios: `(m,)`, each sample's distance ratio, >= 0.
        nearest: `(m,)`, index of the training image nearest to each sample (of equal ones the first).
        twins: how many different training images in `nearest` occur more than once in the training set.
    """

    ratios: Float[Tensor, " m"]
    nearest: Int[Tensor, " m"]
    twins: int

    @property
    def median(self) -> float:
        """Median ratio; far below 1 when the model repeats its training images."""
        return float(self.ratios.quantile(0.5))

    def share_below(self, ratio: float = 0.5) -> float:
        """Share of the samples with a smaller ratio."""
        return float((self.ratios < ratio).double().mean())

    def closest(self, count: int) -> list[tuple[int, int, float]]:
        """(sample, training image, ratio) of the pairs with the smallest ratios, smallest first."""
        order = self.ratios.argsort(stable=True)[:count].tolist()
        return [(i, int(self.nearest[i]), float(self.ratios[i])) for i in order]


class Originals:
    """The different images of a training set, ready to be compared with samples.

    Args:
        train: coordinates of the training images.

    Raises DataError if they are all equal, since there is then no distance to measure by.
    """

    def __init__(self, train: Float[Tensor, "n d"]) -> None:
        self._images, place, self._copies = torch.unique(train.double(), dim=0, return_inverse=True, return_counts=True)
        if len(self._images) < 2:
            raise DataError("The training images are all equal.", "Check the data: copies are told by comparing different images.")
        first = torch.full((len(self._images),), len(train))
        self._first = first.scatter_reduce(0, place, torch.arange(len(train)), "amin")

    def check(self, samples: Float[Tensor, "m d"]) -> Memorisation:
        """Compare every sample with every training image, in the same coordinates."""
        samples = samples.double()
        nearest = self._nearest(samples)
        used, back = torch.unique(nearest, return_inverse=True)
        own = self._distance(self._images[used], self._nearest(self._images[used], used))
        return Memorisation(self._distance(samples, nearest) / own[back], self._first[nearest], int((self._copies[used] > 1).sum()))

    def _nearest(self, points: Tensor, but: Tensor | None = None) -> Tensor:
        """Index of the nearest training image of each point, other than `but` of it. Matrix products find it, fast and to
        about 1e-8 of the scale, which can only decide between images that are equally near.
        """
        found = []
        for piece in pieces(len(points), len(self._images)):
            table = torch.cdist(points[piece], self._images, compute_mode="use_mm_for_euclid_dist")
            if but is not None:
                table.scatter_(1, but[piece, None], torch.inf)
            found.append(table.argmin(1))
        return torch.cat(found)

    def _distance(self, points: Tensor, indices: Tensor) -> Tensor:
        """Exact distance of each point to the training image of the same place in `indices`."""
        gap: Tensor = points - self._images[indices]
        return gap.square().sum(1).sqrt()
