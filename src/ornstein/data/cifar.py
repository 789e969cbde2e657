# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10, binary version: records of one label byte and 3 x 32 x 32 bytes, plane by plane.

`data_batch_1.bin` to `data_batch_5.bin` are for training, `test_batch.bin` for testing, `batches.meta.txt` names the
classes. Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ornstein.base.errors import DataError
from ornstein.data.dataset import Dataset, ScanReport, Split, require
from ornstein.data.idx import read_names
from ornstein.data.resize import framed

FOLDER, META = "cifar-10-batches-bin", "batches.meta.txt"
TRAIN, TEST = tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"
CLASSES = 10
RECORD = 1 + 3 * 32 * 32
_FETCH = "Replace it by a complete copy; `ornstein data fetch cifar10 --out FOLDER` brings one."


def split(folder: Path, size: int = 32) -> Split:
    """The five training files and the test file, in a square of `size` pixels.

    Args:
        folder: the folder with the files, or the one that holds `cifar-10-batches-bin`.
        size: pixels; a black border is added above 32.

    Raises:
        DataError: a file is missing or damaged.
        UsageError: size outside 4..1024.
    """
    require(4 <= size <= 1024, "size", size, "a number of pixels from 4 to 1024")
    folder = find(folder)
    names = class_names(folder)
    train, test = _dataset([folder / name for name in TRAIN], names, size), _dataset([folder / TEST], names, size)
    return Split(train, test, ScanReport(read=len(TRAIN) + 2))


def find(folder: Path) -> Path:
    """The folder itself, or the `cifar-10-batches-bin` inside it where there is one."""
    return folder / FOLDER if (folder / FOLDER).is_dir() else folder


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One file as images uint8 `(n, 3, 32, 32)` and labels uint8 `(n,)`, n > 0. Raises DataError."""
    try:
        size = path.stat().st_size
        if size == 0 or size % RECORD or size > 1 << 31:
            raise DataError(f"{path} has {size} bytes, which is no whole number of records of {RECORD} bytes.", _FETCH, path)
        rows = np.fromfile(path, np.uint8).reshape(-1, RECORD)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}).", _FETCH, path) from error
    if int(rows[:, 0].max()) >= CLASSES:
        raise DataError(f"{path} has a label above {CLASSES - 1}, so it is not the binary version of CIFAR-10.", _FETCH, path)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]


def class_names(folder: Path) -> tuple[str, ...]:
    """The ten names in `batches.meta.txt`. Raises DataError."""
    path = folder / META
    names = read_names(path)
    if len(names) != CLASSES:
        raise DataError(f"{path} names {len(names)} classes where {CLASSES} are expected.", _FETCH, path)
    return names


def _dataset(paths: list[Path], names: tuple[str, ...], size: int) -> Dataset:
    images, labels = (np.concatenate(parts) for parts in zip(*map(read, paths), strict=True))
    return Dataset(framed(torch.from_numpy(images), size), torch.from_numpy(labels.astype(np.int64)), names, "image")
