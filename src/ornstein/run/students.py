# SPDX-License-Identifier: Apache-2.0
"""How a student is measured and shown: at few moves, beside the teacher it learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from ornstein.base.errors import OrnsteinError
from ornstein.run.build import codec_of
from ornstein.run.draw import labels_for, metadata_of, sampler
from ornstein.run.folder import RunFolder
from ornstein.run.pictures import enlargement, grid, save_png
from ornstein.run.recipe import Recipe
from ornstein.run.teacher import folder_of
from ornstein.run.trained import Trained, trained

_ROWS = 10  # seeds in the picture


class Way(NamedTuple):
    """One way of sampling that is measured.

    Args:
        name: of its row in the table.
        draws: sets drawn.
        of: the model.
        recipe: its recipe, with the `sample` section as it is to be used.
    """

    name: str
    draws: int
    of: Trained
    recipe: Recipe


def few_ways(model: Trained, run: RunFolder, warn: Callable[[str], None]) -> Iterator[Way]:
    """The student at each of `evaluate.few_steps`, and its teacher in the steps of its own evaluation where it is still there.

    Nothing where the recipe asks for no such figures.
    """
    measured = model.recipe.evaluate
    if not measured.few_steps:
        return
    for moves in measured.few_steps:
        words = "1 step" if moves == 1 else f"{moves} steps"
        yield Way(f"model, {words}", measured.draws, model, drawing(model.recipe, steps=moves, guidance=unguided(model.recipe)))
    teacher = _teacher_of(model, run, warn)
    if teacher is not None and model.recipe.teacher is not None:
        asked = drawing(teacher.recipe, steps=teacher.recipe.evaluate.steps, guidance=model.recipe.teacher.guidance)
        yield Way("teacher", measured.draws, teacher, asked)


def drawing(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with its `sample` section as its evaluation wants it, and changes."""
    measured = recipe.evaluate
    update = {"solver": measured.solver, "plan": measured.plan, **changes}
    return recipe.model_copy(update={"sample": recipe.sample.model_copy(update=update)})


def unguided(recipe: Recipe) -> float:
    """The scale of figures without guidance: 1, or the one nearest to it that a student of guidance knows."""
    lowest, highest = getattr(recipe.objective, "lowest", 1.0), getattr(recipe.objective, "highest", 1.0)
    return float(min(max(1.0, lowest), highest))


def picture(model: Trained, run: RunFolder, warn: Callable[[str], None]) -> None:
    """`few-steps.png` of an image model: a row per seed, a column per way of `few_ways`."""
    ways = list(few_ways(model, run, warn)) if model.facts.kind == "image" else []
    if not ways:
        return
    columns = []
    for way in ways:
        made = sampler(way.of, way.recipe, labels_for(way.of.facts, None))
        columns.append(codec_of(way.of.facts).decode(torch.cat(list(made.draw(range(_ROWS))))))
    images = torch.stack(columns, 1).flatten(0, 1).numpy().transpose(0, 2, 3, 1)
    headings = [way.name.removeprefix("model, ") for way in ways]
    shown = grid(images, len(ways), max(3, enlargement(images.shape[1])), headings)
    save_png(run.path / "few-steps.png", shown, {**metadata_of(model, ways[0].recipe), "columns": headings})


def _teacher_of(model: Trained, run: RunFolder, warn: Callable[[str], None]) -> Trained | None:
    """The teacher, if it lies where the student left it and is the same."""
    if model.recipe.teacher is None:
        return None
    folder = folder_of(model.recipe.teacher, run)
    try:
        found = trained(RunFolder.open(folder), "newest", warn)
    except OrnsteinError as error:
        warn(f"The teacher cannot be measured beside its student: {error.what}")
        return None
    known = run.facts().get("teacher", {}).get("model_hash")
    if known is not None and known != found.hash:
        warn(f"{folder} is no longer the teacher of this student, and is not measured beside it.")
        return None
    return found
