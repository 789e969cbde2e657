# SPDX-License-Identifier: Apache-2.0
"""Randomness as a pure function of named integers: no stream is consumed, so nothing has to be replayed on resume.

Every random number belongs to one sample and is keyed by (seed, purpose, draw). In training `seed` is the run's seed
and `draw` counts samples over the whole run (step x global batch + position), so two copies of one image get different
noise and one rank gives the same numbers as many. In sampling `seed` is the sample's own seed and `draw` counts moves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def seed_of(*words: int | str) -> int:
    """A 63-bit seed from any words, stable across machines and versions (BLAKE2b of their text)."""
    text = "\x1f".join(str(word) for word in words).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator_of(*words: int | str) -> torch.Generator:
    """A CPU generator seeded by `seed_of(*words)`."""
    return torch.Generator().manual_seed(seed_of(*words))


def permutation(n: int, *words: int | str) -> Tensor:
    """A permutation of 0..n-1 as int64 `(n,)`, a pure function of the words."""
    return torch.randperm(n, generator=generator_of(*words))


@dataclass(frozen=True)
class Keys:
    """One key per sample of a batch; each draws from a generator of its own.

    Args:
        pairs: (seed, draw number) of every sample.
        purpose: what the numbers are for; different purposes give independent numbers.
    """

    pairs: tuple[tuple[int, int], ...]
    purpose: str = ""

    @staticmethod
    def for_draws(seed: int, start: int, n: int, purpose: str = "") -> Keys:
        """Keys of draws start..start+n-1 of one run."""
        return Keys(tuple((seed, draw) for draw in range(start, start + n)), purpose)

    @staticmethod
    def for_seeds(seeds: Sequence[int], draw: int = 0, purpose: str = "") -> Keys:
        """Keys of samples that each have a seed of their own."""
        return Keys(tuple((int(seed), draw) for seed in seeds), purpose)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def draws(self) -> tuple[int, ...]:
        """The draw number of every sample."""
        return tuple(draw for _, draw in self.pairs)

    def of(self, purpose: str | int) -> Keys:
        """The same samples for a further purpose (purposes nest: `keys.of("loss").of("noise")`)."""
        return Keys(self.pairs, f"{self.purpose}/{purpose}")

    def _draw(self, shape: Sequence[int], dtype: torch.dtype, normal: bool) -> Tensor:
        out = torch.empty((len(self.pairs), *shape), dtype=dtype)
        generator = torch.Generator()
        for row, (seed, draw) in zip(out.unbind(0), self.pairs, strict=True):
            generator.manual_seed(seed_of(seed, self.purpose, draw))
            row.normal_(generator=generator) if normal else row.uniform_(generator=generator)
        return out

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers `(batch, *shape)` on the CPU."""
        return self._draw(shape, dtype, normal=True)

    def uniform(self, shape: Sequence[int] = (), dtype: torch.dtype = torch.float64) -> Tensor:
        """Uniform numbers in [0, 1) of shape `(batch, *shape)` on the CPU."""
        return self._draw(shape, dtype, normal=False)
