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

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.base.errors import DataError
from ornstein.evaluate.distances import pieces

_CANDIDATES = 4  # of each point, told apart in float64


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
        points = np.ascontiguousarray(train.double().numpy() + 0.0)  # makes -0.0 the 0.0 that it equals, so that bytes can be compared
        rows = points.view(np.dtype((np.void, points.itemsize * points.shape[1]))).ravel()
        _, first, copies = np.unique(rows, return_index=True, return_counts=True)
        order = np.argsort(first)
        self._first, self._copies = torch.from_numpy(first[order]), torch.from_numpy(copies[order])
        self._images = torch.from_numpy(points)[self._first]
        if len(self._images) < 2:
            raise DataError("The training images are all equal.", "Check the data: copies are told by comparing different images.")
        self._centre = self._images.mean(0)
        self._fast = (self._images - self._centre).float()
        self._half_norms = 0.5 * self._fast.square().sum(1)

    def check(self, samples: Float[Tensor, "m d"]) -> Memorisation:
        """Compare every sample with every training image, in the same coordinates."""
        samples = samples.double()
        nearest = self._nearest(samples)
        used, back = torch.unique(nearest, return_inverse=True)
        own = self._distance(self._images[used], self._nearest(self._images[used], used))
        return Memorisation(self._distance(samples, nearest) / own[back], self._first[nearest], int((self._copies[used] > 1).sum()))

    def _nearest(self, points: Tensor, but: Tensor | None = None) -> Tensor:
        """Index of the nearest training image of each point, other than `but` of it.

        Products in float32 find the candidates, about 1e-6 of the scale exact; float64 differences choose among them. A wrong
        answer takes more than four images that are equally near to that precision, and then changes the distance by as little.
        """
        centred, found = (points - self._centre).float(), []
        count = min(_CANDIDATES, len(self._images) - (but is not None))
        for piece in pieces(len(points), len(self._images)):
            table = torch.addmm(self._half_norms, centred[piece], self._fast.T, alpha=-1)
            if but is not None:
                table.scatter_(1, but[piece, None], torch.inf)
            near = table.topk(count, largest=False).indices.sort(1).values  # in order, so that the first of equals is named
            exact = (points[piece, None] - self._images[near]).square().sum(2)
            found.append(near.gather(1, exact.argmin(1, keepdim=True))[:, 0])
        return torch.cat(found)

    def _distance(self, points: Tensor, indices: Tensor) -> Tensor:
        """Exact distance of each point to the training image of the same place in `indices`."""
        gap: Tensor = points - self._images[indices]
        return gap.square().sum(1).sqrt()
