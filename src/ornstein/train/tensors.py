# SPDX-License-Identifier: Apache-2.0
"""Tensor files, read as if an enemy had written them.

The format is safetensors: eight bytes that give the length of a JSON header, the header (name -> dtype, shape, first
and last byte), the numbers. The format has no checksum and its own reader accepts a repeated name, so here the header is
checked by hand before any memory is reserved for what it promises, and the bytes are hashed while they are read. Tensors are
read straight into place: a file costs its own size in memory once. Pickles and archives are known by their first bytes,
whatever their name, and are never opened.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import safetensors.torch
import torch
from torch import Tensor

from ornstein.base.errors import CheckpointError
from ornstein.base.files import write_bytes

_HEADER_LIMIT = 1 << 20  # bytes; parsed JSON takes up to 25 times its text, so this bounds what a hostile header costs
_DIMENSIONS_LIMIT = 16
_SIZE_LIMIT = 1 << 48
_FIX = "Use another checkpoint, or restore the file from a copy."
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_STRANGERS = {
    b"PK": "a zip archive, as torch.save writes it",
    b"\x80": "a pickle",
    b"\x1f\x8b": "a gzip archive",
    b"\x93NUMPY": "a NumPy file",
}


class Stamp(NamedTuple):
    """Size in bytes and SHA-256 (64 hexadecimal digits) of a file."""

    size: int
    sha256: str


class _Place(NamedTuple):
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def stamp_of(data: bytes) -> Stamp:
    """The stamp of a file's bytes."""
    return Stamp(len(data), hashlib.sha256(data).hexdigest())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> Stamp:
    """Write tensors of any device as one file, atomically; returns its stamp. Raises StorageError."""
    data = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    write_bytes(path, data)
    return stamp_of(data)


def read_tensors(path: Path, stamp: Stamp | None = None) -> dict[str, Tensor]:
    """Tensors of a file, on the CPU.

    Args:
        path: a regular file in safetensors format, under any name.
        stamp: what the file must be; None where nobody has written it down.

    Raises CheckpointError, naming the file, where it is anything else than that, or holds a number that is not finite.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as handle:
            size = _size_of(path, handle)
            if stamp is not None and size != stamp.size:
                _refuse(path, f"has {size} bytes where its manifest says {stamp.size}")
            digest = hashlib.sha256()
            header, begin = _read_header(path, handle, size, digest)
            tensors = {place.name: _read_tensor(path, handle, place, digest) for place in _places(path, header, begin, size)}
            if stamp is not None and digest.hexdigest() != stamp.sha256:
                _refuse(path, "is not the file its manifest describes: the SHA-256 differs")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing.", _FIX) from error
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror or error}.", _FIX) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            _refuse(path, f"holds numbers that are not finite in '{name}'")
    return dict(sorted(tensors.items()))


def check_like(path: Path, tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """Demand the names, shapes and dtypes of `like`, no more and no fewer. Raises CheckpointError naming the first fault."""
    for name in sorted(like.keys() - tensors.keys()):
        _refuse(path, f"lacks the tensor '{name}'")
    for name in sorted(tensors.keys() - like.keys()):
        _refuse(path, f"holds the tensor '{name}', which the network does not have")
    for name, expected in like.items():
        found = tensors[name]
        if found.shape != expected.shape:
            _refuse(path, f"holds '{name}' of shape {list(found.shape)} where {list(expected.shape)} is needed")
        if found.dtype != expected.dtype:
            _refuse(path, f"holds '{name}' as {found.dtype} where {expected.dtype} is needed")


def strict_json(path: Path, text: bytes) -> Any:
    """JSON without repeated names and with finite numbers only. Raises CheckpointError naming the file."""
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_named_once, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {str(error)[:120]}.", _FIX) from error


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value


def _refuse(path: Path, what: str) -> NoReturn:
    raise CheckpointError(f"{path} {what}.", _FIX)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a named pipe would wait for a writer


def _size_of(path: Path, handle: BinaryIO) -> int:
    facts = os.fstat(handle.fileno())
    if not stat.S_ISREG(facts.st_mode):
        _refuse(path, "is not a regular file")
    return facts.st_size


def _read_header(path: Path, handle: BinaryIO, size: int, digest: Any) -> tuple[dict[str, Any], int]:
    """The descriptions of the tensors and the place of the first byte of numbers."""
    start = handle.read(8)
    for mark, kind in _STRANGERS.items():
        # The first bytes of a small header look like a pickle's mark, so the length must be impossible as well.
        if start.startswith(mark) and int.from_bytes(start, "little") > _HEADER_LIMIT:
            _refuse(path, f"is {kind}, not a safetensors file; Ornstein never opens those")
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        _refuse(path, f"is cut off or no safetensors file: it promises a header of {length} bytes and has {max(size - 8, 0)}")
    if length > _HEADER_LIMIT:
        _refuse(path, f"has a header of {length} bytes; the limit is {_HEADER_LIMIT}")
    text = handle.read(length)
    digest.update(start)
    digest.update(text)
    header = strict_json(path, text)
    if not isinstance(header, dict):
        _refuse(path, "has a header that is no object")
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        _refuse(path, "has notes in its header that are not text")
    return header, 8 + length


def _places(path: Path, header: dict[str, Any], begin: int, size: int) -> list[_Place]:
    """Every tensor in the order of its bytes; together they must cover the file, without a gap or an overlap."""
    at = begin
    places = sorted((_place(path, name, entry, begin) for name, entry in header.items()), key=lambda place: (place.begin, place.end))
    for place in places:
        if place.begin != at:
            _refuse(path, f"has {'an overlap' if place.begin < at else 'a gap'} before '{place.name}'")
        at = place.end
    if at != size:
        _refuse(path, f"has {size} bytes where its header describes {at}")
    return places


def _place(path: Path, name: str, entry: Any, begin: int) -> _Place:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"describes '{name}' by something else than dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _DTYPES:
        _refuse(path, f"has '{name}' of the unknown dtype {str(kind)[:40]!r}")
    if not _counts(shape) or len(shape) > _DIMENSIONS_LIMIT or math.prod(max(length, 1) for length in shape) > _SIZE_LIMIT:
        _refuse(path, f"has '{name}' of an impossible shape")
    dtype = _DTYPES[kind]
    if not _counts(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        _refuse(path, f"has '{name}' with offsets that do not fit its shape")
    return _Place(name, dtype, tuple(shape), begin + offsets[0], begin + offsets[1])


def _counts(value: Any) -> bool:
    """Whether a JSON value is a list of whole numbers >= 0 (true and false are no numbers here)."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _SIZE_LIMIT for item in value)


def _read_tensor(path: Path, handle: BinaryIO, place: _Place, digest: Any) -> Tensor:
    tensor = torch.empty(place.shape, dtype=place.dtype)
    if place.end == place.begin:
        return tensor
    room = tensor.reshape(-1).view(torch.uint8).numpy()
    if handle.readinto(room) != len(room):  # type: ignore[attr-defined]
        _refuse(path, f"ended inside '{place.name}'")
    digest.update(room)
    if place.dtype == torch.bool and room.max() > 1:
        _refuse(path, f"holds something else than true and false in '{place.name}'")
    return tensor
