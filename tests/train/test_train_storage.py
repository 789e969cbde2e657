# SPDX-License-Identifier: Apache-2.0
"""R10: the disk refuses a write, anywhere. The old checkpoint stays, the error is clear, a restart leaves nothing behind."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from train_world import CALLS, child, ending, leftovers, run, trainer

from ornstein.base import files
from ornstein.base.errors import StorageError
from ornstein.base.files import read_lines
from ornstein.train.checkpoint import newest_valid

CONFIG: dict[str, Any] = {"steps": 6, "checkpoint_every": 2, "evaluate_every": 3, "log_every": 1}


class Full:
    """A disk that is full at its k-th operation and at every one from there on, until it is mended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, number: int = errno.ENOSPC) -> None:
        self.at, self.number, self.count = at, number, 0
        for name in CALLS:
            if name not in ("unlink", "ftruncate"):  # a full disk still lets go
                monkeypatch.setattr(os, name, self._counted(getattr(os, name)))
        monkeypatch.setattr(files, "open", self._open, raising=False)

    def spend(self) -> bool:
        self.count += 1
        return self.count >= self.at

    def refuse(self) -> OSError:
        return OSError(self.number, os.strerror(self.number))

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*arguments: Any, **named: Any) -> Any:
            if self.spend():
                raise self.refuse()
            return original(*arguments, **named)

        return hooked

    def _open(self, path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        handle = open(path, mode, *arguments, **named)  # noqa: SIM115 - the caller closes it
        return handle if "r" in mode else Pen(handle, self)


class Pen:
    """A file being written; a refused write leaves half of its bytes, as a disk does."""

    def __init__(self, handle: Any, disk: Full) -> None:
        self._handle, self._disk = handle, disk

    def write(self, data: bytes) -> int:
        if self._disk.spend():
            self._handle.write(data[: len(data) // 2])
            self._handle.flush()
            raise self._disk.refuse()
        return int(self._handle.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def __enter__(self) -> Pen:
        return self

    def __exit__(self, *error: Any) -> None:
        self._handle.close()


def _operations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        disk = Full(patch, at=1 << 60)
        run(trainer(folder, **CONFIG))
        return disk.count


@pytest.fixture
def whole(place: Path) -> dict[str, bytes]:
    run(trainer(place / "whole", **CONFIG))
    return ending(place / "whole", 6)


def _newest(folder: Path) -> int:
    found = newest_valid(folder / "checkpoints", pytest.fail)
    return -1 if found is None else found.step


def _steps_saved(folder: Path) -> Iterator[int]:
    made = trainer(folder, **CONFIG)
    try:
        made.start()
        yield from (record["step"] for record in made.records() if record["event"] == "checkpoint")
    finally:
        made.close()


@pytest.mark.parametrize("stride", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_full_disk_at_any_operation(place: Path, whole: dict[str, bytes], stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    total = _operations(place / "count", monkeypatch)
    assert total > 100
    for at in range(1, total + 1, stride):
        folder = place / f"run-{at}"
        saved: list[int] = []
        with monkeypatch.context() as patch:
            Full(patch, at, errno.ENOSPC if at % 2 else errno.EIO)
            with pytest.raises(StorageError) as error:
                saved.extend(_steps_saved(folder))
        assert str(folder) in str(error.value)
        assert os.strerror(errno.ENOSPC if at % 2 else errno.EIO) in str(error.value)
        assert _newest(folder) >= max(saved, default=-1)
        assert all("step" in line for line in read_lines(folder / "metrics.jsonl"))
        run(trainer(folder, **CONFIG), resume=True)
        assert leftovers(folder) == []
        assert ending(folder, 6) == whole


def _train_with_limit(folder: Path, limit: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        run(trainer(folder, **CONFIG), resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)  # whoever measures coverage writes at the end


@pytest.mark.parametrize("limit", [0, 100, 500, 1_000, 5_000, 10_000])
def test_a_limit_of_the_system_on_file_size(place: Path, limit: int) -> None:
    run(trainer(place / "run", **{**CONFIG, "steps": 2, "decay": "constant"}))
    before = (place / "run" / "metrics.jsonl").read_bytes()
    process = child(_train_with_limit, place / "run", limit)
    process.join(60)
    assert process.exitcode == 4
    assert _newest(place / "run") == 2
    assert (place / "run" / "metrics.jsonl").read_bytes().startswith(before)
    assert all("step" in line for line in read_lines(place / "run" / "metrics.jsonl"))
    run(trainer(place / "run", **CONFIG, decay="constant"), resume=True)
    assert leftovers(place / "run") == []
    assert _newest(place / "run") == 6


def test_a_folder_that_cannot_be_written(place: Path) -> None:
    (place / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        trainer(place / "file" / "run")
