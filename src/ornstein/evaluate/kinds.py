# SPDX-License-Identifier: Apache-2.0
"""What each figure is, in words: read by everything that prints one, so it imports no torch."""

from __future__ import annotations

import math
from typing import NamedTuple

NEIGHBOURS = 5  # the k of precision, recall, density and coverage
COPY = 0.5  # a sample with a smaller distance ratio counts as a copy
LEVEL = 0.95  # of every interval
METHOD = f"{100 * LEVEL:.0f} % percentile intervals from half-sample replicates, for other samples and other test data of the same laws"


class Kind(NamedTuple):
    """One figure.

    Args:
        title: of its column.
        words: what it is.
        better: "lower", "higher", or "" for a figure that is not known.
        no_ratio: why a ratio to the floor says nothing, where that is so.
        whole: 100 for a share that is read in per cent, else 1.
        least, most: the range it cannot leave.
    """

    title: str
    words: str
    better: str
    no_ratio: str = ""
    whole: int = 1
    least: float = 0.0
    most: float = math.inf


def _unbiased(title: str, words: str) -> Kind:
    return Kind(title, words, "lower", "an unbiased distance is 0 in the mean at the floor", least=-math.inf)


def _share(title: str, words: str, better: str = "higher", no_ratio: str = "", whole: int = 1) -> Kind:
    return Kind(title, words, better, no_ratio, whole, most=1.0)


KINDS = {
    "frechet": Kind("Frechet", "Frechet distance of the features", "lower"),
    "kernel": _unbiased("kernel", "kernel distance (cubic)"),
    "energy": _unbiased("energy", "energy distance"),
    "sliced_wasserstein": Kind("sliced W", "sliced 2-Wasserstein distance", "lower"),
    "precision": _share("precision", f"precision ({NEIGHBOURS} neighbours)"),
    "recall": _share("recall", f"recall ({NEIGHBOURS} neighbours)"),
    "density": Kind("density", f"density ({NEIGHBOURS} neighbours)", "higher"),
    "coverage": _share("coverage", f"coverage ({NEIGHBOURS} neighbours)"),
    "class_score": Kind("class score", "class score (exp of the mean KL divergence of an image's class law from their mean)", "higher"),
    "accuracy": _share("accuracy", "class accuracy", whole=100),
    "nearest": Kind("nearest", "median distance to the nearest training image, over that image's own nearest distance", "higher"),
    "copies": _share("copies", f"share of the samples for which that ratio is below {COPY}", "lower", "it may be 0 at the floor", 100),
    "fid": Kind("FID", "Frechet inception distance", "lower"),
    "kid": _unbiased("KID", "kernel inception distance, over all pairs"),
    "inception_score": Kind("inception", "inception score, in one group", "higher"),
}


def kind_of(name: str) -> Kind:
    """The kind of a figure, a plain one for a name not known."""
    return KINDS.get(name, Kind(name.replace("_", " "), "", ""))
