# SPDX-License-Identifier: Apache-2.0
"""The one interface of the data room: examples in memory, in raw units, with an identity.

Raw units are uint8 0..255 for images and float32 coordinates for points; a codec maps them to the model's range. A
training step reads `dataset.raw[indices]`, so nothing is decoded, resized or shuffled once training runs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from ornstein.base.errors import UsageError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples of one kind, labelled or not.

    Args:
        raw: images as uint8 `(n, channels, height, width)`, or points as float32 `(n, 2)`.
        labels: class of each example, int64 `(n,)` in 0..len(class_names)-1, or None.
        class_names: the classes' names; empty exactly where there are no labels.
        kind: what `raw` holds.
    """

    raw: Tensor
    labels: Int[Tensor, " n"] | None
    class_names: tuple[str, ...]
    kind: Literal["image", "points"]

    def __post_init__(self) -> None:
        expected = (torch.uint8, 4) if self.kind == "image" else (torch.float32, 2)
        if (self.raw.dtype, self.raw.dim()) != expected:
            raise ValueError(f"{self.kind} data cannot be {self.raw.dtype} of shape {tuple(self.raw.shape)}")
        if (self.labels is None) != (not self.class_names):
            raise ValueError("labels and class names come together or not at all")
        if self.labels is not None:
            if self.labels.shape != (len(self),) or self.labels.dtype != torch.int64:
                raise ValueError(f"{len(self)} examples cannot have {self.labels.dtype} labels of shape {tuple(self.labels.shape)}")
            if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.class_names):
                raise ValueError(f"labels must lie in 0..{len(self.class_names) - 1}")

    def __len__(self) -> int:
        return len(self.raw)

    @cached_property
    def identity(self) -> str:
        """16 hexadecimal digits of the SHA-256 of everything here: kind, shape, class names, raw data and labels.

        Preprocessing is part of it through its result; where the data came from is not.
        """
        header = [self.kind, list(self.raw.shape), list(self.class_names)]
        digest = hashlib.sha256(json.dumps(header).encode())
        for tensor in (self.raw, self.labels):
            if tensor is not None:
                digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def select(self, indices: Int[Tensor, " m"]) -> Dataset:
        """The examples at some indices, in that order."""
        labels = None if self.labels is None else self.labels[indices]
        return Dataset(self.raw[indices], labels, self.class_names, self.kind)


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be used: its path below the data folder, and why, as half a sentence."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class ScanReport:
    """What reading the data met.

    Args:
        read: files read.
        skipped: bad files left out because the user chose to skip them.
        ignored: names that were never taken for data (hidden files, text beside images).
        cache: file that keeps the prepared images, or None where there is none.
    """

    read: int = 0
    skipped: tuple[BadFile, ...] = ()
    ignored: tuple[str, ...] = ()
    cache: Path | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """Data to train on, data held out from training, and what reading them met."""

    train: Dataset
    test: Dataset
    report: ScanReport


def require(allowed: bool, name: str, value: object, expected: str) -> None:
    """Refuse a setting. Raises UsageError unless `allowed`."""
    if not allowed:
        raise UsageError(f"data.{name} = {value!r} is not possible.", f"Give {expected}.")
