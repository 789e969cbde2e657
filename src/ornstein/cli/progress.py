# SPDX-License-Identifier: Apache-2.0
"""How a command shows that it is at work: a live bar on a terminal, now and then a plain line elsewhere; always on stderr.

It consumes the records that the actions hand to `show`: those of the trainer, told apart by "event" (start, log, skip,
evaluation, time limit, note; others are passed over), {"drawn": so far, "count": all} while samples are drawn, for which
"measuring" names what they are for, and {"warning": sentence}. Records of a run that is trained on the way name their
"stage" and the number of steps "of" it.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from rich.progress import TaskID

_LINES = 20  # plain lines per stage


@runtime_checkable
class Display(Protocol):
    """Shows the state of one stage of work."""

    def update(self, stage: str, done: int, total: int, text: str) -> None:
        """`done` of `total` units of a stage are done; `text` says more."""

    def line(self, text: str) -> None:
        """A sentence that stays."""

    def close(self) -> None:
        """Nothing more will be shown."""


class Lines:
    """Plain text without control codes, for logs and pipes: about twenty lines per stage."""

    def __init__(self) -> None:
        self._shown: dict[str, int] = {}

    def update(self, stage: str, done: int, total: int, text: str) -> None:
        """A line whenever another twentieth is done."""
        part = done * _LINES // max(total, 1)
        if part > self._shown.get(stage, -1):
            self._shown[stage] = part
            self.line(f"{stage} {done}/{total}  {text}".rstrip())

    def line(self, text: str) -> None:
        """The sentence as a line."""
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to put back."""


class Live:
    """A bar per stage on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
        self._bars = Progress(*columns, console=Console(stderr=True), refresh_per_second=5, redirect_stdout=False)
        self._tasks: dict[str, TaskID] = {}
        self._bars.start()

    def update(self, stage: str, done: int, total: int, text: str) -> None:
        """Move the stage's bar."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, text="")
        self._bars.update(self._tasks[stage], completed=done, total=total, text=text)

    def line(self, text: str) -> None:
        """The sentence above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the bars as they stand."""
        self._bars.stop()


def display() -> Display:
    """A live display where stderr is a terminal that understands it, plain lines elsewhere."""
    return Live() if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Lines()


class Progress:
    """The `show` of a command, as a context manager around its work.

    Args:
        steps: training steps of the run; 0 where nothing is trained.
        to: where it is shown.
    """

    def __init__(self, steps: int = 0, to: Display | None = None) -> None:
        self._steps, self._to = steps, display() if to is None else to
        self._start = (time.monotonic(), 0)
        self._heldout: float | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._to.close()

    def __call__(self, record: dict[str, Any]) -> None:
        """Show one record; what is not known is passed over."""
        event = record.get("event")
        if event == "start":
            self._start = (time.monotonic(), record["step"])
        elif event == "log":
            stage, total = record.get("stage", "training"), record.get("of", self._steps)
            self._to.update(stage, record["step"], total, self._numbers(record, total))
        elif event == "skip":
            self._to.line(f"Step {record['step']} made no update: its {record['skip']} was not finite.")
        elif event == "evaluation":
            self._heldout = record["heldout"]
        elif event == "time limit":
            self._to.line(f"The time limit of {record['minutes']:g} minutes is reached at step {record['step']}; --resume goes on.")
        elif "drawn" in record:
            self._to.update(
                f"measuring {record['measuring']}" if "measuring" in record else "drawing", record["drawn"], record["count"], ""
            )
        elif "measuring" in record:
            self._to.line(f"Measuring {record['measuring']}")
        for sentence in (*record.get("warnings", ()), record.get("warning"), record.get("note"), record.get("text")):
            if sentence:
                self._to.line(str(sentence))

    def _numbers(self, record: dict[str, Any], total: int) -> str:
        words = [f"loss {_number(record['loss'])}", f"lr {_number(record['lr'])}"]
        if self._heldout is not None:
            words.append(f"held-out {_number(self._heldout)}")
        began, first = self._start
        rate = (record["step"] - first) / max(time.monotonic() - began, 1e-9)
        if rate > 0.0:
            words += [f"{rate:.3g} steps/s", f"ETA {_duration((total - record['step']) / rate)}"]
        if record["skipped"]:
            words.append(f"{record['skipped']} skipped")
        return "  ".join(words)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
