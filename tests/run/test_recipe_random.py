# SPDX-License-Identifier: Apache-2.0
"""Any recipe that is accepted trains: random choices of every part and parameter, three steps each."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from ornstein.base.errors import RecipeError
from ornstein.base.parts import REQUIRED, Param
from ornstein.base.registry import entry, names
from ornstein.run.recipe import Recipe
from ornstein.run.yaml_strict import Document

SMALL = {
    ("data", "digits"): {"size": 8},
    ("data", "points"): {"n": 64},
    ("network", "unet"): {"channels": [8, 16], "attention": [1], "head_width": 8, "blocks": 1, "groups": 4},
    ("network", "mlp"): {"width": 16, "depth": 1},
    ("network", "encoder"): {"channels": [8, 16], "blocks": 1, "groups": 4},
    ("network", "point-encoder"): {"width": 16, "depth": 1},
    ("schedule", "ddpm"): {"steps": 50},
    ("times", "loss-aware"): {"bins": 3, "history": 2},
}
TEACHES = {"kind": "matching", "weighting": {"kind": "elbo"}}


def value_for(param: Param, dice: random.Random) -> Any:
    """The default, or something in the neighbourhood that the bounds allow."""
    if param.choices:
        return dice.choice(param.choices)
    if param.type is bool:
        return dice.random() < 0.5
    if param.default is None or param.default is REQUIRED or dice.random() < 0.4:
        return param.default
    low, high = (float(end) for end in param.within[1:-1].split(","))
    if param.type is float:
        guess = param.default * dice.uniform(0.3, 3.0) if param.default else dice.uniform(0.0, 1.0)
        return min(max(guess, low + 1e-6), high - (1e-6 if param.within[-1] == ")" else 0.0))
    return param.default


def part_for(kind: str, dice: random.Random, allowed: list[str] | None = None) -> dict[str, Any]:
    name = dice.choice(allowed or list(names(kind)))
    part = entry(kind, name)
    section = {"kind": name, **{key: value_for(param, dice) for key, param in part.params.items()}, **SMALL.get((kind, name), {})}
    return section | {key: part_for(inner, dice) for key, (inner, _) in part.parts.items()}


def random_recipe(seed: int) -> Recipe:
    """An accepted recipe; draws that contradict themselves are thrown again."""
    dice = random.Random(seed)
    images = seed % 10 == 5
    for _ in range(200):
        guidance, objective = dice.choice([1.0, 2.5]), part_for("objective", dice)
        schedule = part_for("schedule", dice)
        if dice.random() < 0.1:  # a learned schedule goes with one objective only, which chance alone would seldom draw
            schedule, objective = part_for("schedule", dice, ["learned"]), TEACHES
        logits = "logits" in entry("objective", objective["kind"]).traits(objective)
        networks = ("unet", "encoder") if images else ("mlp", "point-encoder")
        data: dict[str, Any] = {
            "name": f"random-{seed}",
            "data": part_for("data", dice, ["digits"] if images else ["points"]),
            "schedule": schedule,
            "prediction": part_for("prediction", dice),
            "objective": objective,
            "network": part_for("network", dice, [networks[logits]]),
            "train": {
                **{"steps": 3, "batch_size": 8, "micro_batch": dice.choice([None, 8, 4, 2]), "warmup": dice.randrange(4)},
                **{"learning_rate": 10 ** dice.uniform(-5, -2), "decay": dice.choice(["cosine", "constant"]), "seed": dice.randrange(1000)},
                **{"precision": dice.choice(["fp32", "bf16"]), "device": "cpu", "ema_decay": dice.choice([0.0, 0.9]), "log_every": 1},
                **{"gradient_checkpointing": images and dice.random() < 0.5, "checkpoint_every": dice.randint(1, 4)},
            },
            "sample": {
                **{"solver": part_for("solver", dice), "plan": part_for("plan", dice), "steps": dice.randint(1, 3), "guidance": guidance},
                **{"guidance_interval": sorted([dice.random(), dice.random()]), "micro_batch": 16},
            },
        }
        try:
            return Recipe.parse(Document(data))
        except RecipeError:
            continue
    raise AssertionError("no valid recipe in 200 draws")


def trains(seed: int, folder: Path) -> None:
    from ornstein.base.files import read_lines
    from ornstein.run.train import train

    recipe = random_recipe(seed)
    result = train(recipe, folder, resume=False, init_from=None, show=lambda record: None)
    assert (result["steps"], result["finished"]) == (3, True), recipe.to_yaml()
    lines = read_lines(folder / "metrics.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses), recipe.to_yaml()
    assert not any("skip" in line for line in lines), recipe.to_yaml()
    assert math.isfinite(result["heldout"])


@pytest.mark.parametrize("seed", range(10))
def test_ten_random_recipes_train(seed: int, tmp_path: Path) -> None:
    trains(seed, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 210))
def test_two_hundred_random_recipes_train(seed: int, tmp_path: Path) -> None:
    trains(seed, tmp_path / "run")


def test_the_draws_reach_every_part() -> None:
    seen: dict[str, set[str]] = {}
    for seed in range(120):
        recipe = random_recipe(seed)
        parts = [("schedule", recipe.schedule), ("prediction", recipe.prediction), ("solver", recipe.sample.solver)]
        parts += [("plan", recipe.sample.plan), ("times", recipe.objective.times), ("network", recipe.network)]
        parts += [("weighting", recipe.objective.weighting)] if hasattr(recipe.objective, "weighting") else []
        for kind, part in parts:
            seen.setdefault(kind, set()).add(part.kind)
    assert seen == {kind: set(names(kind)) for kind in seen}
