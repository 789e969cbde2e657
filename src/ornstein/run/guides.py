# SPDX-License-Identifier: Apache-2.0
"""Who guides a drawing: the model itself, a composition of classes, a noisy classifier, or a worse model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ornstein.base.errors import UsageError
from ornstein.base.registry import entry
from ornstein.model.classifier import ClassifierGuided
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.model.guidance import Autoguided, Composed, Unconditioned
from ornstein.model.telling import TimeAndScale
from ornstein.run.build import Facts, guided
from ornstein.run.control import Control, source
from ornstein.run.folder import RunFolder
from ornstein.run.recipe import Recipe, Sample
from ornstein.run.trained import Trained, trained

Say = Callable[[str], None]


class Guide(NamedTuple):
    """Guidance, ready to be put around a model.

    Args:
        wrap: model -> guided model.
        facts: those of the samples: a composition has no classes of its own, a classifier may bring some.
        words: what pictures say about it.
    """

    wrap: Callable[[Denoiser], Denoiser]
    facts: Facts
    words: dict[str, Any]


def guide_of(model: Trained, settings: Sample, control: Control, scale: float, say: Say) -> Guide:
    """The guidance that was asked for.

    Args:
        model: the run to draw from.
        settings: interval and rescale.
        control: who guides.
        scale: of the guidance.
        say: is told of checkpoints that were passed over.

    Raises:
        UsageError: a class that does not exist, or a run that cannot guide this one.
        CheckpointError: a run that cannot be read.
    """
    if control.compose is not None:
        return _composed(model, control)
    if control.classifier is not None:
        return _by_classifier(model, settings, control.classifier, scale, say)
    if control.bad is not None:
        return _by_worse(model, settings, control.bad, scale, say)
    return _by_itself(model, settings, control.negative, scale)


def is_classifier(recipe: Recipe) -> bool:
    """Whether the run of a recipe tells classes instead of drawing."""
    return "logits" in entry("objective", recipe.objective.kind).traits({})


def refuse_classifier(recipe: Recipe, folder: Path, fix: str) -> None:
    """Raise UsageError where a run tells classes apart instead of drawing."""
    if is_classifier(recipe):
        raise UsageError(f"{folder} is a classifier and draws nothing.", fix)


def check_class(facts: Facts, label: int | None, option: str) -> None:
    """Raise UsageError unless the class exists."""
    if label is None:
        return
    if not facts.classes:
        raise UsageError(f"This run has no classes, so {option} says nothing to it.", f"Leave {option} out.")
    if not 0 <= label < facts.classes:
        raise UsageError(f"This run has no class {label}.", f"Give {option} a class from 0 to {facts.classes - 1}.")


def _by_itself(model: Trained, settings: Sample, negative: int | None, scale: float) -> Guide:
    check_class(model.facts, negative, "--negative")
    told = (settings.guidance, settings.guidance_interval, settings.guidance_rescale)
    if negative is None:
        return Guide(lambda denoiser: guided(denoiser, *told), model.facts, {})
    if isinstance(model.model.telling, TimeAndScale):
        raise UsageError("--negative says nothing to a model whose guidance was distilled.", "Draw from its teacher instead.")
    if scale == 1.0:
        raise UsageError("--negative says nothing at guidance 1.", "Give --guidance W above 1.")
    away = Cond(label=torch.tensor([negative]))
    return Guide(lambda denoiser: guided(denoiser, *told, away), model.facts, {"negative": negative})


def _composed(model: Trained, control: Control) -> Guide:
    terms = control.terms()
    for label, _ in terms:
        check_class(model.facts, label, "--compose")
    if not knows_no_class(model):
        what = "--compose needs a model that has seen dropped conditions."
        raise UsageError(what, "Train it with objective.condition_drop=0.1.")
    conds = [(Cond(label=torch.tensor([label])), weight) for label, weight in terms]
    words = {"guidance_by": "composition", "guidance": None, "compose": [list(term) for term in terms]}
    return Guide(lambda denoiser: Composed(guided(denoiser, 1.0), conds), model.facts._replace(classes=0, class_names=()), words)


def _by_classifier(model: Trained, settings: Sample, word: str, scale: float, say: Say) -> Guide:
    judge = _other(model, word, "--classifier", say)
    if not is_classifier(judge.recipe):
        what = f"{source(word).folder} is no classifier: its objective is {judge.recipe.objective.kind}."
        raise UsageError(what, "Train one with objective.kind=classification, as the recipe classifier-digits does.")
    if model.facts.classes and judge.facts.class_names != model.facts.class_names:
        what = f"The classifier {source(word).folder} knows {_classes(judge.facts)}, and the run {_classes(model.facts)}."
        raise UsageError(what, "Use a classifier that was trained on the classes of the run.")
    alone = knows_no_class(model)
    interval = (settings.guidance_interval[0], settings.guidance_interval[1])

    def wrap(denoiser: Denoiser) -> Denoiser:
        base = guided(denoiser, 1.0)
        return ClassifierGuided(Unconditioned(base) if alone else base, judge.model.raw, scale, interval)

    kind = "unconditional" if alone else "conditional"
    words = {"guidance_by": "classifier", "guidance": scale, "guided_model": kind, "classifier": judge.identity()}
    return Guide(wrap, model.facts if model.facts.classes else judge.facts, words)


def _by_worse(model: Trained, settings: Sample, word: str, scale: float, say: Say) -> Guide:
    worse = _other(model, word, "--bad", say)
    if is_classifier(worse.recipe):
        raise UsageError(f"{source(word).folder} is a classifier and cannot be the worse model.", "Give it to --classifier instead.")
    if worse.facts.class_names != model.facts.class_names:
        what = f"The worse model {source(word).folder} knows {_classes(worse.facts)}, and the run {_classes(model.facts)}."
        raise UsageError(what, "Use a run on the same data.")
    interval = (settings.guidance_interval[0], settings.guidance_interval[1])

    def wrap(denoiser: Denoiser) -> Denoiser:
        return Autoguided(guided(denoiser, 1.0), guided(worse.model, 1.0), scale, interval, settings.guidance_rescale)

    return Guide(wrap, model.facts, {"guidance_by": "worse model", "guidance": scale, "bad": worse.identity()})


def _other(model: Trained, word: str, option: str, say: Say) -> Trained:
    """Another run that looks at the same noisy data. Raises UsageError or CheckpointError."""
    folder, checkpoint = source(word)
    other = trained(RunFolder.open(folder), checkpoint, say)
    if other.facts.shape != model.facts.shape:
        shapes = f"samples of shape {other.facts.shape}, and the run samples of shape {model.facts.shape}"
        raise UsageError(f"The run {folder} given to {option} takes {shapes}.", "Use a run on the same data at the same size.")
    if other.recipe.schedule != model.recipe.schedule:
        both = f"{other.recipe.schedule.kind} and {model.recipe.schedule.kind}"
        both = both if other.recipe.schedule.kind != model.recipe.schedule.kind else f"{model.recipe.schedule.kind} with other numbers"
        what = f"The run {folder} given to {option} was trained on another noise schedule ({both})."
        raise UsageError(what, "Use a run with the same schedule section.")
    return other


def knows_no_class(model: Trained) -> bool:
    """Whether a model can be asked without a class: it has none, or has seen dropped ones."""
    return not model.facts.classes or getattr(model.recipe.objective, "condition_drop", 0.0) > 0.0


def _classes(facts: Facts) -> str:
    if not facts.classes:
        return "no classes"
    return f"{facts.classes} classes ({', '.join(facts.class_names[:3])}{', ...' if facts.classes > 3 else ''})"
