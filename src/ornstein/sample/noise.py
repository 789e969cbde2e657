# SPDX-License-Identifier: Apache-2.0
"""Noise for sampling: a pure function of (sample seed, move, stage), so no sample depends on its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.process.gaussian import Noise


class MoveNoise:
    """The random numbers of one move; satisfies `ornstein.process.gaussian.Noise`."""

    def __init__(self, seeds: tuple[int, ...], move: int) -> None:
        self._seeds, self._move = seeds, move

    def _keys(self, stage: int, kind: str) -> Keys:
        return Keys.for_seeds(self._seeds, self._move, f"sample/{kind}/{stage}")

    def normal(self, like: Tensor, stage: int = 0) -> Tensor:
        """Standard normal numbers of the shape, dtype and device of `like`."""
        return self._keys(stage, "normal").normal(like.shape[1:], like.dtype).to(like.device)

    def uniform(self, like: Tensor, stage: int = 0) -> Tensor:
        """Numbers in [0, 1) of the shape and device of `like`, float64."""
        return self._keys(stage, "uniform").uniform(like.shape[1:], torch.float64).to(like.device)


class Scaled:
    """Noise whose normal numbers have a standard deviation of their own; satisfies `ornstein.process.gaussian.Noise`.

    Args:
        noise: the noise to scale.
        scale: its standard deviation.
    """

    def __init__(self, noise: Noise, scale: float) -> None:
        self._noise, self._scale = noise, scale

    def normal(self, like: Tensor, stage: int = 0) -> Tensor:
        """Normal numbers with the deviation, of the shape, dtype and device of `like`."""
        return self._scale * self._noise.normal(like, stage)

    def uniform(self, like: Tensor, stage: int = 0) -> Tensor:
        """Numbers in [0, 1), unscaled."""
        return self._noise.uniform(like, stage)


class SampleNoise:
    """All noise of a batch of samples, by the seed of each.

    Args:
        seeds: one seed per sample of the batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = tuple(seeds)

    def move(self, i: int) -> MoveNoise:
        """The numbers of move i."""
        return MoveNoise(self.seeds, i)

    def prior_keys(self) -> Keys:
        """Keys of the noise that sampling starts from."""
        return Keys.for_seeds(self.seeds, 0, "sample/prior")
