# SPDX-License-Identifier: Apache-2.0
"""What measures a source of samples: `ImageMeter` in features and pixels, `PointMeter` in raw coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ornstein.base.keys import seed_of
from ornstein.evaluate.baselines import SHRINKAGE, class_gaussians, noisy_copies
from ornstein.evaluate.coverage import coverage
from ornstein.evaluate.distances import (
    KernelDistance,
    Moments,
    cubic,
    frechet,
    frechet_of,
    kernel_distance,
    negative_distance,
    sliced_wasserstein,
)
from ornstein.evaluate.extractor import Extractor
from ornstein.evaluate.intervals import MOST, Part
from ornstein.evaluate.kinds import COPY, NEIGHBOURS
from ornstein.evaluate.memorisation import Memorisation, Originals
from ornstein.evaluate.metrics import Draws, Figures, Metric, Row, Samples
from ornstein.evaluate.replicates import coverage_part, frechet_part, kernel_part, mean_part, median_part, score_part, sliced_part
from ornstein.evaluate.scores import class_score

FLOOR = "real train"
NOISE = 0.05
CHECKED = 2000  # samples of each draw that are compared with every training image
_FEATURES = ("frechet", "kernel", "precision", "recall", "density", "coverage", "class_score", "accuracy")


@runtime_checkable
class Eye(Protocol):
    """A second extractor, whose figures stand under names of their own: `inception.Inception`."""

    @property
    def identity(self) -> str:
        """Name and hash."""

    def features(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
        """Features as float64."""

    def log_probabilities(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n classes"]:
        """Logarithms of class probabilities."""


class _Seen(NamedTuple):
    """What is worked out of one set of images, once: features, pixels, class scores, correct classes, checked for copies."""

    features: Tensor
    pixels: Tensor
    log_p: Tensor | None
    hits: Tensor | None
    ratios: Tensor
    others: Tensor | None


class ImageMeter:
    """Measures sources of images against the same real test images.

    Args:
        train, test: the real images, labelled both or neither.
        extractor: fitted to `train` only.
        draws: made for these sizes.
        other: a second extractor, for FID and its relatives.
    """

    def __init__(self, train: Samples, test: Samples, extractor: Extractor, draws: Draws, other: Eye | None = None) -> None:
        self.draws, self.extractor, self.train, self.other = draws, extractor, train, other
        self.reference = test.at(draws.reference())
        self._originals = Originals(extractor.inputs.pixels(train.images))
        self._real = self._see(self.reference)
        self._moments = Moments.of(self._real.features)
        grid, most = extractor.inputs.grid, f", the first {CHECKED} of each draw" if draws.n > CHECKED else ""
        self._eyes = dict.fromkeys(_FEATURES, extractor.identity) | {"sliced_wasserstein": f"pixel means {grid}x{grid}"}
        self._eyes |= dict.fromkeys(("nearest", "copies"), f"pixel means {grid}x{grid}{most}")
        if other is not None:
            self._eyes |= dict.fromkeys(("fid", "kid", "inception_score"), other.identity)

    def labels(self, draw: int) -> Int[Tensor, " n"] | None:
        """Classes that a conditional model should sample for this draw: those of its training images."""
        return self.train.at(self.draws.indices(draw)).labels

    def measure(self, name: str, note: str, sets: Sequence[Samples], worth: int | float | None = None) -> Row:
        """A row from one set of n samples per draw; a single set gives figures without a spread.

        `worth` says to how many independent draws the sets amount, where they are not independent.
        """
        self.draws.check([len(item.images) for item in sets])
        first = self._see(sets[0])
        figures = [{**self._distances(seen), **self._alone(seen)} for seen in (first, *map(self._see, sets[1:]))]
        parts = [*self._distance_parts(first), *self._alone_parts(first)]
        return self._row(name, note, self._metrics(figures, worth or len(sets), parts))

    def floor(self) -> Row:
        """What real data score: training images as samples, and test images for what they show by themselves."""
        sets = [self.train.at(self.draws.indices(draw)) for draw in range(self.draws.count)]
        first = self._see(sets[0])
        drawn = [self._distances(seen) for seen in (first, *map(self._see, sets[1:]))]
        note = "Training images in the place of samples; class accuracy and score, nearest distance and copies of the test images."
        distances = self._metrics(drawn, self.draws.shared, self._distance_parts(first))
        return self._row(FLOOR, note, distances | self._metrics([self._alone(self._real)], 1, self._alone_parts(self._real)))

    def baselines(self) -> list[Row]:
        """Rows of class-conditional Gaussians and of noisy copies of training images."""
        chosen = [self.train.at(self.draws.indices(draw)) for draw in range(self.draws.count)]
        seeds = [seed_of(self.draws.seed, "baseline", draw) for draw in range(self.draws.count)]
        gaussians = [Samples(self._gaussians(item, seed), item.labels) for item, seed in zip(chosen, seeds, strict=True)]
        copies = [Samples(noisy_copies(item.images, seed, NOISE), item.labels) for item, seed in zip(chosen, seeds, strict=True)]
        about = f"One Gaussian per class, full covariance of 8x8 pixel means, shrinkage {SHRINKAGE}."
        return [
            self.measure("class Gaussians", about, gaussians),
            self.measure("noisy copies", f"Training images with Gaussian noise of {NOISE} of the pixel range.", copies, self.draws.shared),
        ]

    def _gaussians(self, like: Samples, seed: int) -> Tensor:
        if self.train.labels is None or like.labels is None:
            one_class = torch.zeros(len(self.train.images), dtype=torch.int64)
            return class_gaussians(self.train.images, one_class, one_class[: len(like.images)], seed)
        return class_gaussians(self.train.images, self.train.labels, like.labels, seed)

    def copies(self, images: UInt8[Tensor, "n c h w"]) -> Memorisation:
        """The nearest-neighbour check of these images, with the pairs themselves."""
        return self._originals.check(self.extractor.inputs.pixels(images))

    def _see(self, item: Samples) -> _Seen:
        features, pixels = self.extractor.features(item.images), self.extractor.inputs.pixels(item.images)
        log_p = None if self.extractor.head is None else self.extractor.log_probabilities(features)
        hits = None if log_p is None or item.labels is None else (log_p.argmax(1) == item.labels).double()
        others = None if self.other is None else self.other.features(item.images)
        return _Seen(features, pixels, log_p, hits, self._originals.check(pixels[:CHECKED]).ratios, others)

    def _distances(self, seen: _Seen) -> Figures:
        """Figures against the reference."""
        real = self._real
        figures: dict[str, float | KernelDistance] = {
            "frechet": frechet_of(Moments.of(seen.features), self._moments),
            "kernel": kernel_distance(seen.features, real.features),
            **coverage(seen.features, real.features, NEIGHBOURS)._asdict(),
            "sliced_wasserstein": sliced_wasserstein(seen.pixels, real.pixels),
        }
        if seen.others is None or real.others is None:
            return figures
        return figures | {"fid": frechet(seen.others, real.others), "kid": kernel_distance(seen.others, real.others)}

    def _distance_parts(self, seen: _Seen) -> list[Part]:
        """The same of subsets."""
        x, y = (_cut(item) for item in (seen, self._real))
        parts = [
            frechet_part("frechet", x.features, y.features),
            kernel_part("kernel", x.features, y.features, cubic),
            coverage_part(x.features, y.features, NEIGHBOURS),
            sliced_part("sliced_wasserstein", x.pixels, y.pixels),
        ]
        if x.others is None or y.others is None:
            return parts
        return [*parts, frechet_part("fid", x.others, y.others), kernel_part("kid", x.others, y.others, cubic)]

    def _alone(self, seen: _Seen) -> Figures:
        """Figures that need no reference; those of classes only where images and extractor know any."""
        figures = {"nearest": float(seen.ratios.quantile(0.5)), "copies": float((seen.ratios < COPY).double().mean())}
        figures |= {} if seen.log_p is None else {"class_score": class_score(seen.log_p)}
        figures |= {} if seen.hits is None else {"accuracy": float(seen.hits.mean())}
        if self.other is None or seen.others is None:
            return figures
        return figures | {"inception_score": class_score(self.other.log_probabilities(seen.others))}

    def _alone_parts(self, seen: _Seen) -> list[Part]:
        """The same of subsets."""
        seen = _cut(seen)
        parts = [median_part("nearest", seen.ratios), mean_part("copies", (seen.ratios < COPY).double())]
        parts += [] if seen.log_p is None else [score_part("class_score", seen.log_p)]
        parts += [] if seen.hits is None else [mean_part("accuracy", seen.hits)]
        if self.other is None or seen.others is None:
            return parts
        return [*parts, score_part("inception_score", self.other.log_probabilities(seen.others))]

    def _metrics(self, figures: Sequence[Figures], worth: int | float, parts: Sequence[Part]) -> dict[str, Metric]:
        return self.draws.summarise(figures, self._eyes, self.draws.halves(worth).deviations(parts))

    def _row(self, name: str, note: str, metrics: dict[str, Metric]) -> Row:
        why = "these images have no class labels"
        missing = {key: self.draws.absent(key, self.extractor.identity, why) for key in ("class_score", "accuracy")}
        return Row(name, note, missing | metrics)


def _cut(seen: _Seen) -> _Seen:
    """The first items, from which replicates are taken."""
    return _Seen._make(None if value is None else value[:MOST] for value in seen)


class PointMeter:
    """Measures sources of points against the same held-out points, in raw coordinates.

    Args:
        train, test: real points.
        draws: made for these sizes.
    """

    def __init__(self, train: Float[Tensor, "n d"], test: Float[Tensor, "m d"], draws: Draws) -> None:
        self.draws, self.train, self.reference = draws, train, test[draws.reference()]

    def measure(self, name: str, note: str, sets: Sequence[Float[Tensor, "n d"]]) -> Row:
        """A row from one set of n points per draw; points that are not finite give figures without a value."""
        return self._row(name, note, sets, len(sets))

    def _row(self, name: str, note: str, sets: Sequence[Tensor], worth: int | float) -> Row:
        self.draws.check([len(item) for item in sets])
        figures = [self._distances(item) for item in sets]
        deviations = self.draws.halves(worth).deviations(self._parts(sets[0])) if sets[0].isfinite().all() else None
        return Row(name, note, self.draws.summarise(figures, dict.fromkeys(figures[0], "raw coordinates"), deviations))

    def floor(self) -> Row:
        """What real data score: training points as samples."""
        sets = [self.train[self.draws.indices(draw)] for draw in range(self.draws.count)]
        return self._row(FLOOR, "Training points in the place of samples.", sets, self.draws.shared)

    def _distances(self, points: Tensor) -> Figures:
        return {
            "sliced_wasserstein": sliced_wasserstein(points, self.reference),
            "energy": kernel_distance(points, self.reference, negative_distance),
            "kernel": kernel_distance(points, self.reference),
        }

    def _parts(self, points: Tensor) -> list[Part]:
        x, y = points[:MOST].double(), self.reference[:MOST].double()
        return [sliced_part("sliced_wasserstein", x, y), kernel_part("energy", x, y, negative_distance), kernel_part("kernel", x, y, cubic)]
