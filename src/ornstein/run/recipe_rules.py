# SPDX-License-Identifier: Apache-2.0
"""Values that are fine alone and contradict each other. Checked before torch is imported, one small rule each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ornstein.base.errors import UsageError
from ornstein.base.registry import entry, names
from ornstein.run.objective_rules import OBJECTIVE_RULES
from ornstein.run.rule import Rule, traits
from ornstein.run.schedule_rules import schedule_rules, starting_noise
from ornstein.run.student_rules import STUDENT_RULES, student_sampling_rules

if TYPE_CHECKING:
    from ornstein.run.recipe import Recipe
    from ornstein.run.recipe_parts import Part

_CONVOLUTIONS = ("unet", "encoder")
"""Networks whose levels halve the image."""


def breaches(recipe: Recipe) -> Iterator[tuple[Rule, str]]:
    """Every rule that a recipe breaks, with what is wrong."""
    for rule in (
        *_RULES,
        *OBJECTIVE_RULES,
        *STUDENT_RULES,
        *schedule_rules(recipe),
        *_sampling_rules("sample"),
        *_sampling_rules("evaluate"),
    ):
        message = rule.breach(recipe)
        if message is not None:
            yield rule, message


def ranks() -> int:
    """Processes that train together, from the environment variable WORLD_SIZE; 1 where it is not set."""
    text = os.environ.get("WORLD_SIZE", "1")
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"The environment variable WORLD_SIZE is '{text}', not a number of processes.", "Unset it, or start by torchrun.")
    return int(text)


def _signal(recipe: Recipe) -> str | None:
    schedule, prediction = recipe.schedule, recipe.prediction
    if "needs-signal" not in traits("prediction", prediction) or "zero-terminal-snr" not in traits("schedule", schedule):
        return None
    cure = "use schedule.end=0.995 or " if schedule.kind == "cosine" else ""
    return f"'{prediction.kind}' says nothing about the data where '{schedule.kind}' ends in pure noise; {cure}predict v, x0 or velocity"


def _same_world(recipe: Recipe) -> str | None:
    fits, given = traits("network", recipe.network), traits("data", recipe.data)
    if fits & given:
        return None
    others = ", ".join(_networks(recipe, "logits" in fits))
    return f"'{recipe.network.kind}' does not fit data of kind '{recipe.data.kind}'; what does: {others}"


def _networks(recipe: Recipe, logits: bool) -> list[str]:
    """Networks that fit the data, and put out logits or data as asked."""
    given = traits("data", recipe.data)
    every = ((name, entry("network", name).traits({})) for name in names("network"))
    return [name for name, fits in every if fits & given and ("logits" in fits) == logits]


def _purpose(recipe: Recipe) -> str | None:
    wanted, network = "logits" in traits("objective", recipe.objective), recipe.network.kind
    if wanted == ("logits" in traits("network", recipe.network)):
        return None
    has, lacks = ("data", "logits") if wanted else ("logits", "data")
    others = ", ".join(_networks(recipe, wanted))
    return f"'{network}' puts out {has}, and '{recipe.objective.kind}' needs {lacks}; what fits: {others}"


def _classes(recipe: Recipe) -> str | None:
    if "logits" in traits("objective", recipe.objective) and "unlabelled" in traits("data", recipe.data):
        return f"'{recipe.objective.kind}' needs classes, and '{recipe.data.world}' has none"
    return None


def _channels(recipe: Recipe) -> str | None:
    network = recipe.network
    if network.kind not in _CONVOLUTIONS:
        return None
    middle = {len(network.channels) - 1} if network.kind == "unet" else set()  # which attends at the last level's width
    attending = {*network.attention} | middle
    for level, count in enumerate(network.channels):
        if level in attending and count % network.head_width:
            return f"level {level} attends, and its {count} channels do not divide into heads of {network.head_width}"
    return f"the first level needs an even number of channels, not {network.channels[0]}" if network.channels[0] % 2 else None


def _attention(recipe: Recipe) -> str | None:
    network = recipe.network
    beyond = [level for level in network.attention if level >= len(network.channels)] if network.kind in _CONVOLUTIONS else []
    return f"level {beyond[0]} does not exist; channels names levels 0 to {len(network.channels) - 1}" if beyond else None


def _halvings(recipe: Recipe) -> str | None:
    network, size = recipe.network, getattr(recipe.data, "size", None)
    if network.kind not in _CONVOLUTIONS or size is None:
        return None
    halvings = len(network.channels) - 1
    step = network.patch * 2**halvings
    patched = f" in patches of {network.patch}" if network.patch > 1 else ""
    return f"{size} pixels{patched} cannot be halved {halvings} times; use a multiple of {step}, or fewer channels" if size % step else None


def _recomputing(recipe: Recipe) -> str | None:
    if recipe.train.gradient_checkpointing and "checkpointing" not in traits("network", recipe.network):
        return f"'{recipe.network.kind}' has nothing to recompute; leave it false"
    return None


def _global_batch(recipe: Recipe) -> str | None:
    train, count = recipe.train, ranks()
    rows = max(train.batch_size // count, 1) if train.micro_batch is None else train.micro_batch
    if train.batch_size % (rows * count):
        return f"{train.batch_size} is no multiple of ranks x micro-batch = {count} x {rows}"
    return None


def _half_precision(recipe: Recipe) -> str | None:
    train = recipe.train
    if train.precision == "fp16" and train.device in ("cpu", "mps"):
        return f"fp16 needs a CUDA card, not {train.device}; use bf16 or fp32"
    return None


def _warmup(recipe: Recipe) -> str | None:
    train = recipe.train
    return f"{train.warmup} is more than train.steps {train.steps}" if train.warmup > train.steps else None


def _nested(plan: Part) -> Iterator[Part]:
    """A plan and the plans it is made around, from the outside in."""
    yield plan
    if "base" in type(plan).model_fields:
        yield from _nested(plan.base)


def _sampling_rules(name: str) -> Iterator[Rule]:
    """Rules that hold for the sections `sample` and `evaluate` alike."""

    def guidance(recipe: Recipe) -> str | None:
        scale, objective = getattr(recipe, name).guidance, recipe.objective
        if scale == 1.0 or getattr(objective, "condition_drop", 1.0) > 0.0:
            return None
        return f"guidance {scale:g} needs a model that has seen dropped conditions; set objective.condition_drop=0.1, or guidance 1"

    def trailing(recipe: Recipe) -> str | None:
        settings = getattr(recipe, name)
        most = max(settings.steps, getattr(settings, "guided_steps", 0))
        for plan in _nested(settings.plan):
            if plan.kind == "trailing" and plan.table < most:
                return f"a table of {plan.table} timesteps cannot give {most} steps"
        return None

    def noise_levels(recipe: Recipe) -> str | None:
        loudest = starting_noise(recipe.schedule)
        for plan in _nested(getattr(recipe, name).plan):
            if "sigma_min" not in type(plan).model_fields:
                continue
            if plan.sigma_min >= plan.sigma_max:
                return f"sigma_min {plan.sigma_min:g} is not below sigma_max {plan.sigma_max:g}"
            if "base" not in type(plan).model_fields and plan.sigma_min >= loudest:
                return f"sigma_min {plan.sigma_min:g} is not below the {loudest:g} that the schedule starts at"
        return None

    yield Rule((f"{name}.guidance", "objective.condition_drop"), guidance)
    yield from student_sampling_rules(name)
    yield Rule((f"{name}.plan.table", f"{name}.plan.kind", f"{name}.steps", f"{name}.guided_steps"), trailing)
    levels = (f"{name}.plan.sigma_min", f"{name}.plan.kind", f"{name}.plan.sigma_max")
    yield Rule((*levels, "schedule"), noise_levels)


_RULES = (
    Rule(("prediction.kind", "schedule"), _signal),
    Rule(("network.kind", "data.kind"), _same_world),
    Rule(("network.kind", "objective.kind", "data.kind"), _purpose),
    Rule(("objective.kind", "data.kind", "data.world"), _classes),
    Rule(("network.channels", "network.kind", "network.head_width", "network.attention"), _channels),
    Rule(("network.attention", "network.kind", "network.channels"), _attention),
    Rule(("data.size", "data.kind", "network.kind", "network.channels", "network.patch"), _halvings),
    Rule(("train.gradient_checkpointing", "network.kind"), _recomputing),
    Rule(("train.batch_size", "train.micro_batch"), _global_batch),
    Rule(("train.precision", "train.device"), _half_precision),
    Rule(("train.warmup", "train.steps"), _warmup),
)
