# SPDX-License-Identifier: Apache-2.0
"""Tensor files: what is written is what the safetensors library reads, and a hostile file is a CheckpointError, nothing else."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import struct
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from train_world import child, splice

from ornstein.base.errors import CheckpointError, StorageError
from ornstein.train.tensors import Stamp, check_like, read_tensors, write_tensors

SOUND = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False]), "n": torch.tensor(7)}


def _file(path: Path, header: Any, body: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def _entry(begin: int, end: int, shape: list[Any], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


KINDS = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", [getattr(torch, kind) for kind in KINDS], ids=KINDS)
def test_round_trip_and_both_ways_with_the_library(place: Path, dtype: torch.dtype) -> None:
    counted = (torch.arange(24) % 5).to(dtype).reshape(2, 3, 4)
    tensors = {"a": counted, "b": torch.ones((), dtype=dtype), "c": torch.zeros(0, 3, dtype=dtype)}
    stamp = write_tensors(place / "own.safetensors", tensors)
    safetensors.torch.save_file(tensors, place / "theirs.safetensors", {"note": "any"})
    for found in (
        read_tensors(place / "own.safetensors", stamp),
        read_tensors(place / "theirs.safetensors"),
        safetensors.torch.load_file(place / "own.safetensors"),
    ):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].dtype == dtype
            assert torch.equal(found[name], tensor)


def test_strided_tensors_and_no_tensors(place: Path) -> None:
    tensors = {"t": torch.arange(12.0).reshape(3, 4).T, "c": torch.ones(1, 3, 2, 2).to(memory_format=torch.channels_last)}
    write_tensors(place / "t.safetensors", tensors)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in read_tensors(place / "t.safetensors").items())
    assert read_tensors(place / "none.safetensors", write_tensors(place / "none.safetensors", {})) == {}


def test_tensors_do_not_share_memory_with_the_file(place: Path) -> None:
    stamp = write_tensors(place / "w.safetensors", SOUND)
    read_tensors(place / "w.safetensors", stamp)["w"].zero_()
    assert torch.equal(read_tensors(place / "w.safetensors", stamp)["w"], SOUND["w"])


class Bomb:
    """A pickle that would leave a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["w.safetensors", "w.SafeTensors", "w.SAFETENSORS", "w.pt", "w"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_under_any_name_is_refused_and_not_run(place: Path, name: str, protocol: int) -> None:
    (place / name).write_bytes(pickle.dumps(Bomb(place / "mark"), protocol))
    with pytest.raises(CheckpointError, match=name):
        read_tensors(place / name)
    assert not (place / "mark").exists()


def test_archives_are_named_for_what_they_are(place: Path) -> None:
    torch.save({"w": torch.zeros(3)}, place / "zip.safetensors")
    with pytest.raises(CheckpointError, match="zip archive"):
        read_tensors(place / "zip.safetensors")
    with zipfile.ZipFile(place / "bomb.safetensors", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(50_000_000))
    with pytest.raises(CheckpointError, match="zip archive"):
        read_tensors(place / "bomb.safetensors")
    (place / "p.safetensors").write_bytes(pickle.dumps(list(range(1000)), 4))
    with pytest.raises(CheckpointError, match="a pickle"):
        read_tensors(place / "p.safetensors")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9])
def test_files_too_short_to_be_anything(place: Path, length: int) -> None:
    (place / "w").write_bytes(b"\x02" + bytes(max(length - 1, 0)) if length else b"")
    with pytest.raises(CheckpointError, match="w "):
        read_tensors(place / "w")


FOUR = bytes(4)
HOSTILE: dict[str, tuple[Any, bytes]] = {
    "no object": ([], b""),
    "no JSON": (b"{", b""),
    "not UTF-8": (b'{"\xff":1}', b""),
    "a name twice": (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}', FOUR),
    "a key twice": (b'{"a":{"dtype":"F32","dtype":"I32","shape":[1],"data_offsets":[0,4]}}', FOUR),
    "overlap": ({"a": _entry(0, 4, [1]), "b": _entry(0, 4, [1])}, FOUR),
    "gap": ({"a": _entry(0, 4, [1]), "b": _entry(8, 12, [1])}, bytes(12)),
    "bytes behind": ({"a": _entry(0, 4, [1])}, bytes(5)),
    "bytes missing": ({"a": _entry(0, 4, [1])}, bytes(3)),
    "4 GB claimed by a shape": ({"a": _entry(0, 4 << 30, [1 << 30])}, FOUR),
    "shape and offsets differ": ({"a": _entry(0, 4, [2])}, FOUR),
    "negative length": ({"a": _entry(0, 4, [-1])}, FOUR),
    "two negatives": ({"a": _entry(0, 4, [-1, -1])}, FOUR),
    "length is true": ({"a": _entry(0, 4, [True])}, FOUR),
    "length is a float": ({"a": _entry(0, 4, [1.0])}, FOUR),
    "length is huge": ({"a": _entry(0, 0, [0, 1 << 80])}, b""),
    "product is huge": ({"a": _entry(0, 0, [0, 1 << 40, 1 << 40])}, b""),
    "17 dimensions": ({"a": _entry(0, 4, [1] * 17)}, FOUR),
    "negative offset": ({"a": _entry(-4, 0, [1])}, FOUR),
    "three offsets": ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 4]}}, FOUR),
    "unknown dtype": ({"a": _entry(0, 4, [1], "F31")}, FOUR),
    "dtype is a list": ({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}, FOUR),
    "further key": ({"a": {**_entry(0, 4, [1]), "path": "../x"}}, FOUR),
    "entry is text": ({"a": "../x"}, b""),
    "notes are no text": ({"__metadata__": {"a": 1}}, b""),
    "notes are a list": ({"__metadata__": ["../x"]}, b""),
    "NaN in the header": (b'{"a":NaN}', b""),
    "infinity in the header": (b'{"a":1e999}', b""),
    "deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
    "number of 5000 digits": (b'{"a":' + b"9" * 5000 + b"}", b""),
    "NaN": ({"a": _entry(0, 4, [1])}, struct.pack("<f", float("nan"))),
    "infinity": ({"a": _entry(0, 4, [1])}, struct.pack("<f", float("-inf"))),
    "NaN in bfloat16": ({"a": _entry(0, 2, [1], "BF16")}, b"\xc0\x7f"),
    "neither true nor false": ({"a": _entry(0, 1, [1], "BOOL")}, b"\x02"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_headers(place: Path, kind: str) -> None:
    with pytest.raises(CheckpointError, match=r"evil\.safetensors"):
        read_tensors(_file(place / "evil.safetensors", *HOSTILE[kind]))


def test_an_overlap_is_called_one(place: Path) -> None:
    header = {"a": _entry(0, 8, [2]), "b": _entry(4, 8, [1]), "c": _entry(8, 12, [1])}
    with pytest.raises(CheckpointError, match="an overlap before 'b'"):
        read_tensors(_file(place / "w", header, bytes(12)))


def test_the_sound_neighbour_of_the_hostile_headers_is_read(place: Path) -> None:
    notes = {"path": "../../etc/passwd"}
    found = read_tensors(_file(place / "good", {"__metadata__": notes, "a": _entry(0, 4, [1]), "b": _entry(4, 8, [1], "I32")}, bytes(8)))
    assert {name: tensor.tolist() for name, tensor in found.items()} == {"a": [0.0], "b": [0]}
    assert list(place.iterdir()) == [place / "good"]


def test_a_header_of_4_gb_is_refused_by_its_length_alone(place: Path) -> None:
    for length in (4 << 30, 1 << 63, (1 << 64) - 1, 2 << 20):
        (place / "w").write_bytes(struct.pack("<Q", length) + b"{" + bytes(1000))
        with pytest.raises(CheckpointError, match="promises a header"):
            read_tensors(place / "w")
    text = b"{" + b" " * (2 << 20) + b"}"
    (place / "w").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(CheckpointError, match="limit"):
        read_tensors(place / "w")


def test_what_is_no_file(place: Path) -> None:
    os.mkfifo(place / "pipe")
    (place / "folder").mkdir()
    (place / "loop").symlink_to(place / "loop")
    for name in ("pipe", "folder", "loop", "absent"):
        with pytest.raises(CheckpointError, match=name):
            read_tensors(place / name)
    assert threading.active_count() < 10


def test_stamp_decides_before_and_after_reading(place: Path) -> None:
    stamp = write_tensors(place / "w", SOUND)
    assert read_tensors(place / "w", stamp).keys() == SOUND.keys()
    with pytest.raises(CheckpointError, match="bytes"):
        read_tensors(place / "w", stamp._replace(size=stamp.size + 1))
    with pytest.raises(CheckpointError, match="SHA-256"):
        read_tensors(place / "w", Stamp(stamp.size, "0" * 64))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda t: t.pop("w"), "lacks the tensor 'w'"),
        (lambda t: t.update(x=torch.zeros(1)), "'x'"),
        (lambda t: t.update(w=t["w"].T), "shape"),
        (lambda t: t.update(w=t["w"].double()), "float64"),
    ],
)
def test_strict_about_names_shapes_and_dtypes(harm: Any, says: str) -> None:
    found: dict[str, Tensor] = dict(SOUND)
    check_like(Path("f"), found, SOUND)
    harm(found)
    with pytest.raises(CheckpointError, match=says):
        check_like(Path("f"), found, SOUND)


def test_unwritable_folder(place: Path) -> None:
    (place / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        write_tensors(place / "file" / "w", SOUND)


# -- memory ---------------------------------------------------------------------------------------------------------------


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read_within(path: Path, allowed: int) -> None:
    write_tensors(path.with_name("warm"), SOUND)
    read_tensors(path.with_name("warm"))
    before = _peak()
    try:
        read_tensors(path)
        sys.stderr.write("read\n")
    except CheckpointError:
        sys.stderr.write("refused\n")
    sys.exit(0 if _peak() - before < allowed else 1)


@pytest.mark.parametrize("kind", ["sound", "many brackets", "many names", "big claim"])
def test_memory_stays_below_twice_the_file_and_50_mb(place: Path, kind: str) -> None:
    path = place / "w.safetensors"
    if kind == "sound":
        write_tensors(path, {str(i): torch.ones(1 << 20) for i in range(16)})
    elif kind == "many brackets":
        _file(path, b'{"a":[' + b"{}," * 330_000 + b"{}]}")
    elif kind == "many names":
        _file(path, b"{" + b",".join(b'"%d":{}' % i for i in range(80_000)) + b"}")
    else:
        _file(path, {"a": _entry(0, 8 << 30, [2 << 30])}, bytes(1000))
    process = child(_read_within, path, 2 * path.stat().st_size + 50_000_000)
    process.join(60)
    assert process.exitcode == 0


# -- fuzz -----------------------------------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_NUMBERS = st.lists(st.integers(-1, 9) | _JSON, max_size=4)
_DTYPE = st.sampled_from(["F32", "F64", "BF16", "I64", "U8", "BOOL", "F31", ""]) | _JSON
_ENTRY = st.fixed_dictionaries({"dtype": _DTYPE, "shape": _NUMBERS | _JSON, "data_offsets": _NUMBERS | _JSON}) | _JSON
_HEADER = st.dictionaries(st.sampled_from(["a", "b", "__metadata__", "\0", "../x"]) | st.text(max_size=8), _ENTRY, max_size=4) | _JSON


def _read_or_refuse(path: Path) -> None:
    try:
        found = read_tensors(path)
    except CheckpointError:
        return
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert safetensors.torch.load_file(path).keys() == found.keys()  # what we accept, the library accepts


def test_fuzzed_headers(place: Path) -> None:
    @settings(max_examples=250, deadline=1000)
    @given(header=_HEADER, body=st.binary(max_size=40))
    def holds(header: Any, body: bytes) -> None:
        _read_or_refuse(_file(place / "w", header, body))

    holds()


def test_fuzzed_bytes(place: Path) -> None:
    write_tensors(place / "sound", SOUND)
    sound = (place / "sound").read_bytes()
    change = st.tuples(st.integers(0, len(sound) - 1), st.integers(0, 255))

    @settings(max_examples=150, deadline=1000)
    @given(st.lists(change, min_size=1, max_size=4), st.integers(0, len(sound)) | st.just(len(sound)), st.binary(max_size=8) | st.just(b""))
    def holds(changes: list[tuple[int, int]], cut: int, more: bytes) -> None:
        text = bytearray(sound)
        for at, value in changes:
            text[at] = value
        (place / "w").write_bytes(text[:cut] + more)
        _read_or_refuse(place / "w")

    holds()


@pytest.mark.slow
def test_75000_headers_spliced_at_random(place: Path) -> None:
    chance = random.Random(7)
    write_tensors(place / "sound", SOUND)
    sound = (place / "sound").read_bytes()
    length = int.from_bytes(sound[:8], "little")
    for _ in range(75_000):
        text = splice(sound[8 : 8 + length], chance)
        claim = len(text) if chance.random() < 0.9 else chance.randrange(1 << chance.randrange(1, 64))
        (place / "w").write_bytes(struct.pack("<Q", claim) + text + sound[8 + length :])
        began = time.monotonic()
        _read_or_refuse(place / "w")
        assert time.monotonic() - began < 1.0
