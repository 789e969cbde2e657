# SPDX-License-Identifier: Apache-2.0
"""The teacher of a student: trained first where the recipe names a recipe, read from its run, and asked for what it gives.

Only training needs it. Who it was stands in the student's run.json; a student that is resumed must find the same one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.base.files import digest_of
from ornstein.base.keys import Keys
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.objective.distill.reflow import Pairs
from ornstein.run.build import Facts, guided, model_of
from ornstein.run.draw import labels_for, sampler
from ornstein.run.folder import RunFolder
from ornstein.run.guides import refuse_classifier
from ornstein.run.recipe import Recipe, Teacher
from ornstein.run.train import Show, train
from ornstein.run.trained import Trained, trained
from ornstein.sample.noise import SampleNoise
from ornstein.train.checkpoint import steps_in
from ornstein.train.tensors import read_tensors, write_tensors

_APART = 1 << 40  # seeds of the pairs begin here, beyond those of any picture


class Lesson(NamedTuple):
    """What a teacher gives to its student.

    Args:
        source: the teacher as a trained model.
        denoiser: the same, with the guidance asked for.
        identity: who it is, for run.json.
    """

    source: Trained
    denoiser: Denoiser
    identity: dict[str, Any]


def folder_of(teacher: Teacher, run: RunFolder) -> Path:
    """Where the teacher is, or will be once its recipe is trained."""
    path = Path(teacher.run)
    return path if (path / "recipe.yaml").is_file() else run.path / "teacher"


def lesson_of(recipe: Recipe, run: RunFolder, facts: Facts, show: Show, machine: dict[str, Any]) -> Lesson:
    """The teacher of a recipe, trained first where it is a recipe that is not trained yet.

    Raises UsageError where it fits neither the student's data nor what run.json says of it, and whatever training it raises.
    """
    assert recipe.teacher is not None
    folder = folder_of(recipe.teacher, run)
    if folder == run.path / "teacher":
        _trained_first(recipe.teacher, folder, show, machine)
    source = trained(RunFolder.open(folder), "newest", lambda sentence: show({"event": "note", "text": sentence}))
    refuse_classifier(source.recipe, folder, "Name a run that draws as the teacher.")
    if (source.facts.shape, source.facts.classes) != (facts.shape, facts.classes):
        what = f"The teacher {folder} is of data with shape {source.facts.shape} and {source.facts.classes} classes"
        raise UsageError(f"{what}, the student's have {facts.shape} and {facts.classes}.", "Give both the same data section.")
    identity = {"run": str(folder), **source.identity(), "guidance": recipe.teacher.guidance}
    before = run.facts().get("teacher")
    if isinstance(before, dict) and before.get("model_hash") != source.hash:
        what = f"The teacher {folder} has other weights ({source.hash}) than those this run began with ({before.get('model_hash')})."
        raise UsageError(what, "Put its checkpoint back, or start a new run.")
    return Lesson(source, guided(source.model, recipe.teacher.guidance, (0.0, 1.0)), identity)


def _trained_first(teacher: Teacher, folder: Path, show: Show, machine: dict[str, Any]) -> None:
    begun = (folder / "recipe.yaml").is_file()
    recipe = RunFolder(folder).recipe() if begun else Recipe.load(teacher.run)
    if begun and max(steps_in(folder / "checkpoints"), default=-1) >= recipe.train.steps:
        return
    show({"event": "note", "text": f"The teacher {recipe.name} is trained first, in {folder}."})

    def tell(record: dict[str, Any]) -> None:
        show(record | {"stage": "training the teacher", "of": recipe.train.steps} if record.get("event") == "log" else record)

    result = train(recipe, folder, resume=begun, init_from=None, show=tell, machine=machine)
    if not result["finished"] and result["steps"] < recipe.train.steps:
        what = f"The teacher stopped at step {result['steps']} of {recipe.train.steps}."
        raise UsageError(what, "Resume the run, which goes on with its teacher, or raise train.max_minutes of the teacher's recipe.")


def parts_of(lesson: Lesson, recipe: Recipe, run: RunFolder, show: Show) -> dict[str, Any]:
    """What the objective may be wired with: the teacher, and where it is made of them its pairs."""
    if recipe.objective.kind != "reflow":
        return {"teacher": lesson.denoiser}
    return {"teacher": lesson.denoiser, "pairs": pairs_of(lesson, recipe, run, show)}


def rehearsed(recipe: Recipe, facts: Facts, device: torch.device) -> dict[str, Any]:
    """Stand-ins of the right cost for `parts_of`, made without training anything; for an estimate."""
    if recipe.teacher is None:
        return {}
    path = Path(recipe.teacher.run)
    stands = Recipe.load(path if (path / "recipe.yaml").is_file() else recipe.teacher.run)
    model = model_of(stands, facts, device)
    noise = torch.zeros(10, *facts.shape)
    cond = Cond(label=torch.zeros(10, dtype=torch.int64)) if facts.classes else Cond()
    return {"teacher": guided(model, recipe.teacher.guidance, (0.0, 1.0)), "pairs": Pairs(noise, noise, cond)}


def pairs_of(lesson: Lesson, recipe: Recipe, run: RunFolder, show: Show) -> Pairs:
    """The teacher's pairs of noise and data, by the sampler of its own recipe; drawn once and kept in the run."""
    assert recipe.teacher is not None
    asked = _sampling(lesson.source.recipe, recipe.teacher.guidance)
    count = recipe.teacher.pairs
    key = digest_of({**lesson.identity, "sample": asked.sample.model_dump(mode="json"), "count": count, "run": ""})
    path = run.path / "pairs" / f"{key}.safetensors"
    try:
        kept = read_tensors(path)
        return Pairs(kept["noise"], kept["x0"], Cond(label=kept["label"]) if "label" in kept else Cond())
    except (CheckpointError, KeyError):
        pairs = _drawn(lesson, asked, count, show)
    tensors = {"noise": pairs.noise, "x0": pairs.x0} | ({} if pairs.cond.label is None else {"label": pairs.cond.label})
    write_tensors(path, tensors)
    return pairs


def _sampling(recipe: Recipe, guidance: float) -> Recipe:
    """The teacher's recipe with its own solver and plan, the guidance asked for, and nothing random on the way."""
    return recipe.model_copy(update={"sample": recipe.sample.model_copy(update={"guidance": guidance})})


def _drawn(lesson: Lesson, recipe: Recipe, count: int, show: Callable[[dict[str, Any]], None]) -> Pairs:
    """Pairs of seeds from `_APART` on, classes in turn. Raises UsageError where the solver draws noise on the way."""
    source = lesson.source
    condition = labels_for(source.facts, None)
    made = sampler(source, recipe, condition)
    if made.solver.stochastic:
        what = f"The teacher samples with '{recipe.sample.solver.kind}', which draws noise on the way and makes no pairs."
        raise UsageError(what, "Give its recipe a deterministic sample.solver, for example dpm++2m.")
    seeds = range(_APART, _APART + count)
    pieces: list[Tensor] = []
    for piece in made.draw(seeds):
        pieces.append(piece)
        show({"measuring": "the teacher's pairs", "drawn": sum(map(len, pieces)), "count": count})
    noise = source.model.process.draw(source.facts.shape, Keys(SampleNoise(seeds).prior_keys().pairs, "sample/prior"))
    cond = condition(seeds)
    return Pairs(noise, torch.cat(pieces), Cond() if cond is None else cond)
