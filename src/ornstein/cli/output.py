# SPDX-License-Identifier: Apache-2.0
"""What commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]
Checkpoint = Annotated[str, typer.Option("--checkpoint", metavar="WHICH", help="newest, best (lowest held-out loss) or a step.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="key=value", help="Recipe keys to set, for example train.steps=500.")]


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what anything prints meanwhile to stderr, so that stdout holds the result alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def emit(result: Mapping[str, Any], as_json: bool, *lines: str) -> None:
    """Print a result: as one JSON object, or as sentences for a reader."""
    if as_json:
        print(json.dumps(result, default=str))
    else:
        for line in lines:
            print(line)


def say(text: str) -> None:
    """Print a sentence that is no result."""
    print(text, file=sys.stderr, flush=True)
