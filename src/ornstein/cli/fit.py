# SPDX-License-Identifier: Apache-2.0
"""`ornstein fit-solver`: a solver of few evaluations, fitted to a run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ornstein.cli.output import Checkpoint, Json, Run, emit, quiet_stdout


def fit_solver(
    folder: Run,
    evaluations: Annotated[int, typer.Option("--evaluations", metavar="N", min=1, help="Network calls that a sample may take.")] = 5,
    guidance: Annotated[float | None, typer.Option("--guidance", metavar="W", help="Scale to fit for; by default the recipe's.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", min=1.0, help="Time for reference, fit and judgement.")] = 25.0,
    seed: Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Of the noises.")] = 0,
    checkpoint: Checkpoint = "newest",
    json: Json = False,
) -> None:
    """Learn levels and coefficients of a solver for this model; `sample --steps N` then uses them for this checkpoint and guidance."""
    from ornstein.cli.machine import prepare
    from ornstein.cli.progress import Progress
    from ornstein.run.folder import RunFolder

    with quiet_stdout():
        prepare(RunFolder.open(folder).recipe().train.threads)
        from ornstein.run.fit import FitOptions, fit_solver

        with Progress() as show:
            result = fit_solver(folder, FitOptions(evaluations, guidance, seconds, seed, checkpoint), show)
    emit(result, json, *_lines(result, folder))


def _lines(result: dict[str, Any], folder: object) -> list[str]:
    """What a reader is told."""
    error, own, count = result["error"], result["unfitted"], result["evaluations"]
    found = [
        f"Error on {result['seeds']['judged'][1]} samples whose noise was not fitted, in standard deviations of the samples:",
        f"  {own['solver']} on a {own['plan']} plan, {own['steps']} steps: {error['unfitted']:.3g}",
        f"  fitted, {count} evaluations: {error['fitted']:.3g}",
    ]
    if result["stored"] is None:
        return [*found, "The fitted solver is no better and was not stored."]
    return [*found, f"Stored in {result['stored']}. Use it: ornstein sample {folder} --steps {count}"]
