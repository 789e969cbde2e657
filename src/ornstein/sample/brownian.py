# SPDX-License-Identifier: Apache-2.0
r"""One Brownian motion per sample, so that a seed keeps its picture when the number of steps changes.

Write u = alpha^2/sigma^2 and y = alpha x/sigma^2. With the estimate of x_0 held still, a draw from the reverse law is

    y_s = y_t + (u_s - u_t) x_0 + W(u_s) - W(u_t),

the observation process of stochastic localisation (Montanari 2023, arXiv 2305.10690, section 2), so W is a Brownian motion
in the clock u whatever the levels between. A seed and a stretch of the plan fix one W; a move from t to s is given its
increment over [u_t, u_s], divided by sqrt(u_s - u_t) to be standard normal. Plans of more moves then refine the same path.

W is found by halving (Levy's midpoint construction) in the coordinate c = 1/(1 + sqrt(sigma/alpha)), in which levels of all
kinds of plans are spread over [0, 1]. Cell n has the children 2n and 2n + 1 and one vector z_n of normal numbers, a hash
of (seed, stretch, n). In a cell [a, b] the value at a point p is

    W(p) = ((b - p) W(a) + (p - a) W(b))/(b - a) + sqrt((p - a)(b - p)/(b - a)) z_n      (all in the clock u)

or W(a) + sqrt(p - a) z_n where b = inf. Down to level `DEPTH` p is the cell's middle; a cell there that holds a single
level of the plan ends with that level, one that holds more is halved on. So W is a function of (seed, stretch, level) alone
as long as a plan has no two levels in one of the 2^DEPTH cells, and its increments add up exactly across plans; of finer
plans the law is exact too, and they agree with coarser ones at the borders of the cells.

Everything is linear in the z: `rows` works out, once per plan, an orthonormal row of coefficients for every move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ornstein.base import counter
from ornstein.base.keys import seed_of
from ornstein.process.level import Level

DEPTH = 7
_DEEPEST = 50  # halvings after which two levels are one for float64
_BLOCK = 1 << 17  # numbers of noise worked out together: many moves of few samples, or one of many
_NEGLIGIBLE = 1e-12

Combination = dict[int, float]
"""Coefficient of each cell's z."""


def place(level: Level) -> float:
    """The coordinate c of a level of floats: 0 is pure noise, 1 is clean data."""
    return 0.0 if level.is_noise else 1.0 / (1.0 + math.sqrt(float(level.noise_to_signal)))


def clock(c: float) -> float:
    """The signal-to-noise ratio u at a place."""
    return math.inf if c >= 1.0 else (c / (1.0 - c)) ** 4


@lru_cache(maxsize=32)
def rows(places: tuple[float, ...]) -> tuple[Combination, ...]:
    """The standardised increments of W between places that follow each other, as orthonormal combinations of the z.

    An increment into clean data, where u is infinite, is a number of its own.
    """
    paths = {0.0: Combination()}
    _halve(1, (0.0, 1.0), ({}, {}), sorted({c for c in places if 0.0 < c < 1.0}), paths)
    return tuple(_increment(a, b, paths) for a, b in pairwise(places))


def _increment(a: float, b: float, paths: dict[float, Combination]) -> Combination:
    low, high = min(a, b), max(a, b)
    if high >= 1.0 or low == high:
        return {0: 1.0}
    scale = 1.0 / math.sqrt(clock(high) - clock(low))
    start, end = paths[low], paths[high]
    change = {cell: scale * (end.get(cell, 0.0) - start.get(cell, 0.0)) for cell in {**start, **end}}
    return {cell: value for cell, value in change.items() if abs(value) > _NEGLIGIBLE}


def _halve(
    cell: int, ends: tuple[float, float], at: tuple[Combination, Combination], points: list[float], paths: dict[float, Combination]
) -> None:
    """Find W at the points of a cell, given at its ends."""
    if not points:
        return
    level = cell.bit_length() - 1
    if level >= DEPTH and (len(points) == 1 or level >= _DEEPEST):
        paths |= {point: _bridge(cell, ends, at, point) for point in points}
        return
    middle = 0.5 * (ends[0] + ends[1])
    path = _bridge(cell, ends, at, middle)
    if middle in points:
        paths[middle] = path
    _halve(2 * cell, (ends[0], middle), (at[0], path), [point for point in points if point < middle], paths)
    _halve(2 * cell + 1, (middle, ends[1]), (path, at[1]), [point for point in points if point > middle], paths)


def _bridge(cell: int, ends: tuple[float, float], at: tuple[Combination, Combination], point: float) -> Combination:
    """W at a point between two ends, with the cell's own z."""
    a, b, p = clock(ends[0]), clock(ends[1]), clock(point)
    if math.isinf(b):
        return {**at[0], cell: math.sqrt(p - a)}
    share = (p - a) / (b - a)
    mean = {z: (1.0 - share) * at[0].get(z, 0.0) + share * at[1].get(z, 0.0) for z in {**at[0], **at[1]}}
    return {**mean, cell: math.sqrt((p - a) * (b - p) / (b - a))}


class Path:
    """The Brownian motions of a batch of samples along one stretch of a plan.

    Args:
        seeds: of the samples.
        number: of the stretch; another stretch has another motion.
        levels: of the stretch, of floats.
    """

    def __init__(self, seeds: Sequence[int], number: int, levels: Sequence[Level]) -> None:
        self._places = tuple(place(level) for level in levels)
        self._rows = rows(self._places)
        self._at = {c: k for k, c in enumerate(self._places[:-1])}
        self._keys = np.array([seed_of(seed, "sample/brownian", number) for seed in seeds], dtype=np.uint64)
        self._numbers, self._kind = dict[int, Tensor](), (torch.float32, torch.Size())
        self._block, self._first = torch.empty(0), 0

    def increment(self, t: Level, s: Level, like: Tensor) -> Tensor:
        """W(u_s) - W(u_t) over its standard deviation, of the shape, dtype and device of `like`; not to be modified."""
        a, b = place(t), place(s)
        k = self._at.get(a)
        if k is not None and self._places[k + 1] == b:
            return self._move(k, like)
        through = tuple(sorted({*self._places, a, b}))
        span = through[through.index(min(a, b)) : through.index(max(a, b)) + 1]
        if span[-1] >= 1.0:
            return self._combined([{0: 1.0}], like)[0]
        parts = rows(through)[through.index(span[0]) :]
        weight = 1.0 / math.sqrt(clock(span[-1]) - clock(span[0]))
        whole: Combination = {}
        for (low, high), part in zip(pairwise(span), parts, strict=False):
            length = weight * math.sqrt(clock(high) - clock(low))
            whole = {cell: whole.get(cell, 0.0) + length * part.get(cell, 0.0) for cell in {**whole, **part}}
        return self._combined([whole], like)[0]

    def _move(self, k: int, like: Tensor) -> Tensor:
        """The increment of move k; those that follow are worked out with it while they are few numbers."""
        if not 0 <= k - self._first < len(self._block) or (like.dtype, like.shape) != self._kind:
            size = max(1, _BLOCK // max(like.numel(), 1))
            self._first = k - k % size  # blocks start at the same moves in whatever order they are asked for: equal bits
            self._block = self._combined(self._rows[self._first : self._first + size], like)
        return self._block[k - self._first].to(like.device)

    def _combined(self, some: Sequence[Combination], like: Tensor) -> Tensor:
        """Combinations of the cells' normal numbers, `(len(some), *like.shape)` on the CPU."""
        if (like.dtype, like.shape) != self._kind:
            self._kind, self._numbers = (like.dtype, like.shape), {}
        cells = sorted({cell for row in some for cell in row})
        self._numbers = {cell: self._numbers[cell] for cell in cells if cell in self._numbers}
        self._draw([cell for cell in cells if cell not in self._numbers], like)
        if len(some) == 1:
            (row,) = some
            out = torch.zeros_like(self._numbers[cells[0]])
            for cell in cells:
                out.add_(self._numbers[cell], alpha=row[cell])
            return out.reshape(1, *like.shape)
        table = torch.tensor([[row.get(cell, 0.0) for cell in cells] for row in some], dtype=like.dtype)
        return (table @ torch.stack([self._numbers[cell] for cell in cells])).reshape(len(some), *like.shape)

    def _draw(self, cells: list[int], like: Tensor) -> None:
        keys = counter.keys_of(self._keys, np.array(cells, dtype=np.uint64))
        drawn = torch.from_numpy(counter.normals(keys.reshape(-1), like[0].numel())).to(like.dtype)
        self._numbers |= zip(cells, drawn.reshape(len(cells), like.numel()), strict=True)
