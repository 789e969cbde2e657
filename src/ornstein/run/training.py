# SPDX-License-Identifier: Apache-2.0
"""A run in training: the parts of a recipe handed to the trainer, its records handed on, previews drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ornstein import __version__
from ornstein.codec.pixels import Codec
from ornstein.data.dataset import Split
from ornstein.evaluate.memorisation import Originals
from ornstein.evaluate.pixels import pooled
from ornstein.model.denoiser import Model
from ornstein.run.build import Facts, codec_of, data_of, model_of, objective_of
from ornstein.run.draw import class_grid, labels_for, metadata_of, sampler
from ornstein.run.folder import RunFolder
from ornstein.run.guides import is_classifier
from ornstein.run.inherited_weights import start_from
from ornstein.run.pictures import save_png
from ornstein.run.recipe import Recipe
from ornstein.run.teacher import lesson_of, parts_of
from ornstein.run.train import Show, settings_of
from ornstein.run.trained import Trained, take_weights
from ornstein.train.checkpoint import load_weights
from ornstein.train.lock import Lock
from ornstein.train.loop import Trainer

_ROWS = 4  # previews per class
_GRID = 8  # previews are compared with the training images by their means on a grid of this side


def run_trainer(recipe: Recipe, run: RunFolder, init_from: Path | None, show: Show, machine: dict[str, Any], lock: Lock) -> dict[str, Any]:
    """Train a run whose folder is prepared; see `ornstein.run.train.train`."""
    split = data_of(recipe)
    facts = Facts.of(split)
    model = model_of(recipe, facts)
    if init_from is not None:
        source = RunFolder(init_from)
        weights, state = load_weights(init_from, "ema", "newest", lambda sentence: show({"event": "note", "text": sentence}))
        take_weights(model.weights, weights, source)
        run.add_facts({"init_from": {"run": str(init_from), "step": state["step"], "recipe_hash": source.recipe().hash}})
    lesson = None if recipe.teacher is None else lesson_of(recipe, run, facts, show, machine)
    if lesson is not None:
        begun = start_from(model, lesson.source.model)
        if not begun:
            show({"event": "note", "text": "The teacher's network is another one: the student starts from random weights."})
        run.add_facts({"teacher": lesson.identity, "starts_from_teacher": begun})
    identity = {"recipe_hash": recipe.hash, "code_version": __version__}
    codec, settings = codec_of(facts), settings_of(recipe)
    preview = _preview(recipe, facts, codec, split, run)
    objective = objective_of(recipe, **({} if lesson is None else parts_of(lesson, recipe, run, show)))
    trainer = Trainer(model, objective, codec, split, settings, run.path, identity, preview, lock)
    run.add_facts(
        {
            "data": {**facts._asdict(), "train": len(split.train), "test": len(split.test), "identity": split.train.identity},
            "parameters": sum(parameter.numel() for parameter in model.weights.parameters()),
            "device": str(trainer.device),
            "threads": torch.get_num_threads(),
            "torch_version": torch.__version__,
            "ranks": trainer.ranks.count,
            **machine,
        }
    )
    started = trainer.restore()
    if started >= settings.steps:
        show({"event": "note", "text": f"The run has finished its {settings.steps} steps already; add train.steps=N to extend it."})
    result: dict[str, Any] = {"run": str(run.path), "steps": started, "finished": False, "heldout": None}
    for record in trainer.records():
        show(record)
        result["steps"] = record["step"]
        result["finished"] = record["event"] == "finished"
        result["heldout"] = record.get("heldout", result["heldout"])
    return result


def _preview(recipe: Recipe, facts: Facts, codec: Codec, split: Split, run: RunFolder) -> Callable[[Model, int], Mapping[str, Any] | None]:
    """Draws the same seeds with the averaged weights each time, and compares them with the training images."""
    if facts.kind != "image" or is_classifier(recipe):
        return lambda model, step: None
    originals = Originals(pooled(split.train.raw, _GRID))
    count = _ROWS * facts.classes if 1 < facts.classes <= 12 else 4 * _ROWS

    def preview(model: Model, step: int) -> Mapping[str, Any]:
        present = Trained(recipe, facts, model, step, "", next(model.network.parameters()).device)
        seeds = range(recipe.sample.seed, recipe.sample.seed + count)
        images = codec.decode(torch.cat(list(sampler(present, recipe, labels_for(facts, None)).draw(seeds))))
        shown = images.numpy().transpose(0, 2, 3, 1)
        labels = [seed % facts.classes for seed in seeds] if facts.classes else None
        save_png(
            run.samples / "previews" / f"step-{step}.png",
            class_grid(shown, labels, facts),
            metadata_of(present, recipe) | {"seed": seeds.start},
        )
        return {"memorised": originals.check(pooled(images, _GRID)).median}

    return preview
