# SPDX-License-Identifier: Apache-2.0
"""Normal numbers by counting: number i of a key is a hash of (key, i), so many keys are served by one pass over an array.

A generator per key costs more to set up than to draw from. Here 64-bit words `key + i * GAMMA` go through a bijective
mix of two multiplications between xor-shifts, and each word gives two normal numbers by Box and Muller's transform
(1958): sqrt(-2 log u) cos(2 pi v) and sqrt(-2 log u) sin(2 pi v). Numbers have the resolution of float32.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiples of it spread evenly
_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)
_CHUNK = 1 << 14  # words mixed at a time, so that all passes over them find them in the cache


def _mix(words: Words) -> Words:
    """The words, hashed in place; a bijection of 64 bits."""
    shifted = words >> _HALF
    words ^= shifted
    for _ in range(2):
        words *= _FACTOR
        np.right_shift(words, _HALF, out=shifted)
        words ^= shifted
    return words


def keys_of(seeds: Words, purposes: Words) -> Words:
    """A key for every pair of a purpose and a seed: `(purposes, seeds)`."""
    return _mix(seeds + _mix(purposes * _GAMMA)[:, None])


def normals(keys: Words, count: int) -> NDArray[np.float32]:
    """The first `count` standard normal numbers of each key: `(len(keys), count)`.

    Those of a key are the same in any company; another `count` gives other numbers.
    """
    half = (count + 1) // 2
    steps = np.arange(half, dtype=np.uint64) * _GAMMA
    out = np.empty((len(keys), 2 * half), dtype=np.float32)
    rows, columns = max(1, _CHUNK // max(half, 1)), min(half, _CHUNK)
    for i in range(0, len(keys), rows):
        for j in range(0, half, columns):
            there = slice(i, i + rows), slice(j, j + columns)
            _box_muller(_mix(keys[there[0], None] + steps[there[1]]), out[:, :half][there], out[:, half:][there])
    return out[:, :count]


def _box_muller(words: Words, first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    """Two independent normal numbers from each word."""
    uniform = words.view(np.int32).astype(np.float32)
    uniform *= np.float32(2.0**-32)
    uniform += np.float32(0.5 + 2.0**-33)  # in (0, 1]: the logarithm is finite
    radius = np.log(uniform[:, 0::2])
    radius *= np.float32(-2.0)
    np.sqrt(radius, out=radius)
    angle = uniform[:, 1::2] * np.float32(2.0 * math.pi)
    np.multiply(np.cos(angle), radius, out=first)
    np.multiply(np.sin(angle, out=angle), radius, out=second)
