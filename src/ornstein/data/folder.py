# SPDX-License-Identifier: Apache-2.0
"""A folder of images: sub-folders are classes, without sub-folders there are none.

Files are taken in the order of their names' bytes. What happens to each kind of file stands in `decode`, which files
are looked at in `listing`. All of them are decoded once, before training; bad ones end the scan with one error that
names them ("fail"), or are left out, counted and named in the report ("skip"), which changes neither the order nor the
part of the others.

Held out is a file whose hashed name falls below `test_fraction`, so added files move no other. Only where this would
leave a class without a training image, or the test part empty, the file with the hash nearest to the border moves.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from jaxtyping import Bool
from torch import Tensor

from ornstein.base.errors import DataError
from ornstein.base.files import digest_of
from ornstein.data import cache
from ornstein.data.dataset import BadFile, Dataset, ScanReport, Split, require
from ornstein.data.decode import BadImage, decode, framed, in_parallel
from ornstein.data.listing import ImageFile, listing, shown

FORMAT = 1  # of the cached file
_NAMED = 10  # bad files named in one error


@dataclass(frozen=True)
class Preparation:
    """What is done to every image: the centre square at `size` pixels with 1 or 3 channels."""

    size: int
    channels: int

    def __post_init__(self) -> None:
        require(4 <= self.size <= 1024, "size", self.size, "a number of pixels from 4 to 1024")
        require(self.channels in (1, 3), "channels", self.channels, "1 for grey or 3 for colour")


def split(folder: Path, preparation: Preparation, on_bad_file: str = "fail", test_fraction: float = 0.1) -> Split:
    """Images of a folder, prepared or from the cache.

    Raises:
        DataError: no folder; bad files where `on_bad_file` is "fail"; a class without a usable image; fewer than two
            images, or only one per class, so that none can be held out.
        UsageError: a setting out of range.
    """
    require(on_bad_file in ("fail", "skip"), "on_bad_file", on_bad_file, "fail or skip")
    require(0.0 < test_fraction < 1.0, "test_fraction", test_fraction, "a number between 0 and 1")
    found = listing(folder)
    images, unusable, kept_in = _prepared(folder, found.images, preparation)
    bad = sorted((*found.bad, *unusable.values()), key=lambda file: file.path)
    total = len(found.images) + len(found.bad)
    if bad and on_bad_file == "fail":
        raise _refusal(folder, bad, total)
    good = [file for index, file in enumerate(found.images) if index not in unusable]
    labels, names = _classes(folder, found.images, good)
    test = _held_out([file.name for file in good], labels, test_fraction)
    if not test.any():
        raise DataError(f"{folder} has too few usable images to hold one out ({len(good)}).", "Add images.", folder)
    whole = Dataset(images, torch.tensor(labels) if names else None, names, "image")
    report = ScanReport(total, tuple(bad), tuple(found.ignored), kept_in)
    return Split(whole.select((~test).nonzero()[:, 0]), whole.select(test.nonzero()[:, 0]), report)


def _held_out(names: Sequence[str], labels: Sequence[int], fraction: float) -> Bool[Tensor, " n"]:
    """Which files are for testing; all False where each class has one file only."""
    place = [_place(name) for name in names]
    test = [value < fraction for value in place]
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    for group in members.values():
        if all(test[index] for index in group):
            test[max(group, key=place.__getitem__)] = False
    spare = [index for group in members.values() if len(group) > 1 for index in group]
    if spare and not any(test):
        test[min(spare, key=place.__getitem__)] = True
    return torch.tensor(test, dtype=torch.bool)


def _place(name: str) -> float:
    """A number in [0, 1) that is a function of the name alone."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=6).digest(), "big") / 2**48


def _prepared(folder: Path, files: list[ImageFile], preparation: Preparation) -> tuple[Tensor, dict[int, BadFile], Path | None]:
    """Usable images in order, the unusable files by index, and the cache file if there is one."""
    contents = [[file.name, file.size, *file.changed] for file in files]
    key = digest_of([FORMAT, PIL.__version__, preparation.size, preparation.channels, contents])
    path = cache.location(key, folder)
    stored = cache.load(path) if path else None
    if stored is None:
        images, reasons = _decoded(folder, files, preparation)
        stored = cache.Prepared(images, {"unusable": reasons})
        if path and not cache.store(path, stored):
            path = None
    reasons = stored.facts["unusable"]
    return stored.images, {int(i): BadFile(shown(files[int(i)].name), reason) for i, reason in reasons.items()}, path


def _decoded(folder: Path, files: list[ImageFile], preparation: Preparation) -> tuple[Tensor, dict[str, str]]:
    """Usable images in order, and why the others are not, by index."""
    size, channels = preparation.size, preparation.channels

    def pixels(file: ImageFile) -> np.ndarray | str:
        try:
            return framed(decode(folder / file.name, channels).image, size)
        except BadImage as reason:
            return str(reason)

    images, reasons, used = torch.empty(len(files), channels, size, size, dtype=torch.uint8), {}, 0
    for index, result in enumerate(in_parallel(pixels, files)):
        if isinstance(result, str):
            reasons[str(index)] = result
        else:
            images[used] = torch.from_numpy(result.copy())
            used += 1
    return images[:used], reasons


def _classes(folder: Path, files: list[ImageFile], good: list[ImageFile]) -> tuple[list[int], tuple[str, ...]]:
    """Labels of the usable files and the classes' names; every class must have a usable file."""
    groups = {group: label for label, group in enumerate(dict.fromkeys(file.group for file in files))}
    filled = {file.group for file in good}
    if missing := [shown(group) or str(folder) for group in groups if group not in filled]:
        what = f"There is no usable image in {', '.join(missing[:_NAMED])}."
        raise DataError(what, "Add images or remove the empty class; `ornstein data check FOLDER` names the bad files.", folder)
    names = tuple(shown(group) for group in groups if group)
    return [groups[file.group] for file in good], names


def _refusal(folder: Path, bad: list[BadFile], total: int) -> DataError:
    named = "".join(f"\n  {file}" for file in bad[:_NAMED])
    more = f"\n  and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    fix = "Repair or remove them, or set data.on_bad_file=skip to train without them."
    return DataError(f"{len(bad)} of {total} files in {folder} cannot be used:{named}{more}\n", fix, folder)
