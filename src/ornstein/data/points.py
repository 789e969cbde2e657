# SPDX-License-Identifier: Apache-2.0
r"""Worlds of points in the plane, centred, with mean square radius 2 (one unit of variance per axis on average).

The centre and scale are those of the law itself, never of the drawn points, so train and test share one law. With
angle or length u uniform and noise N(0, s^2) added to each coordinate, before centring and scaling:

    moons         (cos u, sin u) and (1 - cos u, 1/2 - sin u), u in [0, pi]; centre (1/2, 1/4)
    rings         circles of radius 1 and 1/2
    spiral        +-(r cos r, r sin r), r = 3 pi sqrt(u): constant density along the area, two arms
    checkerboard  uniform on the squares of even parity in [-2, 2]^2; no classes, no noise
    mixture       `exact.mixture.ring()`, left unscaled (mean square radius 2.33), so its density is known in closed form

Point i is keyed by (seed, world, part, i): a larger n adds points and changes none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.data.dataset import Dataset, ScanReport, Split, require
from ornstein.exact.mixture import ring

Shape = Callable[[Float[Tensor, " n"], Float[Tensor, " n"], Int[Tensor, " n"]], Float[Tensor, "n 2"]]


@dataclass(frozen=True)
class Curves:
    """A law on the plane: two uniform numbers and a class give a point, to which noise is added.

    Args:
        shape: (u, w, label) -> point.
        centre: mean of the points.
        variance: variance per axis, averaged over both, without noise.
        noise: standard deviation of the noise.
        class_names: classes, equally likely; () where there are none.
    """

    shape: Shape
    centre: tuple[float, float]
    variance: float
    noise: float
    class_names: tuple[str, ...]

    def draw(self, keys: Keys) -> tuple[Float[Tensor, "n 2"], Int[Tensor, " n"] | None]:
        """One point per key, and its class."""
        u, w, choice = keys.of("place").uniform((3,)).unbind(1)
        label = (choice * max(len(self.class_names), 1)).long()
        noisy = self.shape(u, w, label) + self.noise * keys.of("noise").normal((2,), torch.float64)
        scale = math.sqrt(self.variance + self.noise**2)
        return (noisy - torch.tensor(self.centre, dtype=torch.float64)) / scale, label if self.class_names else None


def _moons(u: Tensor, w: Tensor, label: Tensor) -> Tensor:
    x, y = torch.cos(math.pi * u), torch.sin(math.pi * u)
    return torch.where(label[:, None] == 0, torch.stack([x, y], 1), torch.stack([1.0 - x, 0.5 - y], 1))


def _rings(u: Tensor, w: Tensor, label: Tensor) -> Tensor:
    angle, radius = 2.0 * math.pi * u, 1.0 - 0.5 * label
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1)


def _spiral(u: Tensor, w: Tensor, label: Tensor) -> Tensor:
    radius, side = 3.0 * math.pi * u.sqrt(), 1.0 - 2.0 * label
    return torch.stack([side * radius * radius.cos(), side * radius * radius.sin()], 1)


def _checkerboard(u: Tensor, w: Tensor, label: Tensor) -> Tensor:
    """Column and row of one of eight squares come from u's first bits, the place inside from the rest of u and from w."""
    column, row = (4.0 * u).floor(), 2.0 * (2.0 * w).floor()
    return torch.stack([4.0 * u, row + (column % 2.0) + (2.0 * w) % 1.0], 1) - 2.0


_MOONS_Y = 0.5 * (1.25 - 2.0 / math.pi) - 0.0625

_CURVES = {
    "moons": Curves(_moons, (0.5, 0.25), (0.75 + _MOONS_Y) / 2.0, 0.05, ("upper", "lower")),
    "rings": Curves(_rings, (0.0, 0.0), (1.0 + 0.25) / 4.0, 0.04, ("outer", "inner")),
    "spiral": Curves(_spiral, (0.0, 0.0), (3.0 * math.pi) ** 2 / 4.0, 0.2, ("first", "second")),
    "checkerboard": Curves(_checkerboard, (0.0, 0.0), 16.0 / 12.0, 0.0, ()),
}
WORLDS = (*_CURVES, "mixture")


def split(world: str, n: int, seed: int = 0) -> Split:
    """n points to train on and max(n // 5, 1) to test. Raises UsageError for an unknown world or n < 1."""
    require(world in WORLDS, "world", world, f"one of {', '.join(WORLDS)}")
    require(n >= 1, "n", n, "a number of points from 1")
    return Split(draw(world, n, seed, "train"), draw(world, max(n // 5, 1), seed, "test"), ScanReport())


def draw(world: str, n: int, seed: int, part: str) -> Dataset:
    """n points of a world; parts ("train", "test", ...) are independent of each other."""
    keys = Keys.for_draws(seed, 0, n, f"points/{world}/{part}")
    if world == "mixture":
        mixture = ring()
        points, labels = mixture.sample(keys)
        return Dataset(points.float(), labels, tuple(str(k) for k in range(len(mixture.weights))), "points")
    law = _CURVES[world]
    points, classes = law.draw(keys)
    return Dataset(points.float(), classes, law.class_names, "points")
