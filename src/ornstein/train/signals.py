# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C once or SIGTERM asks the run to save and leave; Ctrl-C twice leaves now."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Signals:
    """Context manager that notes SIGINT and SIGTERM in `received` and puts the old handlers back at its end.

    The second SIGINT raises KeyboardInterrupt wherever the program is; writes are atomic, so nothing is half done. Away
    from the main thread Python allows no handlers, and nothing is noted.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
