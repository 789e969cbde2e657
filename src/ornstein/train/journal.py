# SPDX-License-Identifier: Apache-2.0
"""What a run writes line by line: metrics without times, times apart, and TensorBoard as a spectator of the first."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from ornstein.base.errors import CheckpointError
from ornstein.base.files import LineLog, read_lines
from ornstein.train.board import Board


class Journal:
    """The logs of a run folder, open for one session.

    Args:
        folder: the run folder.
        keep: bytes of metrics.jsonl that belong to the run so far; what lies beyond will be written again.
        step: at which the session begins.
        tensorboard: whether to write TensorBoard logs; raises MissingExtra where the package is absent.
    """

    def __init__(self, folder: Path, keep: int, step: int, tensorboard: bool) -> None:
        self._board = Board(folder / "tensorboard", step) if tensorboard else None
        self._metrics = LineLog(folder / "metrics.jsonl", keep=keep)
        self._times = LineLog(folder / "times.jsonl")
        before = 0.0
        with contextlib.suppress(CheckpointError, KeyError, TypeError, ValueError):
            before = max((float(line["seconds"]) for line in read_lines(folder / "times.jsonl")), default=0.0)
        self._began = time.monotonic() - before

    def write(self, record: dict[str, Any]) -> None:
        """Add a record to the metrics. Raises StorageError."""
        self._metrics.write(record)
        if self._board is not None:
            self._board.write(record)

    def clock(self, step: int) -> float:
        """Note when a step was reached; returns seconds of training over all sessions. Raises StorageError."""
        seconds = time.monotonic() - self._began
        self._times.write({"step": step, "seconds": round(seconds, 3)})
        return seconds

    def settle(self) -> int:
        """Force the metrics to the disk and return their length in bytes. Raises StorageError."""
        self._metrics.sync()
        return self._metrics.position

    def close(self) -> None:
        """Close every file."""
        self._metrics.close()
        self._times.close()
        if self._board is not None:
            self._board.close()
