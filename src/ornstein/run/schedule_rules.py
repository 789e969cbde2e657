# SPDX-License-Identifier: Apache-2.0
"""What a schedule, and every schedule inside it, must not be. Traits pass through schedules made of others by themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ornstein.run.recipe_parts import Part
from ornstein.run.rule import Rule, traits

if TYPE_CHECKING:
    from ornstein.run.recipe import Recipe


def nested(schedule: Part, path: str = "schedule") -> Iterator[tuple[str, Part]]:
    """A schedule and the ones it is made of, outermost first, with their dotted paths."""
    yield path, schedule
    if _is_made_of_another(schedule):
        yield from nested(schedule.base, f"{path}.base")


def starting_noise(schedule: Part) -> float:
    """sigma/alpha that the schedule starts from; infinite where no key of the recipe sets it."""
    if schedule.kind in ("edm", "geometric"):
        return float(schedule.sigma_max)
    if not _is_made_of_another(schedule):
        return math.inf
    inner = starting_noise(schedule.base)
    if schedule.kind == "truncated":
        return min(math.exp(-0.5 * schedule.lowest), inner)
    return float(schedule.factor) * inner if schedule.kind == "shifted" else inner


def schedule_rules(recipe: Recipe) -> Iterator[Rule]:
    """A rule per fault that a schedule of the recipe has, at its own path."""
    for path, schedule in nested(recipe.schedule):
        for keys, message in _faults(schedule):
            yield Rule(tuple(f"{path}.{key}" for key in keys), lambda recipe, message=message: message)  # type: ignore[misc]


def _faults(schedule: Part) -> Iterator[tuple[tuple[str, ...], str]]:
    """(keys concerned, the one at fault first; what is wrong) of one schedule, whatever stands around it."""
    kind = schedule.kind
    if not _is_made_of_another(schedule) and "vanishing-signal" in traits("schedule", schedule):
        keys = ("beta_end", "kind", "steps", "beta_start")
        yield keys, "the table leaves alpha below 1e-13 at its end; lower beta_end or steps"
    if kind in ("linear-beta", "sub-vp") and schedule.beta_max < schedule.beta_min:
        yield ("beta_max", "kind", "beta_min"), f"beta_max {schedule.beta_max:g} is below beta_min {schedule.beta_min:g}"
    if kind == "sigmoid" and schedule.end <= schedule.start:
        yield ("end", "kind", "start"), f"end {schedule.end:g} is not above start {schedule.start:g}"
    if kind == "sigmoid" and max(abs(schedule.start), abs(schedule.end)) > 30.0 * schedule.tau:
        yield ("tau", "kind", "start", "end"), f"tau {schedule.tau:g} makes the sigmoid a step; use a thirtieth of start and end or more"
    if kind == "geometric" and schedule.sigma_max <= schedule.sigma_min:
        yield ("sigma_max", "kind", "sigma_min"), f"sigma_max {schedule.sigma_max:g} is not above sigma_min {schedule.sigma_min:g}"
    if kind == "truncated" and schedule.highest <= schedule.lowest:
        yield ("highest", "kind", "lowest"), f"highest {schedule.highest:g} is not above lowest {schedule.lowest:g}"
    if kind == "zero-terminal-snr" and "variance-preserving" not in traits("schedule", schedule.base):
        what = f"'{schedule.base.kind}' is not variance-preserving, so it cannot be rescaled to zero terminal SNR"
        yield ("base.kind", "base"), f"{what}; use linear-beta, ddpm, scaled-linear, cosine or sigmoid"


def _is_made_of_another(schedule: Part) -> bool:
    return "base" in type(schedule).model_fields
