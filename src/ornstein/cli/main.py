# SPDX-License-Identifier: Apache-2.0
"""The command `ornstein`: commands are put together here, and errors become sentences and exit codes.

No command's own imports happen before it is called, so that `ornstein --help` stays fast and free of torch.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from ornstein import __version__
from ornstein.base.errors import OrnsteinError
from ornstein.cli import data, demo, diagnose, doctor, evaluate, fit, recipes, sample, train

EXIT_CODES = (
    "Exit codes: 0 done; 1 a defect of Ornstein; 2 usage or recipe; 3 data; 4 checkpoint, run folder or disk; "
    "5 non-finite numbers; 130 stopped by Ctrl-C; 143 stopped by SIGTERM."
)

app = typer.Typer(
    name="ornstein",
    help="Train, sample and measure diffusion models. Start with: ornstein demo",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (demo.demo, train.train, sample.sample, evaluate.evaluate, evaluate.report, diagnose.diagnose, doctor.doctor):
    app.command(epilog=EXIT_CODES)(_command)
app.command("fit-solver", epilog=EXIT_CODES)(fit.fit_solver)
app.add_typer(recipes.app, name="recipes")
app.add_typer(data.app, name="data")


def _print_version(wanted: bool) -> bool:
    if wanted:
        print(f"ornstein {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere on the line.")] = False,
) -> None:
    """Options of every command; `main` has read --debug before."""


class Stopped(BaseException):
    """A signal arrived outside training, where there is nothing to save."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    given = list(sys.argv[1:] if words is None else words)
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = _run([word for word in given if word != "--debug"], "--debug" in given)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    sys.exit(code)


def _run(words: list[str], debug: bool) -> int:
    """One command; what it raises is printed on stderr."""
    try:
        app(words, prog_name="ornstein")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except OrnsteinError as error:
        _show(f"{error.what.rstrip()}\n{error.fix}", debug)
        return error.exit_code
    except Stopped as stop:
        _show("Stopped.", debug)
        return 128 + stop.number
    except Exception as error:
        name = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        _show(f"This is a defect of Ornstein: {name}\nRun the command again with --debug and report what it prints.", debug)
        return 1
    return 0


def _show(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"ornstein: {message}", file=sys.stderr)
