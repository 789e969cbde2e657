# SPDX-License-Identifier: Apache-2.0
"""`ornstein sample`: draw from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ornstein.cli.output import Checkpoint, Json, Run, emit, quiet_stdout


def sample(
    folder: Run,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where to write; by default under RUN/samples.")] = None,
    count: Annotated[int, typer.Option("-n", "--count", metavar="N", min=1, max=1_000_000, help="How many samples.")] = 16,
    label: Annotated[int | None, typer.Option("--label", metavar="K", min=0, help="One class for all; else the classes cycle.")] = None,
    solver: Annotated[str | None, typer.Option("--solver", metavar="NAME", help="dpm++2m, ddim, ipndm, heun, ... as in a recipe.")] = None,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="NAME", help="default, uniform, log-snr, karras, trailing, churn, restart, ...")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Moves.")] = None,
    evaluations: Annotated[
        int | None, typer.Option("--evaluations", metavar="N", min=1, help="Most network calls, instead of --steps.")
    ] = None,
    guidance: Annotated[float | None, typer.Option("--guidance", metavar="W", help="Scale; 1 is the conditional model alone.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="S", min=0, help="Of the first sample; sample i has S + i.")] = None,
    checkpoint: Checkpoint = "newest",
    json: Json = False,
) -> None:
    """Draw samples: pictures with their parameters inside, and samples.npz. One seed gives one sample, whatever N is."""
    from ornstein.cli.machine import prepare
    from ornstein.cli.progress import Progress
    from ornstein.run.folder import RunFolder

    with quiet_stdout():
        recipe = RunFolder.open(folder).recipe()
        prepare(recipe.train.threads)
        from ornstein.run.draw import DrawOptions, draw

        options = DrawOptions(count, label, solver, plan, steps, evaluations, guidance, seed, checkpoint, out)
        with Progress() as show:
            result = draw(folder, options, show)
        from ornstein.run.report import report

        report(folder)
    emit(result, json, f"Wrote {result['samples']} samples to {result['out']}")
