# SPDX-License-Identifier: Apache-2.0
"""`ornstein demo`: from nothing to a measured model and its page, with one word."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ornstein.cli.output import Json, Words, emit, quiet_stdout

_STEPS, _COUNT = 10, 100


def demo(
    words: Words = None,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Run folder; a run in it is used again.")] = Path("runs/digits"),
    json: Json = False,
) -> None:
    """Train a model of handwritten digits on this machine, draw from it, measure it, and write a page about it."""
    from ornstein.cli import evaluate, train
    from ornstein.run.folder import RunFolder
    from ornstein.run.recipe import Recipe

    recipe = Recipe.load("digits", words or ())
    trained = train.run(recipe, out, resume=RunFolder(out).recipe_file.is_file())
    with quiet_stdout():
        from ornstein.cli.progress import Progress
        from ornstein.run.draw import DrawOptions, draw

        options = DrawOptions(count=_COUNT, steps=_STEPS, guidance=recipe.evaluate.guidance, seed=0, out=out / "samples" / "demo")
        with Progress() as show:
            drawn = draw(out, options, show)
    measured = evaluate.measure(out, "newest")
    page = Path(measured["report"]).resolve()
    result = {"run": trained["run"], "samples": drawn["out"], "evaluation": measured, "report": str(page)}
    lines = (f"Samples, {_STEPS} guided steps each: {drawn['out']}", f"The page about your model: {page}")
    emit(result, json, measured["text"], *lines, f"Draw more: ornstein sample {out} --label 3 -n 20")
