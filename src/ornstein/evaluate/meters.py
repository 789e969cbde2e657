# SPDX-License-Identifier: Apache-2.0
"""What measures a source of samples: `ImageMeter` in features and pixels, `PointMeter` in raw coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ornstein.base.keys import seed_of
from ornstein.evaluate.baselines import SHRINKAGE, class_gaussians, noisy_copies
from ornstein.evaluate.coverage import coverage
from ornstein.evaluate.distances import Moments, frechet_of, kernel_distance, negative_distance, sliced_wasserstein
from ornstein.evaluate.extractor import Extractor, accuracy
from ornstein.evaluate.memorisation import Memorisation, Originals
from ornstein.evaluate.metrics import COPY, NEIGHBOURS, Draws, Figures, Metric, Row, Samples

FLOOR = "real train"
NOISE = 0.05


class ImageMeter:
    """Measures sources of images against the same real test images.

    Args:
        train, test: the real images, labelled both or neither.
        extractor: fitted to `train` only.
        draws: made for these sizes.
    """

    def __init__(self, train: Samples, test: Samples, extractor: Extractor, draws: Draws) -> None:
        self.draws, self.extractor, self.train, self.reference = draws, extractor, train, test.at(draws.reference())
        self._features = extractor.features(self.reference.images)
        self._moments = Moments.of(self._features)
        self._pixels = extractor.inputs.pixels(self.reference.images)
        self._originals = Originals(extractor.inputs.pixels(train.images))
        in_features = dict.fromkeys(("frechet", "kernel", "precision", "recall", "density", "coverage", "accuracy"), extractor.identity)
        grid = extractor.inputs.grid
        self._eyes = in_features | dict.fromkeys(("sliced_wasserstein", "nearest", "copies"), f"pixel means {grid}x{grid}")

    def labels(self, draw: int) -> Int[Tensor, " n"] | None:
        """Classes that a conditional model should sample for this draw: those of its training images."""
        return self.train.at(self.draws.indices(draw)).labels

    def measure(self, name: str, note: str, sets: Sequence[Samples]) -> Row:
        """A row from one set of n samples per draw; a single set gives figures without a spread."""
        self.draws.check([len(item.images) for item in sets])
        return self._row(name, note, self._summarise([{**self._distances(item), **self._alone(item)} for item in sets]))

    def floor(self) -> Row:
        """What real data score: training images as samples, and test images for accuracy, nearest distance and copies."""
        drawn = [self._distances(self.train.at(self.draws.indices(draw))) for draw in range(self.draws.count)]
        note = "Training images in the place of samples; class accuracy, nearest distance and copies of the test images."
        return self._row(FLOOR, note, self._summarise(drawn) | self._summarise([self._alone(self.reference)]))

    def baselines(self) -> list[Row]:
        """Rows of class-conditional Gaussians and of noisy copies of training images."""
        chosen = [self.train.at(self.draws.indices(draw)) for draw in range(self.draws.count)]
        seeds = [seed_of(self.draws.seed, "baseline", draw) for draw in range(self.draws.count)]
        gaussians = [Samples(self._gaussians(item, seed), item.labels) for item, seed in zip(chosen, seeds, strict=True)]
        copies = [Samples(noisy_copies(item.images, seed, NOISE), item.labels) for item, seed in zip(chosen, seeds, strict=True)]
        about = f"One Gaussian per class, full covariance of 8x8 pixel means, shrinkage {SHRINKAGE}."
        return [
            self.measure("class Gaussians", about, gaussians),
            self.measure("noisy copies", f"Training images with Gaussian noise of {NOISE} of the pixel range.", copies),
        ]

    def _gaussians(self, like: Samples, seed: int) -> Tensor:
        if self.train.labels is None or like.labels is None:
            one_class = torch.zeros(len(self.train.images), dtype=torch.int64)
            return class_gaussians(self.train.images, one_class, one_class[: len(like.images)], seed)
        return class_gaussians(self.train.images, self.train.labels, like.labels, seed)

    def copies(self, images: UInt8[Tensor, "n c h w"]) -> Memorisation:
        """The nearest-neighbour check of these images, with the pairs themselves."""
        return self._originals.check(self.extractor.inputs.pixels(images))

    def _distances(self, item: Samples) -> Figures:
        """Figures against the reference."""
        features = self.extractor.features(item.images)
        return {
            "frechet": frechet_of(Moments.of(features), self._moments),
            "kernel": kernel_distance(features, self._features),
            **coverage(features, self._features, NEIGHBOURS)._asdict(),
            "sliced_wasserstein": sliced_wasserstein(self.extractor.inputs.pixels(item.images), self._pixels),
        }

    def _alone(self, item: Samples) -> Figures:
        """Figures that need no reference; class accuracy only where images and extractor know classes."""
        check = self.copies(item.images)
        figures: Figures = {"nearest": check.median, "copies": check.share_below(COPY)}
        if item.labels is None or self.extractor.head is None:
            return figures
        return {"accuracy": accuracy(self.extractor, item.images, item.labels), **figures}

    def _summarise(self, figures: Sequence[Figures]) -> dict[str, Metric]:
        return self.draws.summarise(figures, self._eyes)

    def _row(self, name: str, note: str, metrics: dict[str, Metric]) -> Row:
        missing = {"accuracy": self.draws.absent("accuracy", self.extractor.identity, "these images have no class labels")}
        return Row(name, note, missing | metrics)


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
        self.draws.check([len(item) for item in sets])
        figures = [self._distances(item) for item in sets]
        return Row(name, note, self.draws.summarise(figures, dict.fromkeys(figures[0], "raw coordinates")))

    def floor(self) -> Row:
        """What real data score: training points as samples."""
        sets = [self.train[self.draws.indices(draw)] for draw in range(self.draws.count)]
        return self.measure(FLOOR, "Training points in the place of samples.", sets)

    def _distances(self, points: Tensor) -> Figures:
        return {
            "sliced_wasserstein": sliced_wasserstein(points, self.reference),
            "energy": kernel_distance(points, self.reference, negative_distance),
            "kernel": kernel_distance(points, self.reference),
        }
