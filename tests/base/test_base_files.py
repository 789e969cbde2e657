# SPDX-License-Identifier: Apache-2.0
"""Files are whole or absent, whatever fails in between."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ornstein.base import files
from ornstein.base.errors import CheckpointError, StorageError


@contextlib.contextmanager
def _disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _refuse(*arguments: Any, **named: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_can_be_read_and_parents_are_made(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "a" / "b" / "raw", b"\x00\xff")
    files.write_text(tmp_path / "a" / "text", "Ornstein–Uhlenbeck")
    files.write_json(tmp_path / "value.json", {"z": [1, 2.5, None], "a": "é"})
    assert (tmp_path / "a" / "b" / "raw").read_bytes() == b"\x00\xff"
    assert (tmp_path / "a" / "text").read_text(encoding="utf-8") == "Ornstein–Uhlenbeck"
    assert files.read_json(tmp_path / "value.json") == {"z": [1, 2.5, None], "a": "é"}
    assert list(json.loads((tmp_path / "value.json").read_text())) == ["z", "a"]
    assert _names(tmp_path) == ["a", "value.json"]


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    files.write_text(tmp_path / "file", "old")
    monkeypatch.setattr(os, broken, _refuse)
    with pytest.raises(StorageError, match=r"Could not write .*file: No space left on device\. Free space"):
        files.write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert _names(tmp_path) == ["file"]


def test_a_full_disk_leaves_the_old_file_and_no_leftover(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "file", b"old")
    with _disk_of(1000), pytest.raises(StorageError, match="Could not write"):
        files.write_bytes(tmp_path / "file", b"x" * 5000)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert _names(tmp_path) == ["file"]


def test_contents_reach_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renaming first would let a power cut leave an empty file under the right name."""
    order, sync, replace = [], os.fsync, os.replace

    def watched_sync(handle: int) -> None:
        order.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        sync(handle)

    def watched_replace(source: Any, target: Any) -> None:
        order.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(os, "replace", watched_replace)
    monkeypatch.setattr(os, "rename", watched_replace)
    files.write_text(tmp_path / "file", "text")
    assert order == ["sync file", "rename", "sync folder"]
    order.clear()
    with files.atomic_folder(tmp_path / "folder") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("text")
    assert order == ["sync folder", "sync file", "sync folder", "rename", "sync folder"]


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "value.json", {"loss": float("nan")})
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing"), (b"{", "not readable"), (b"\xff\xfe", "not readable"), (b"[1]", "holds list"), (b"[" * 100000, "not readable")],
    ids=["missing", "cut", "no text", "list", "deep"],
)
def test_a_bad_json_file_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"run.json.*{message}"):
        files.read_json(tmp_path / "run.json")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with files.atomic_folder(target) as folder:
        (folder / "file").write_text("text")
        assert not target.exists()
    assert _names(target) == ["file"]
    assert _names(tmp_path / "deep") == ["folder"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_folder_that_was_not_finished_never_appears(tmp_path: Path, error: type[BaseException]) -> None:
    def fill_and_fail() -> None:
        with files.atomic_folder(tmp_path / "folder") as folder:
            (folder / "file").write_text("text")
            raise error

    with pytest.raises(error):
        fill_and_fail()
    assert _names(tmp_path) == []


def test_a_folder_on_a_full_disk_never_appears(tmp_path: Path) -> None:
    with _disk_of(1000), pytest.raises(StorageError), files.atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").write_bytes(b"x" * 5000)
    assert _names(tmp_path) == []


@pytest.mark.parametrize("content", [[], ["file"]])
def test_a_folder_is_never_replaced(tmp_path: Path, content: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    for name in content:
        (tmp_path / "folder" / name).write_text("old")
    with pytest.raises(StorageError, match="exists"), files.atomic_folder(tmp_path / "folder"):
        pytest.fail("the folder was handed out")  # pragma: no cover
    assert _names(tmp_path / "folder") == content
    assert _names(tmp_path) == ["folder"]


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "step-1").mkdir()
    (tmp_path / f"step-2{files._MARK}99").mkdir()
    (tmp_path / f"step-2{files._MARK}99" / "file").write_text("half")
    (tmp_path / f"run.json{files._MARK}99").write_text("half")
    assert [path.name for path in files.remove_leftovers(tmp_path)] == ["run.json.tmp-99", "step-2.tmp-99"]
    assert _names(tmp_path) == ["step-1"]
    assert files.remove_leftovers(tmp_path / "absent") == []


def test_digests_are_stable(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(content)
    assert files.sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert files.digest_of({"b": 1, "a": [1.5, None]}) == files.digest_of({"a": [1.5, None], "b": 1}) == "ad3879169fd83895"
    assert files.digest_of({"a": 1}) != files.digest_of({"a": 2})


def test_a_log_grows_by_lines_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "metrics.jsonl"
    log = files.LineLog(path)
    log.write({"step": 1})
    mark = log.position
    log.write({"step": 2})
    log.sync()
    log.close()
    assert files.read_lines(path) == [{"step": 1}, {"step": 2}]
    again = files.LineLog(path)
    again.write({"step": 3})
    assert files.read_lines(path) == [{"step": 1}, {"step": 2}, {"step": 3}]
    back = files.LineLog(path, keep=mark)
    back.write({"step": 9})
    assert files.read_lines(path) == [{"step": 1}, {"step": 9}]
    assert path.read_bytes() == b'{"step": 1}\n{"step": 9}\n'


@pytest.mark.parametrize("keep", [None, 10_000])
def test_a_line_cut_off_by_a_crash_is_dropped(tmp_path: Path, keep: int | None) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    assert files.read_lines(path) == [{"step": 1}]
    log = files.LineLog(path, keep)
    log.write({"step": 2})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_a_line_the_disk_refuses_is_taken_back_and_the_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = files.LineLog(path)
    log.write({"step": 1})
    with _disk_of(40), pytest.raises(StorageError, match=r"metrics\.jsonl"):
        log.write({"step": 2, "note": "x" * 100})
    assert path.read_bytes() == b'{"step": 1}\n'
    log.write({"step": 3})
    log.close()
    assert files.read_lines(path) == [{"step": 1}, {"step": 3}]


def test_a_log_that_cannot_be_synced_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = files.LineLog(tmp_path / "metrics.jsonl")
    monkeypatch.setattr(os, "fsync", _refuse)
    with pytest.raises(StorageError, match="No space left"):
        log.sync()


def test_a_log_refuses_nan_and_names_broken_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = files.LineLog(path)
    with pytest.raises(ValueError, match="Out of range"):
        log.write({"loss": float("inf")})
    assert log.position == 0
    path.write_text('{"step": 1}\nnot json\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl has a line that is not JSON"):
        files.read_lines(path)
    assert files.read_lines(tmp_path / "absent") == []


def test_an_unwritable_place_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for write in (lambda path: files.write_text(path, ""), files.LineLog, lambda path: files.atomic_folder(path).__enter__()):
        with pytest.raises(StorageError, match="Could not write"):
            write(tmp_path / "file" / "below")
