# SPDX-License-Identifier: Apache-2.0
"""`ornstein evaluate` and `ornstein report`: measure a run, and rewrite its page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ornstein.cli.output import Checkpoint, Json, Run, emit, quiet_stdout


def evaluate(
    folder: Run,
    checkpoint: Checkpoint = "newest",
    full: Annotated[bool, typer.Option("--full", help="Also measure by noise level; intervals from 1,000 replicates.")] = False,
    inception: Annotated[
        Path | None, typer.Option("--inception", metavar="FILE", help="Weights of FID's Inception-v3 (safetensors): adds FID, KID, IS.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a run against its data, beside the floor that real data sets, and rewrite its page."""
    result = measure(folder, checkpoint, full, inception)
    emit(result, json, result["text"], f"The page: {result['report']}")


def measure(folder: Path, checkpoint: str, full: bool = False, inception: Path | None = None) -> dict[str, Any]:
    """Measure a run with a progress display and write its page; returns the figures."""
    from ornstein.cli.machine import prepare
    from ornstein.cli.progress import Progress
    from ornstein.run.folder import RunFolder

    with quiet_stdout():
        prepare(RunFolder.open(folder).recipe().train.threads)
        from ornstein.run.evaluate import evaluate

        with Progress() as show:
            result = evaluate(folder, show, checkpoint, full, inception)
        from ornstein.run.report import report as write

        return {**result, "report": str(write(folder))}


def report(folder: Run, json: Json = False) -> None:
    """Rewrite RUN/report.html from what the run folder holds."""
    from ornstein.run.report import report as write

    page = write(folder)
    emit({"report": str(page)}, json, f"Wrote {page}")
