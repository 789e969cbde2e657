# SPDX-License-Identifier: Apache-2.0
"""`ornstein diagnose`: take a run's loss, schedule, paths and steps apart."""

from __future__ import annotations

from typing import Annotated

import typer

from ornstein.cli.output import Checkpoint, Json, Run, emit, quiet_stdout


def diagnose(
    folder: Run,
    count: Annotated[int, typer.Option("-n", metavar="N", help="Samples whose paths are followed.")] = 64,
    solver: Annotated[list[str] | None, typer.Option("--solver", metavar="NAME", help="A further solver to compare; repeatable.")] = None,
    checkpoint: Checkpoint = "newest",
    json: Json = False,
) -> None:
    """Show where a run's loss and gradient come from, how straight its paths are, and what few steps cost."""
    from ornstein.cli.machine import prepare
    from ornstein.cli.progress import Progress
    from ornstein.run.folder import RunFolder

    with quiet_stdout():
        prepare(RunFolder.open(folder).recipe().train.threads)
        from ornstein.run.diagnose import diagnose as run
        from ornstein.run.report import report

        with Progress() as show:
            result = run(folder, show, checkpoint, count, solver or ())
        page = str(report(folder))
    emit({**result, "report": page}, json, result["text"], f"The page: {page}")
