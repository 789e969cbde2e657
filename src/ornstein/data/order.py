# SPDX-License-Identifier: Apache-2.0
"""The order of training examples as a pure function of (seed, draw number).

Draw d belongs to epoch d // n and takes place d % n of that epoch's permutation, which is keyed by the epoch. Every
example is seen once per epoch, a batch may span two epochs, and two integers resume it at any draw.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from ornstein.base.keys import permutation


@lru_cache(maxsize=2)
def _epoch(n: int, seed: int, epoch: int) -> Tensor:
    return permutation(n, seed, "order", epoch)


def indices(n: int, seed: int, start: int, count: int) -> Int[Tensor, " count"]:
    """Examples of draws start..start+count-1.

    Args:
        n: number of examples, > 0.
        seed: the run's seed.
        start: number of the first draw, >= 0.
        count: number of draws, >= 0.

    Raises:
        ValueError: n < 1, or a negative start or count.
    """
    if n < 1 or start < 0 or count < 0:
        raise ValueError(f"no draws {start}..{start + count} from {n} examples")
    pieces, end = [torch.empty(0, dtype=torch.int64)], start + count
    while start < end:
        epoch, place = divmod(start, n)
        piece = _epoch(n, seed, epoch)[place : place + end - start]
        pieces.append(piece)
        start += len(piece)
    return torch.cat(pieces)
