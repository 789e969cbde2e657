# SPDX-License-Identifier: Apache-2.0
"""MNIST, Fashion-MNIST and their like: four IDX files in a folder, plain or gzip.

An IDX file is two zero bytes, a type byte (8 = unsigned byte, the only one read here), the number of dimensions, each
dimension as a big-endian 32-bit integer, then the data in row-major order. Sizes are believed only after they are
checked: a plain file must have exactly the length its header implies, a gzip file is unpacked one byte past that
length at most, and no header may claim more than gzip could have packed into the file (deflate reaches 1032:1).

Class names come from `classes.txt` beside the files, one a line, else they are the numbers themselves.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ornstein.base.errors import DataError
from ornstein.data.dataset import Dataset, ScanReport, Split, require
from ornstein.data.resize import framed

PARTS = ("train", "t10k")
MAX_BYTES = 1 << 31
_RATIO = 1100
_REPLACE = "Replace the file by a complete copy; `ornstein data fetch mnist --out FOLDER` brings one."


class Records(NamedTuple):
    """Images uint8 `(n, height, width)` and labels uint8 `(n,)`."""

    images: np.ndarray
    labels: np.ndarray


def split(folder: Path, size: int = 28) -> Split:
    """The `train` files to train on and the `t10k` files as test, in a square of `size` pixels.

    Raises:
        DataError: a file is missing, damaged, or does not fit the others.
        UsageError: size outside 4..1024.
    """
    require(4 <= size <= 1024, "size", size, "a number of pixels from 4 to 1024")
    train, test = (records(folder, part) for part in PARTS)
    names = class_names(folder, 1 + max(int(part.labels.max()) for part in (train, test)))
    return Split(_dataset(train, names, size), _dataset(test, names, size), ScanReport(read=4))


def find(folder: Path, part: str, what: str) -> Path | None:
    """The file of one part ("train", "t10k") and content ("images", "labels"); a plain one before a gzip one."""
    dimensions = 3 if what == "images" else 1
    stems = [f"{part}-{what}{mark}idx{dimensions}-ubyte" for mark in "-."]
    return next((folder / name for stem in stems for name in (stem, f"{stem}.gz") if (folder / name).is_file()), None)


def records(folder: Path, part: str) -> Records:
    """Images and labels of one part. Raises DataError."""
    loaded = []
    for what, dimensions in (("images", 3), ("labels", 1)):
        path = find(folder, part, what)
        if path is None:
            expected = f"{part}-{what}-idx{dimensions}-ubyte"
            fix = "Name the folder that holds the four files; `ornstein data fetch mnist --out FOLDER` brings them."
            raise DataError(f"{folder} holds neither {expected} nor {expected}.gz.", fix, folder)
        loaded.append(read(path, dimensions))
    images, labels = loaded
    if len(images) != len(labels):
        what = f"{folder} has {len(images)} {part} images and {len(labels)} {part} labels."
        raise DataError(what, "Use image and label files of the same data set.", folder)
    return Records(images, labels)


def read(path: Path, dimensions: int) -> np.ndarray:
    """One IDX file of unsigned bytes as an array with that many dimensions, none of them 0. Raises DataError."""
    try:
        with _opened(path) as stream:
            return _parse(stream, dimensions, _most(path))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}).", _REPLACE, path) from error
    except ValueError as error:
        raise DataError(f"{path} is no valid IDX file: {error}.", _REPLACE, path) from error


def _dataset(part: Records, names: tuple[str, ...], size: int) -> Dataset:
    images, labels = torch.from_numpy(part.images[:, None]), torch.from_numpy(part.labels.astype(np.int64))
    return Dataset(framed(images, size), labels, names, "image")


def _opened(path: Path) -> io.BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    return open(path, "rb")


def _most(path: Path) -> int:
    """No more bytes than this can be in a file."""
    size = path.stat().st_size
    return min(MAX_BYTES, _RATIO * size if path.suffix == ".gz" else size)


def _parse(stream: io.BufferedIOBase, dimensions: int, most: int) -> np.ndarray:
    magic, expected = stream.read(4), bytes((0, 0, 8, dimensions))
    if magic != expected:
        raise ValueError(f"it begins with {magic.hex() or 'nothing'} where {expected.hex()} is expected")
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise ValueError("it ends inside its header")
    shape = tuple(int.from_bytes(header[4 * i : 4 * i + 4], "big") for i in range(dimensions))
    length = math.prod(shape)
    if not 0 < length <= most:
        raise ValueError(f"its header claims the shape {shape}, which the file cannot hold" if length else "it holds no examples")
    data = stream.read(length + 1)
    if len(data) != length:
        raise ValueError(f"its header claims {length} bytes of data and it has {'more' if len(data) > length else len(data)}")
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)


def class_names(folder: Path, classes: int) -> tuple[str, ...]:
    """Names of at least that many classes. Raises DataError where `classes.txt` names fewer."""
    path = folder / "classes.txt"
    if not path.is_file():
        return tuple(str(label) for label in range(classes))
    names = read_names(path)
    if len(names) < classes:
        what = f"{path} names {len(names)} classes, and the labels go up to {classes - 1}."
        raise DataError(what, "Add the missing names, one a line, or remove the file.", path)
    return names


def read_names(path: Path) -> tuple[str, ...]:
    """Class names, one a line. Raises DataError where the file is not short UTF-8 text."""
    fix = "Restore the list of class names, one a line."
    try:
        with open(path, "rb") as handle:
            text = handle.read((1 << 16) + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable text ({error}).", fix, path) from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(text) > 1 << 16 or not all(name.isprintable() for name in names):
        raise DataError(f"{path} is no list of class names.", fix, path)
    return names
