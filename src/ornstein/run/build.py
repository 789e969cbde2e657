# SPDX-License-Identifier: Apache-2.0
"""From a recipe to objects: the one place where names become parts and parts are put together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from ornstein.base.keys import seed_of
from ornstein.base.registry import build
from ornstein.codec.pixels import Codec, Coordinates, Pixels
from ornstein.data.dataset import Split
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser, Model
from ornstein.model.guidance import ClassifierFree
from ornstein.model.reading import Plain, Reading, WithSpread
from ornstein.model.telling import OneTime, Telling, TimeAndScale, TwoTimes
from ornstein.objective.record import Objective
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import Schedule
from ornstein.run.recipe import Recipe
from ornstein.run.rule import traits
from ornstein.sample.protocol import Plan, Solver


class Facts(NamedTuple):
    """What of the data a model must know; stored in run.json so that sampling needs no data.

    Args:
        kind: "image" or "points".
        shape: shape of one x_0.
        classes: number of classes, 0 where there are no labels.
        class_names: their names.
    """

    kind: str
    shape: tuple[int, ...]
    classes: int
    class_names: tuple[str, ...]

    @staticmethod
    def of(split: Split) -> Facts:
        """The facts of loaded data."""
        data = split.train
        return Facts(data.kind, tuple(data.raw.shape[1:]), len(data.class_names), tuple(data.class_names))

    @staticmethod
    def read(facts: dict[str, Any]) -> Facts:
        """The facts stored in run.json."""
        stored = facts["data"]
        return Facts(stored["kind"], tuple(stored["shape"]), stored["classes"], tuple(stored["class_names"]))


@contextlib.contextmanager
def seeded(*words: int | str) -> Iterator[None]:
    """Initialise modules from a seed: torch's layers draw from the global generator, so it is set here and put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(*words))
        yield


def data_of(recipe: Recipe) -> Split:
    """The training and test data. Raises DataError."""
    split: Split = build("data", recipe.data)
    return split


def codec_of(facts: Facts) -> Codec:
    """The codec for a kind of data."""
    return Pixels() if facts.kind == "image" else Coordinates()


def schedule_of(recipe: Recipe) -> Schedule:
    """The noise schedule."""
    schedule: Schedule = build("schedule", recipe.schedule)
    return schedule


def network_of(recipe: Recipe, facts: Facts) -> nn.Module:
    """A freshly initialised network for the data; its weights are a function of the run's seed."""
    channels = facts.shape[0]
    out = channels * reading_of(recipe).width
    size = {"in_channels": channels, "out_channels": out} if facts.kind == "image" else {"dim": channels, "out": out}
    if facts.kind == "image" and recipe.train.gradient_checkpointing:
        size["checkpointing"] = True
    told = telling_of(recipe)
    if told.features > 1:
        size["features"] = told.features
    with seeded(recipe.train.seed, "weights"):
        network: nn.Module = build("network", recipe.network, classes=facts.classes, **size)
    return network


def telling_of(recipe: Recipe) -> Telling:
    """What the network is told of the levels, which the objective decides."""
    words = traits("objective", recipe.objective)
    if "two-times" in words:
        return TwoTimes()
    return TimeAndScale() if "scale" in words else OneTime(flow_map="flow-map" in words)


def reading_of(recipe: Recipe) -> Reading:
    """What the network's output holds, which the objective decides."""
    return WithSpread() if "spread" in traits("objective", recipe.objective) else Plain()


def model_of(recipe: Recipe, facts: Facts, device: torch.device | str = "cpu") -> Model:
    """The denoiser with a freshly initialised network."""
    process = GaussianProcess(schedule_of(recipe))
    network, prediction = network_of(recipe, facts), build("prediction", recipe.prediction)
    model = Model(network, process, prediction, recipe.train.precision, telling_of(recipe), reading_of(recipe))
    model.weights.to(device)
    return model


def objective_of(recipe: Recipe, **lesson: Any) -> Objective:
    """The objective with its parts; `lesson` is what a teacher gives to it, by name (see `ornstein.run.teacher`)."""
    objective: Objective = build("objective", recipe.objective, schedule=schedule_of(recipe), strata=recipe.train.batch_size, **lesson)
    return objective


def solver_of(choice: Any) -> Solver:
    """A solver from its section of a recipe."""
    solver: Solver = build("solver", choice)
    return solver


def plan_of(choice: Any, schedule: Schedule, moves: int) -> Plan:
    """A plan from its section of a recipe."""
    plan: Plan = build("plan", choice, schedule=schedule, moves=moves)
    return plan


def without_detours(choice: Any) -> Any:
    """The section of the plan that churn, restart and resampling go around; a plain plan's own."""
    while getattr(choice, "base", None) is not None:
        choice = choice.base
    return choice


def guided(
    model: Denoiser, scale: float, interval: Sequence[float] = (0.0, 1.0), rescale: float = 0.0, negative: Cond | None = None
) -> Denoiser:
    """The model with classifier-free guidance, or alone where the scale is 1; one that was distilled is only told the scale."""
    if isinstance(model, Model) and isinstance(model.telling, TimeAndScale):
        return model.replaced(telling=TimeAndScale(scale))
    return model if scale == 1.0 else ClassifierFree(model, scale, (interval[0], interval[1]), rescale, negative)
