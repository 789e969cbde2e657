# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are taken for images, in an order that depends on their names alone.

Everything below the folder is listed, links included (a folder reached twice is listed once). Files and folders whose
names begin with a dot, the two files that desktops leave behind, and text beside images (captions, licences, tables)
are named in `ignored`; every other file must be an image. Sub-folders are classes, so where there is one with images,
an image beside them is bad.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ornstein.base.errors import DataError
from ornstein.data.dataset import BadFile

_LEFT_BEHIND = {"thumbs.db", "desktop.ini"}
_TEXT = {".txt", ".md", ".rst", ".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".xml", ".html", ".caption", ".pdf"}


@dataclass(frozen=True)
class ImageFile:
    """A file taken for an image: its path below the folder (with "/"), and what tells that it changed."""

    name: str
    size: int = 0
    changed: tuple[int, int] = (0, 0)

    @property
    def group(self) -> str:
        """The top sub-folder it lies in, at any depth; "" for the data folder itself."""
        return self.name.split("/", 1)[0] if "/" in self.name else ""


@dataclass
class Listing:
    """Files of a folder: images in order, names never taken for images, and what could not even be listed."""

    images: list[ImageFile] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)


def listing(folder: Path) -> Listing:
    """List a folder. Raises DataError where it is no folder."""
    if not folder.is_dir():
        what = f"{folder} is no folder." if folder.exists() else f"The folder {folder} does not exist."
        raise DataError(what, "Name the folder that holds the images, with one sub-folder per class if there are classes.", folder)
    found = Listing()
    for name in _walk(folder, "", set(), found):
        try:
            status = (folder / name).stat()
            found.images.append(ImageFile(name, status.st_size, (status.st_mtime_ns, status.st_ctime_ns)))
        except OSError as error:
            found.bad.append(BadFile(shown(name), f"cannot be reached ({error.strerror})"))
    found.images.sort(key=lambda file: os.fsencode(file.name))
    if any(file.group for file in found.images):
        stray = [file for file in found.images if not file.group]
        found.images = [file for file in found.images if file.group]
        found.bad += [BadFile(shown(file.name), "lies beside the class folders, so it has no class") for file in stray]
    return found


def shown(name: str) -> str:
    """A file name as text that can be printed and stored, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", "replace")


def _walk(folder: Path, below: str, seen: set[tuple[int, int]], found: Listing) -> Iterator[str]:
    try:
        status = (folder / below).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in seen:
            found.ignored.append(f"{shown(below)} (a link to a folder already listed)")
            return
        seen.add(identity)
        entries = sorted(os.scandir(folder / below), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        found.bad.append(BadFile(shown(below) or ".", f"cannot be listed ({error.strerror})"))
        return
    for entry in entries:
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.name.startswith(".") or entry.name.lower() in _LEFT_BEHIND:
            found.ignored.append(shown(name))
        elif _is_folder(entry):
            yield from _walk(folder, name, seen, found)
        elif Path(entry.name).suffix.lower() in _TEXT:
            found.ignored.append(shown(name))
        else:
            yield name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError:
        return False
