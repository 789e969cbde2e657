# SPDX-License-Identifier: Apache-2.0
"""`ornstein train`: a recipe becomes a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ornstein.cli.output import Json, Words, emit, quiet_stdout, say

if TYPE_CHECKING:
    from ornstein.run.recipe import Recipe


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="A YAML file, a shipped recipe's name, or a run folder.")],
    words: Words = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Run folder; by default runs/NAME, or the run that was given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest valid checkpoint.")] = False,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", metavar="RUN", help="Start a new run from the weights of another.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print recipe, size, memory and time; train nothing.")] = False,
    json: Json = False,
) -> None:
    """Train a model. Ctrl-C once saves and leaves; --resume goes on bit for bit."""
    from ornstein.run.recipe import Recipe

    chosen = Recipe.load(recipe, words or ())
    if dry_run:
        result = _estimate(chosen)
        emit(result, json, chosen.to_yaml(), *_estimate_lines(result))
        return
    folder = out if out is not None else Path(recipe) if (Path(recipe) / "recipe.yaml").is_file() else Path("runs") / chosen.name
    result = run(chosen, folder, resume=resume, init_from=init_from)
    emit(result, json, *_sentences(result))


def run(recipe: Recipe, folder: Path, *, resume: bool, init_from: Path | None = None) -> dict[str, Any]:
    """Train in a folder with a progress display and write its page; returns what the trainer did."""
    from ornstein.cli.machine import prepare
    from ornstein.cli.progress import Progress
    from ornstein.run.folder import RunFolder
    from ornstein.run.train import train

    with quiet_stdout():
        place = RunFolder(folder)
        if not resume and not place.recipe_file.exists():
            place.write_recipe(recipe)  # before torch is imported: a run that is killed from here on can be resumed
        say(f"{'Going on with' if resume else 'Training'} {recipe.name} in {folder}")
        with Progress(recipe.train.steps) as show:
            result = train(recipe, folder, resume=resume, init_from=init_from, show=show, machine=prepare(recipe.train.threads))
        from ornstein.run.report import report

        return {**result, "report": str(report(folder))}


def _sentences(result: dict[str, Any]) -> list[str]:
    """What a reader is told after training."""
    folder, heldout = result["run"], result["heldout"]
    measured = "" if heldout is None else f", held-out loss {heldout:.4g}"
    follow = f"ornstein evaluate {folder}" if result["finished"] else f"ornstein train {folder} --resume"
    return [f"{folder}: {result['steps']} steps{measured}.", f"Its page: {result['report']}", f"Next: {follow}"]


def _estimate(recipe: Recipe) -> dict[str, Any]:
    from ornstein.cli.machine import prepare

    with quiet_stdout():
        prepare(recipe.train.threads)
        from ornstein.run.train import dry_run

        return dry_run(recipe)


def _estimate_lines(result: dict[str, Any]) -> list[str]:
    first, highest, last = result["learning_rate"]
    return [
        f"{result['parameters']:,} parameters; {result['train_examples']} training examples, {result['test_examples']} held out",
        f"{result['peak_mib']:.0f} MiB of memory on {result['device']}",
        f"{result['seconds_per_step']:.3g} s per step, {result['minutes']:.3g} minutes in all, without evaluations",
        f"Learning rate from {first:.3g} to {highest:.3g}, ending at {last:.3g}",
    ]
