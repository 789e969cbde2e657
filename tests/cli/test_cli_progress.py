# SPDX-License-Identifier: Apache-2.0
"""Progress: plain lines without control codes away from a terminal, a live bar on one."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest

from ornstein.cli import progress
from ornstein.cli.progress import Lines, Live, Progress, display


class Noted:
    """A display that remembers."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, int, int, str]] = []
        self.lines: list[str] = []
        self.closed = False

    def update(self, stage: str, done: int, total: int, text: str) -> None:
        self.updates.append((stage, done, total, text))

    def line(self, text: str) -> None:
        self.lines.append(text)

    def close(self) -> None:
        self.closed = True


def log(step: int, **more: Any) -> dict[str, Any]:
    return {"event": "log", "step": step, "loss": 0.5, "grad_norm": 1.0, "lr": 1e-3, "skipped": 0, "seconds": 1.0, **more}


def test_training_shows_loss_rate_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    noted = Noted()
    with Progress(1000, noted) as show:
        show({"event": "start", "step": 200, "steps": 1000, "device": "cpu", "warnings": ["Beware."]})
        clock[0] = 110.0
        show(log(300))
        show({"event": "evaluation", "step": 300, "heldout": 0.25, "note": "overfitting: a little"})
        clock[0] = 120.0
        show(log(400, skipped=2))
    assert noted.updates[0] == ("training", 300, 1000, "loss 0.5  lr 0.001  10 steps/s  ETA 1:10")
    assert noted.updates[1] == ("training", 400, 1000, "loss 0.5  lr 0.001  held-out 0.25  10 steps/s  ETA 1:00  2 skipped")
    assert noted.lines == ["Beware.", "overfitting: a little"]
    assert noted.closed


def test_other_records() -> None:
    noted = Noted()
    with Progress(10, noted) as show:
        show({"event": "skip", "step": 7, "skip": "loss", "examples": [1]})
        show({"event": "note", "text": "A note."})
        show({"event": "time limit", "step": 8, "minutes": 1.5})
        show({"event": "checkpoint", "step": 8, "path": "x"})
        show({"event": "finished", "step": 8, "best_step": None})
        show({"measuring": "floor"})
        show({"measuring": "model", "drawn": 5, "count": 10})
        show({"drawn": 3, "count": 4})
        show({"warning": "Careful."})
        show({"something": "else"})
    assert noted.updates == [("measuring model", 5, 10, ""), ("drawing", 3, 4, "")]
    assert [line.partition(" ")[0] for line in noted.lines] == ["Step", "A", "The", "Measuring", "Careful."]
    assert "1.5 minutes" in noted.lines[2]


def test_the_display_is_closed_when_the_work_fails() -> None:
    noted = Noted()
    with pytest.raises(RuntimeError), Progress(10, noted):
        raise RuntimeError
    assert noted.closed


def test_plain_lines_are_few_and_hold_no_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    with Progress(2000, lines) as show:
        for step in range(10, 2001, 10):
            show(log(step))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert 19 <= len(printed.err.splitlines()) <= 21
    assert printed.err.splitlines()[-1].startswith("training 2000/2000  loss 0.5")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", printed.err)


@pytest.mark.parametrize("total", [1, 3, 20, 7])
def test_every_unit_of_a_short_stage_is_a_line_and_the_last_is_shown(capsys: pytest.CaptureFixture[str], total: int) -> None:
    lines = Lines()
    for done in range(1, total + 1):
        lines.update("drawing", done, total, "")
    assert capsys.readouterr().err.splitlines() == [f"drawing {done}/{total}" for done in range(1, total + 1)]


def test_a_pipe_and_a_dumb_terminal_get_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(display(), Lines)
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display(), Lines)
    monkeypatch.setenv("TERM", "xterm")
    live = display()
    assert isinstance(live, Live)
    live.close()


def test_a_terminal_gets_a_bar_and_sentences_that_are_not_markup() -> None:
    code = """
from ornstein.cli.progress import Progress
with Progress(100) as show:
    show({"event": "log", "step": 40, "loss": 0.125, "lr": 1e-3, "skipped": 0})
    show({"warning": "[bold]not markup[/bold]"})
    show({"event": "log", "step": 100, "loss": 0.0625, "lr": 1e-3, "skipped": 0})
"""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=follower, stdout=subprocess.PIPE, env=environment) as child:
        os.close(follower)
        seen = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            seen += piece
        assert child.stdout is not None
        assert child.stdout.read() == b""
    os.close(leader)
    assert child.returncode == 0
    text = seen.decode()
    assert "\x1b[" in text
    assert "100/100" in text
    assert "0.0625" in text
    assert "[bold]not markup[/bold]" in text


DURATIONS = [(0.0, "0:00"), (59.6, "1:00"), (61.0, "1:01"), (3600.0, "1:00:00"), (7325.0, "2:02:05"), (-3.0, "0:00")]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_durations(seconds: float, text: str) -> None:
    assert progress._duration(seconds) == text
