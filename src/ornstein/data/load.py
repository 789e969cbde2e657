# SPDX-License-Identifier: Apache-2.0
"""What `data.kind` in a recipe names: one function per source, whose arguments are the recipe's keys under `data`.

All of them return a `Split` in raw units, raise DataError where the data cannot be used and UsageError where a setting
cannot be.
"""

from __future__ import annotations

from pathlib import Path

from ornstein.data.dataset import Split


def digits(size: int = 16) -> Split:
    """The embedded digits, 900 to train on and 897 to test; see `data.digits`."""
    from ornstein.data.digits import split

    return split(size)


def idx(path: str, size: int = 28) -> Split:
    """MNIST, Fashion-MNIST or the like in IDX files, grey; see `data.idx`."""
    from ornstein.data.idx import split

    return split(Path(path), size)


def cifar10(path: str, size: int = 32) -> Split:
    """CIFAR-10 in binary files; see `data.cifar`."""
    from ornstein.data.cifar import split

    return split(Path(path), size)


def folder(path: str, size: int = 64, channels: int = 3, on_bad_file: str = "fail", test_fraction: float = 0.1) -> Split:
    """A folder of images whose sub-folders are classes; see `data.folder`."""
    from ornstein.data.folder import Preparation, split

    return split(Path(path), Preparation(size, channels), on_bad_file, test_fraction)


def points(world: str = "moons", n: int = 10000, seed: int = 0) -> Split:
    """n points of a world in the plane to train on and a fifth as many to test; see `data.points`."""
    from ornstein.data.points import split

    return split(world, n, seed)
