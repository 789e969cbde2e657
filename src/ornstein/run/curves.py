# SPDX-License-Identifier: Apache-2.0
"""The curves of `ornstein evaluate --full`: what a run's model makes of test data at each noise level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ornstein.base.keys import Keys, permutation
from ornstein.codec.pixels import Codec
from ornstein.data.dataset import Split
from ornstein.evaluate.curves import estimates, middles, reconstructions
from ornstein.evaluate.extractor import Extractor
from ornstein.evaluate.intervals import Halves, around
from ornstein.evaluate.replicates import mean_part
from ornstein.model.condition import Cond
from ornstein.run.build import codec_of, plan_of, solver_of, without_detours
from ornstein.run.trained import Trained
from ornstein.train.heldout import batch_of

LEVELS, MOST, REPLICATES = 12, 512, 400


def curves(model: Trained, split: Split, extractor: Extractor | None, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """By noise level: squared error and class of the estimate of x_0, and of what sampling from there ends in; as JSON values.

    A model that can do without classes is asked with and without them. `extractor` names the classes, where it can.
    """
    recipe, settings = model.recipe, model.recipe.sample
    n = min(len(split.test), MOST)
    rows = permutation(len(split.test), recipe.train.seed, "curves")[:n]
    codec = codec_of(model.facts)
    batch = batch_of(split.test, rows, codec, model.device)
    labels = split.test.labels[rows] if split.test.labels is not None else None
    schedule = model.model.process.schedule
    levels = middles(schedule, LEVELS)
    keys, size = Keys.for_draws(recipe.train.seed, 0, n, "curves"), min(n, recipe.sample.micro_batch)
    walked = without_detours(settings.plan)
    plan = plan_of(walked, schedule, settings.steps)
    solver = solver_of(settings.solver)
    told: list[dict[str, Any]] = []
    for name, cond in _conditions(model, batch.cond).items():
        show({"measuring": f"x_0 by noise level{name and ', '}{name}"})
        ends = {
            "estimate": estimates(model.model, batch.x0, cond, keys, levels, size),
            "reconstruction": reconstructions(model.model, solver, plan, batch.x0, cond, range(n), levels, size),
        }
        for kind, found in ends.items():
            told.append({"kind": kind, "name": name, **_summary(found, batch.x0, labels, codec, extractor, recipe.train.seed)})
    about = {"n": n, "seed": recipe.train.seed, "t": [float(level.t) for level in levels]}
    about |= {"log_snr": [float(level.log_snr) for level in levels], "data_variance": float(batch.x0.double().var(0).mean())}
    rule = f"{settings.steps} steps of {settings.solver.kind} on a {walked.kind} plan"
    eye = None if extractor is None else extractor.identity
    return {**about, "reconstruction": rule, "eye": eye, "curves": told}


def _conditions(model: Trained, cond: Cond) -> dict[str, Cond | None]:
    """The ways to ask, by name."""
    if not model.facts.classes:
        return {"": None}
    given: dict[str, Cond | None] = {"given the class": cond}
    can_do_without = getattr(model.recipe.objective, "condition_drop", 0.0) > 0.0
    return given | ({"without a class": cond.null()} if can_do_without else {})


def _summary(found: Any, x0: Tensor, labels: Tensor | None, codec: Codec, extractor: Extractor | None, seed: int) -> dict[str, Any]:
    """Mean squared error, and share of the images whose class is kept, by level; each with the ends of its interval."""
    columns: dict[str, list[list[float]]] = {"squared_error": [], "accuracy": []}
    sees = extractor is not None and extractor.head is not None and labels is not None
    for ends in found:
        error = (ends - x0).double().square().flatten(1).mean(1).cpu()
        columns["squared_error"].append(_with_interval(error, seed))
        if extractor is not None and labels is not None and sees:
            columns["accuracy"].append(_with_interval((extractor.predict(codec.decode(ends)) == labels).double(), seed, 1.0))
    return {name: _columns(rows) for name, rows in columns.items() if rows}


def _columns(rows: list[list[float]]) -> dict[str, list[float]]:
    return dict(zip(("value", "low", "high"), map(list, zip(*rows, strict=True)), strict=True))


def _with_interval(values: Tensor, seed: int, most: float = torch.inf) -> list[float]:
    deviations = Halves(len(values), 1, seed, REPLICATES).deviations([mean_part("mean", values[:2000])])["mean"]
    return [float(values.mean()), *around(float(values.mean()), deviations, 0.0, most)]
