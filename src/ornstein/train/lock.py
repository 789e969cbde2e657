# SPDX-License-Identifier: Apache-2.0
"""One trainer per run folder, kept by the system: `flock` ends with the process, however it ends, so none is ever stale."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ornstein.base.errors import StorageError, UsageError


class Lock:
    """The right to train in a run folder, from construction to `release`.

    Args:
        folder: the run folder; made when absent.

    Raises UsageError where another trainer, of this process or any other, holds it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageError(f"Could not write {folder / 'lock'}: {error.strerror}.", "Choose a writable folder.") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            fix = "Wait until it has ended, or choose another folder with --out."
            raise UsageError(f"Another trainer is at work in {folder}.", fix) from error

    def release(self) -> None:
        """Give the folder free; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        if getattr(self, "_handle", -1) >= 0:
            self.release()
