# SPDX-License-Identifier: Apache-2.0
"""The only way a file gets written: to a temporary name beside it, synced, then renamed into place.

A reader therefore sees the old file or the new one, never half of one, and a crash leaves at most a file whose name
contains `.tmp-`, which `remove_leftovers` clears. The exception is a log that grows by whole lines (`LineLog`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ornstein.base.errors import CheckpointError, StorageError

_MARK = ".tmp-"


def _storage_error(path: Path, error: OSError) -> StorageError:
    what = f"Could not write {path}: {error.strerror or error}."
    return StorageError(what, "Free space or choose a writable folder; what was there before is unchanged.")


def sync_file(path: Path) -> None:
    """Force a file's contents, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically, making parent folders. Raises StorageError, leaving an old file unchanged."""
    temporary = path.with_name(f"{path.name}{_MARK}{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_file(path.parent)
    except OSError as error:
        raise _storage_error(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document (two-space indent, key order kept, NaN refused) atomically; see `write_bytes`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises CheckpointError naming the file when it is missing, no JSON, or no object."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing.", "Check that the folder is a run that Ornstein made.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}).", "Restore the file from a copy, or start the run again.") from error
    if not isinstance(value, dict):
        what = f"{path} holds {type(value).__name__} where an object is expected."
        raise CheckpointError(what, "Restore the file from a copy, or start the run again.")
    return value


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on success sync every file in it and rename it to `path`.

    On any exception the temporary folder is removed and `path` is untouched. Raises StorageError where the system
    refuses a write, or where `path` exists already.
    """
    temporary = path.with_name(f"{path.name}{_MARK}{os.getpid()}")
    try:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for entry in (*sorted(temporary.rglob("*")), temporary):
                sync_file(entry)
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_file(path.parent)
    except OSError as error:
        raise _storage_error(path, error) from error


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what interrupted writes left in `folder` (names with `.tmp-`, this level only); returns what was removed."""
    removed = []
    for path in sorted(folder.glob(f"*{_MARK}*")) if folder.is_dir() else []:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        removed.append(path)
    return removed


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while piece := handle.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a JSON value with sorted keys: the identity of a recipe or setting."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class LineLog:
    """A JSON-lines file that grows by whole lines; a line cut off by a crash is dropped at the next opening.

    Args:
        path: the file; made with its parents when absent.
        keep: bytes to keep from the start (the position stored with a checkpoint); None keeps every whole line.
    """

    def __init__(self, path: Path, keep: int | None = None) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close(); a buffer would keep what the disk refused
            size = self._handle.tell()
            if size:
                text = path.read_bytes()
                whole = text.rfind(b"\n") + 1
                self._handle.truncate(whole if keep is None else min(keep, whole))
        except OSError as error:
            raise _storage_error(path, error) from error

    def write(self, record: dict[str, Any]) -> None:
        """Append one record as a line and hand it to the system. Raises StorageError; a cut line is removed again."""
        before = self.position
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        try:
            while line:
                line = line[self._handle.write(line) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._handle.truncate(before)
            raise _storage_error(self.path, error) from error

    @property
    def position(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._handle.fileno()).st_size

    def sync(self) -> None:
        """Force every line so far to the disk."""
        try:
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise _storage_error(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            self._handle.close()


def read_lines(path: Path) -> list[Any]:
    """The lines of a JSON-lines file, usually objects; a last line that was cut off is left out, a missing file gives an empty list."""
    if not path.exists():
        return []
    text = path.read_bytes()
    records = []
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        try:
            records.append(json.loads(line))
        except ValueError as error:
            fix = "Remove that line, or delete the file: it holds only the log."
            raise CheckpointError(f"{path} has a line that is not JSON.", fix) from error
    return records
