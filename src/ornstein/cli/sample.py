# SPDX-License-Identifier: Apache-2.0
"""`ornstein sample`: draw from a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ornstein.base.errors import UsageError
from ornstein.cli.output import Checkpoint, Json, Run, emit, quiet_stdout


def _option(name: str, metavar: str, panel: str, text: str, **limits: Any) -> Any:
    return typer.Option(f"--{name}", metavar=metavar, help=text, rich_help_panel=panel, **limits)


_JUDGE = "Guide by a noisy classifier (a run of its own); --guidance is its scale."
_GUIDE, _PICTURE, _TASK = "Guidance", "Starting from a picture", "Undoing a measurement"
_BAD = "Guide away from a worse model (autoguidance); --guidance is its scale."
_MASK = "Fill in where it is white (128 and more of 255), keep the rest of --init. Of the run's size."
_INVERT = "Carry the picture to noise by solving, not by adding noise: the same class finds it again, another its counterpart."
_NOISE = "Standard deviation of the measurement's noise, black to white being 2; 0.05 by default."


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
    seed: Annotated[int | None, typer.Option("--seed", metavar="S", min=0, help="Of the first sample; sample i has S + i.")] = None,
    checkpoint: Checkpoint = "newest",
    json: Json = False,
    guidance: Annotated[float | None, _option("guidance", "W", _GUIDE, "Scale; 1 is the conditional model alone.")] = None,
    interval: Annotated[str | None, _option("interval", "LOW:HIGH", _GUIDE, "Times from 0 to 1 between which guidance acts.")] = None,
    rescale: Annotated[float | None, _option("rescale", "PHI", _GUIDE, "Share of the spread given back; 0.7 is common.")] = None,
    negative: Annotated[int | None, _option("negative", "K", _GUIDE, "Class to be guided away from.", min=0)] = None,
    compose: Annotated[str | None, _option("compose", "K:W,K:W", _GUIDE, "Several classes at once; a negative weight is 'not'.")] = None,
    classifier: Annotated[str | None, _option("classifier", "RUN[:STEP]", _GUIDE, _JUDGE)] = None,
    bad: Annotated[str | None, _option("bad", "RUN[:STEP]", _GUIDE, _BAD)] = None,
    init: Annotated[Path | None, _option("init", "FILE", _PICTURE, "The picture, of the run's size.")] = None,
    strength: Annotated[float | None, _option("strength", "X", _PICTURE, "Share of the way to noise, above 0 up to 1.")] = None,
    invert: Annotated[bool, typer.Option("--invert", help=_INVERT, rich_help_panel=_PICTURE)] = False,
    init_label: Annotated[int | None, _option("init-label", "K", _PICTURE, "Class of the picture, for --invert.", min=0)] = None,
    mask: Annotated[Path | None, _option("mask", "FILE", _PICTURE, _MASK)] = None,
    resample: Annotated[int | None, _option("resample", "N", _PICTURE, "Walk each stretch N times (RePaint); 1 by default.")] = None,
    task: Annotated[str | None, _option("task", "NAME", _TASK, "What --init shows: super-resolution:K, deblur:PIXELS or inpaint.")] = None,
    method: Annotated[str | None, _option("method", "NAME", _TASK, "pigdm, or dps, which needs 100 steps and more.")] = None,
    noise: Annotated[float | None, _option("noise", "STD", _TASK, _NOISE)] = None,
) -> None:
    """Draw samples: pictures with their parameters inside, and samples.npz. One seed gives one sample, whatever N is."""
    from ornstein.cli.machine import prepare
    from ornstein.cli.progress import Progress
    from ornstein.run.control import Control
    from ornstein.run.folder import RunFolder

    control = Control(negative, compose, classifier, bad, init, strength, invert, init_label, mask, resample, task, method, noise)
    with quiet_stdout():
        recipe = RunFolder.open(folder).recipe()
        prepare(recipe.train.threads)
        from ornstein.run.draw import DrawOptions, draw

        plain = DrawOptions(count, label, solver, plan, steps, evaluations, guidance, seed, checkpoint, out)
        with Progress() as show:
            result = draw(folder, replace(plain, interval=_interval(interval), rescale=rescale, control=control), show)
        from ornstein.run.report import report

        report(folder)
    emit(result, json, f"Wrote {result['samples']} samples to {result['out']}")


def _interval(text: str | None) -> tuple[float, float] | None:
    """LOW:HIGH as two numbers. Raises UsageError."""
    if text is None:
        return None
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError as error:
        what = f"--interval {text} is no pair of times."
        raise UsageError(what, "Write it as LOW:HIGH with times from 0 to 1, as in 0.2:0.8.") from error
