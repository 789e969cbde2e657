# SPDX-License-Identifier: Apache-2.0
"""Is a sample a copy? Its distance to the nearest training image, measured by that image's own distance to its nearest.

For a sample s with nearest training image t(s), and t's nearest training image u(t):

    ratio(s) = |s - t| / |t - u|

A copy has ratio 0; a fresh draw of the same law has a ratio around 1, as it lies about as far from the training set
as the training images lie from each other. Distances are Euclidean in whatever coordinates the caller gives, best the
pixels themselves: an extractor may merge what the eye tells apart.

Training images that are equal to one another count as one: u(t) is the nearest image *different* from t, so the ratio
is always finite, and how many have a twin is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.base.errors import DataError
from ornstein.evaluate.distances import ROWS, euclidean


@dataclass(frozen=True)
class Memorisation:
    """The check of m samples.

    Attributes:
        ratios: `(m,)`, each sample's distance ratio, >= 0.
        nearest: `(m,)`, index of the training image nearest to each sample (of equal ones the first).
        twins: how many of the training images named in `nearest` are equal to another training image.
    """

    ratios: Float[Tensor, " m"]
    nearest: Int[Tensor, " m"]
    twins: int

    @property
    def median(self) -> float:
        """Median ratio; far below 1 when the model repeats its training images."""
        return float(self.ratios.quantile(0.5))

    def share_below(self, ratio: float = 0.5) -> float:
        """Share of the samples that lie closer than `ratio`."""
        return float((self.ratios < ratio).double().mean())

    def closest(self, count: int) -> list[tuple[int, int, float]]:
        """(sample, training image, ratio) of the pairs with the smallest ratios, smallest first."""
        order = self.ratios.argsort(stable=True)[:count].tolist()
        return [(i, int(self.nearest[i]), float(self.ratios[i])) for i in order]


def memorisation(samples: Float[Tensor, "m d"], train: Float[Tensor, "n d"]) -> Memorisation:
    """Compare every sample with every training image.

    Raises DataError if the training images are all equal, since there is then no distance to measure by.
    """
    samples, train = samples.double(), train.double()
    distance, nearest = _nearest(samples, train, skip_equal=False)
    used, back = nearest.unique(return_inverse=True)
    own, _ = _nearest(train[used], train, skip_equal=True)
    ...
