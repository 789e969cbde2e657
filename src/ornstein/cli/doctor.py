# SPDX-License-Identifier: Apache-2.0
"""`ornstein doctor`: what this machine offers, and whether a run folder is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ornstein.base.errors import CheckpointError
from ornstein.cli.output import Json, emit, quiet_stdout


def doctor(
    folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Also check this run folder.")] = None,
    json: Json = False,
) -> None:
    """Say what the machine offers, which extras are present, and whether a run folder is sound."""
    with quiet_stdout():
        from ornstein.run.doctor import examine_machine, examine_run

        run = None if folder is None else examine_run(folder)
        machine = examine_machine()
    result = {"machine": machine} | ({} if run is None else {"run": run})
    emit(result, json, *_machine_lines(machine), *_run_lines(run, folder))
    if run is not None and not run["sound"]:
        raise typer.Exit(CheckpointError.exit_code)


def _machine_lines(machine: dict[str, Any]) -> list[str]:
    rates = machine["matrix_products"]
    lines = [
        f"ornstein {machine['ornstein']}, python {machine['python']}, torch {machine['torch']}",
        f"{machine['cores']} cores, {machine['memory_free_gb']:.1f} of {machine['memory_gb']:.1f} GB memory free",
        *(f"GPU: {gpu}" for gpu in machine["gpus"] or ["none"]),
        "Matrix products in GFLOP/s: " + ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items()),
        machine["advice"],
    ]
    for extra in machine["extras"]:
        lines.append(
            f"Extra {extra['name']}: "
            + ("present" if not extra["missing"] else f"{', '.join(extra['missing'])} missing; {extra['install']}")
        )
    return lines


def _run_lines(run: dict[str, Any] | None, folder: Path | None) -> list[str]:
    if run is None:
        return []
    found = [f"  {'ok   ' if item['sound'] else 'FAULT'} {item['what']}: {item['says']}" for item in run["findings"]]
    return [f"{folder} is {'sound' if run['sound'] else 'not sound'}:", *found]
