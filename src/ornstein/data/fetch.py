# SPDX-License-Identifier: Apache-2.0
"""Download a public data set, for the one command that a user types for it; nothing else here opens a connection.

A file is kept in memory until its SHA-256 is the one listed, and nothing is written before every file of the set is
there: a broken line, a wrong mirror or a changed file leaves the folder as it was. A file that is there already with
the right SHA-256 is not asked for again.

The sums are those of the files as published since 1998 (MNIST), 2017 (Fashion-MNIST) and 2009 (CIFAR-10).
"""

from __future__ import annotations

import hashlib
import http.client
import io
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ornstein.base.errors import DataError, UsageError
from ornstein.base.files import sha256, write_bytes
from ornstein.base.registry import nearest
from ornstein.data import cifar

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes received and the bytes expected."""

TIMEOUT = 30.0  # seconds without a byte
_PIECE = 1 << 16
_RETRY = "Nothing was written. Check the network and try again, or name another source with --mirror URL."
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its name, its length in bytes and its SHA-256 as 64 hexadecimal digits."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Collection:
    """A public data set.

    Args:
        base: URL of the folder that holds the files.
        files: what to download.
        members: for .tar.gz files: the members to keep (without their folder) and the most bytes each may have.
        beside: text files to write beside the data.
    """

    base: str
    files: tuple[RemoteFile, ...]
    members: Mapping[str, int] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)


CATALOGUE: Mapping[str, Collection] = {
    "mnist": Collection(
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        (
            RemoteFile("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            RemoteFile("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            RemoteFile("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            RemoteFile("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "fashion-mnist": Collection(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        (
            RemoteFile("train-images-idx3-ubyte.gz", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            RemoteFile("train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            RemoteFile("t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            RemoteFile("t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
        beside={"classes.txt": "".join(f"{name}\n" for name in _FASHION)},
    ),
    "cifar10": Collection(
        "https://www.cs.toronto.edu/~kriz",
        (RemoteFile("cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"),),
        members={**dict.fromkeys((*cifar.TRAIN, cifar.TEST), 10_000 * cifar.RECORD), cifar.META: 1024},
    ),
}


def fetch(
    name: str,
    out: Path,
    mirror: str | None = None,
    progress: Progress = lambda name, received, expected: None,
    catalogue: Mapping[str, Collection] = CATALOGUE,
) -> list[Path]:
    """Download a data set into a folder.

    Args:
        name: a name in the catalogue.
        out: the folder, made when absent; files of the same names are replaced.
        mirror: URL of another folder with the same files, http or https.
        progress: told of every piece received.
        catalogue: the data sets known.

    Returns:
        The data set's files.

    Raises:
        UsageError: an unknown name, or a mirror that is no http(s) URL.
        DataError: the network or server fails, or a file is not the published one; nothing is written.
        StorageError: a file cannot be written.
    """
    if name not in catalogue:
        what = f"There is no data set '{name}' to fetch; the nearest is '{nearest(name, catalogue)}'."
        raise UsageError(what, f"Choose one of: {', '.join(catalogue)}.")
    collection = catalogue[name]
    base = (mirror or collection.base).rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise UsageError(f"The mirror '{base}' is no http or https address.", "Give the URL of the folder that holds the files.")
    contents: dict[str, bytes | None] = {}
    for file in collection.files:
        if collection.members:
            contents |= _unpacked(_downloaded(f"{base}/{file.name}", file, progress), file.name, collection.members)
        else:
            contents[file.name] = None if _is_there(out / file.name, file) else _downloaded(f"{base}/{file.name}", file, progress)
    contents |= {beside: text.encode() for beside, text in collection.beside.items()}
    for target, data in contents.items():
        if data is not None:
            write_bytes(out / target, data)
    return [out / target for target in contents]


def _is_there(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256


def _downloaded(url: str, file: RemoteFile, progress: Progress) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "ornstein"})
    data = bytearray()
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            while len(data) <= file.size and (piece := response.read(_PIECE)):
                data += piece
                progress(file.name, len(data), file.size)
    except urllib.error.HTTPError as error:
        raise DataError(f"{url} answered {error.code} {error.reason}.", _RETRY) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{url} could not be read ({getattr(error, 'reason', error)}).", _RETRY) from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        length = f"more than {file.size}" if len(data) > file.size else f"{len(data)} of {file.size}"
        raise DataError(f"{url} is not the published file: {length} bytes came, and the SHA-256 differs.", _RETRY)
    return bytes(data)


def _unpacked(data: bytes, name: str, members: Mapping[str, int]) -> dict[str, bytes]:
    """The wanted members of a .tar.gz, by their names without folders; no other member is looked at."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            for entry in archive:
                target = Path(entry.name).name
                stream = archive.extractfile(entry) if target in members and entry.isreg() else None
                if stream is not None and entry.size <= members[target]:
                    found[target] = stream.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"The archive {name} cannot be unpacked ({error}).", _RETRY) from error
    if missing := [member for member in members if member not in found]:
        raise DataError(f"The archive {name} does not hold {', '.join(missing)} as expected.", _RETRY)
    return found
