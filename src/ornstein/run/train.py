# SPDX-License-Identifier: Apache-2.0
"""Starting, continuing and extending a run. The folder and its recipe are written before torch is imported.

What `--resume` may change is listed in `ornstein.train.settings.CHANGEABLE`; anything else would make it another run.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ornstein import __version__
from ornstein.base.errors import UsageError
from ornstein.run.folder import RunFolder
from ornstein.run.recipe import Recipe, changed
from ornstein.train.lock import Lock
from ornstein.train.settings import CHANGEABLE, INEXACT, TrainSettings

Show = Callable[[dict[str, Any]], None]


def train(
    recipe: Recipe, folder: Path, *, resume: bool, init_from: Path | None, show: Show, machine: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train a recipe in a folder to its end, or go on where it stopped.

    Args:
        recipe: the whole recipe; on resume the stored one with the changes asked for.
        folder: the run folder.
        resume: continue what is there; a folder without a checkpoint starts at step 0.
        init_from: a run whose averaged weights the new run starts from.
        show: is told every record of `Trainer.records`, and {"event": "note", "text": ...}.
        machine: what the command line set on this machine, for run.json.

    Returns JSON values: folder, steps, whether it finished, the last held-out loss. Raises UsageError, RecipeError,
    DataError, CheckpointError, NonFiniteError, Interrupted.
    """
    lock = Lock(folder)
    try:
        notes = _begin(recipe, RunFolder(folder), resume, init_from)
        for text in notes:
            show({"event": "note", "text": text})
        from ornstein.run.training import run_trainer  # torch is imported here, with the folder in place

        return run_trainer(recipe, RunFolder(folder), init_from, show, machine or {}, lock)
    finally:
        lock.release()


def _begin(recipe: Recipe, run: RunFolder, resume: bool, init_from: Path | None) -> list[str]:
    """Check that the run may start, store its recipe, and say in sentences what resuming changes."""
    if resume and not run.recipe_file.is_file():
        raise UsageError(f"{run.path} holds no run to resume.", "Leave --resume out to start one.")
    if run.has_checkpoints and not resume:
        raise UsageError(f"{run.path} holds a trained run already.", "Continue it with --resume, or choose another folder with --out.")
    if init_from is not None:
        if resume:
            raise UsageError("--resume and --init-from exclude each other.", "Resume a run, or start a new one from another's weights.")
        RunFolder.open(init_from)
    notes = _changes(run.recipe(), recipe) if resume else []
    run.write_recipe(recipe)
    run.add_facts({"recipe_hash": recipe.hash, "code_version": __version__, "seed": recipe.train.seed})
    if "created" not in run.facts():
        run.add_facts({"created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")})
    return notes


def _changes(old: Recipe, new: Recipe) -> list[str]:
    """What the changed keys do, a sentence each. Raises UsageError naming the keys that may not change."""
    keys = changed(old, new)
    # How samples are drawn and measured is no part of training and free to change.
    refused = [key for key in keys if key not in CHANGEABLE and not key.startswith(("sample.", "evaluate."))]
    if refused:
        raise UsageError(
            f"A resumed run cannot change {', '.join(refused)}.",
            f"These may change: {', '.join(sorted(CHANGEABLE))}. For anything else start a new run, with --init-from to keep the weights.",
        )
    notes = [f"{key} changes; the run continues, but not bit for bit." for key in keys if key in INEXACT]
    if "train.steps" in keys:
        notes.append(f"train.steps changes from {old.train.steps} to {new.train.steps}.")
        notes.append(_rate_note(old, new))
    return notes


def _rate_note(old: Recipe, new: Recipe) -> str:
    from ornstein.train.rate import rate_change

    return rate_change(settings_of(old), settings_of(new), min(old.train.steps, new.train.steps))


def settings_of(recipe: Recipe) -> TrainSettings:
    """The recipe's `train` section as the trainer takes it."""
    return TrainSettings(**recipe.train.model_dump())


def dry_run(recipe: Recipe) -> dict[str, Any]:
    """What training would take, without training: see `ornstein.run.estimate.estimate`."""
    from ornstein.run.estimate import estimate

    return estimate(recipe)
