# SPDX-License-Identifier: Apache-2.0
"""What a data folder holds, told without training on it: kinds of files, sizes, classes, duplicates and bad files."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ornstein.base.errors import DataError
from ornstein.data import cifar, idx
from ornstein.data.dataset import BadFile
from ornstein.data.decode import BadImage, decode, in_parallel
from ornstein.data.listing import ImageFile, Listing, listing, shown

_EXAMPLES = 5  # pairs of duplicates shown
_LARGEST = 64  # side suggested at most: what a small machine can train


class Seen(NamedTuple):
    """A usable image: its name, class, (width, height), stored mode, and a digest of its pixels."""

    name: str
    group: str
    size: tuple[int, int]
    mode: str
    digest: bytes


@dataclass
class Findings:
    """Counts over the images seen so far."""

    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    equal: dict[bytes, list[str]] = field(default_factory=dict)
    bad: list[BadFile] = field(default_factory=list)

    def add(self, one: Seen | BadFile) -> None:
        """Count one image or bad file."""
        if isinstance(one, BadFile):
            self.bad.append(one)
            return
        self.sizes[one.size] += 1
        self.modes[one.mode] += 1
        self.classes[one.group] += 1
        self.equal.setdefault(one.digest, []).append(one.name)

    @property
    def duplicates(self) -> dict[str, Any]:
        """Groups of images with equal pixels."""
        groups = [names for names in self.equal.values() if len(names) > 1]
        examples = [names[:2] for names in groups[:_EXAMPLES]]
        return {"groups": len(groups), "extra": sum(len(names) - 1 for names in groups), "examples": examples}


def check(path: Path) -> dict[str, Any]:
    """A report on a folder, as a JSON object.

    Keys: `path`, `kind` ("idx", "cifar10" or "folder"), `images` (usable ones), `sizes` ("WxH": count) and `modes`, most
    frequent first, `classes` (counts by name), `duplicates` (`groups` of equal pixels, `extra` images beyond the first of
    each, up to 5 pairs as `examples`), `bad_files` (`path`, `reason`), `ignored`, and `suggestion`: the words to add to
    `ornstein train`, or None where no image is usable.

    Raises:
        DataError: the path is no folder.
    """
    if not path.is_dir():
        what = f"{path} is no folder." if path.exists() else f"The folder {path} does not exist."
        raise DataError(what, "Name a folder of images, IDX files or CIFAR-10 binary files.", path)
    kind, files = _kind(path), Listing()
    if kind == "folder":
        files = listing(path)
    images = {"idx": _idx, "cifar10": _cifar10}[kind](path) if kind != "folder" else _pictures(path, files)
    findings = Findings(bad=list(files.bad))
    try:
        for one in images:
            findings.add(one)
    except DataError as error:
        findings.bad.append(BadFile(str(error.path or path), error.what))
    return {
        "path": str(path),
        "kind": kind,
        "images": findings.sizes.total(),
        "sizes": {f"{width}x{height}": count for (width, height), count in findings.sizes.most_common()},
        "modes": dict(findings.modes.most_common()),
        "classes": {name: count for name, count in sorted(findings.classes.items()) if name},
        "duplicates": findings.duplicates,
        "bad_files": [{"path": file.path, "reason": file.reason} for file in findings.bad],
        "ignored": files.ignored,
        "suggestion": _suggestion(path, kind, findings),
    }


def _kind(path: Path) -> str:
    if any(idx.find(path, part, what) for part in idx.PARTS for what in ("images", "labels")):
        return "idx"
    return "cifar10" if any((cifar.find(path) / name).exists() for name in (*cifar.TRAIN, cifar.TEST)) else "folder"


def _idx(path: Path) -> Iterator[Seen]:
    for part in idx.PARTS:
        images, labels = idx.records(path, part)
        names = idx.class_names(path, 1 + int(labels.max()))
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield Seen(f"{part} {i}", names[label], (image.shape[1], image.shape[0]), "L", _digest(image))


def _cifar10(path: Path) -> Iterator[Seen]:
    folder = cifar.find(path)
    names = cifar.class_names(folder)
    for file in (*cifar.TRAIN, cifar.TEST):
        for i, (image, label) in enumerate(zip(*cifar.read(folder / file), strict=True)):
            yield Seen(f"{file} {i}", names[label], (image.shape[2], image.shape[1]), "RGB", _digest(image))


def _pictures(path: Path, files: Listing) -> Iterator[Seen | BadFile]:
    def look(file: ImageFile) -> Seen | BadFile:
        try:
            image, mode = decode(path / file.name, 3)
        except BadImage as reason:
            return BadFile(shown(file.name), str(reason))
        return Seen(shown(file.name), shown(file.group), image.size, mode, _digest(np.asarray(image)))

    return in_parallel(look, files.images)


def _digest(pixels: np.ndarray) -> bytes:
    shape = np.array(pixels.shape, dtype="<i8").tobytes()
    return hashlib.blake2b(shape + np.ascontiguousarray(pixels).tobytes(), digest_size=16).digest()


def _suggestion(path: Path, kind: str, findings: Findings) -> str | None:
    if not findings.sizes:
        return None
    sides = sorted(min(size) for size in findings.sizes.elements())
    median = sides[len(sides) // 2]
    words = [f"data.kind={kind}", f"data.path={shlex.quote(str(path))}"]
    if kind != "folder":
        return " ".join([*words, f"data.size={median}"])
    fitting = max(4, min(_LARGEST, 1 << (median.bit_length() - 1)))
    grey = all(mode in ("L", "1", "I", "I;16", "I;16B", "I;16L") for mode in findings.modes)
    words += [f"data.size={fitting}", f"data.channels={1 if grey else 3}"]
    return " ".join([*words, *(["data.on_bad_file=skip"] if findings.bad else [])])
