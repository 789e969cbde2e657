# SPDX-License-Identifier: Apache-2.0
"""What a student's objective, its teacher and the way it is sampled must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ornstein.base.registry import entry, names
from ornstein.run.rule import Rule, traits

if TYPE_CHECKING:
    from ornstein.run.recipe import Recipe


def _teacher(recipe: Recipe) -> str | None:
    if recipe.teacher is None and "teacher" in traits("objective", recipe.objective):
        return f"'{recipe.objective.kind}' learns from a teacher; set teacher.run to a run folder or a recipe"
    return None


def _teacher_scale(recipe: Recipe) -> str | None:
    if recipe.teacher is not None and recipe.teacher.guidance != 1.0 and "scale" in traits("objective", recipe.objective):
        return "the objective guides its teacher by itself; leave it 1"
    return None


def _boundary(recipe: Recipe) -> str | None:
    if "boundary" in traits("objective", recipe.objective) and recipe.prediction.kind == "x0":
        return f"'{recipe.objective.kind}' needs a prediction that leaves clean data as they are; use edm, v, velocity, eps or score"
    return None


def _halving_moves(recipe: Recipe) -> str | None:
    objective = recipe.objective
    if objective.kind != "progressive":
        return None
    times, rest = divmod(objective.first, objective.last)
    fits = rest == 0 and times & (times - 1) == 0
    return None if fits else f"{objective.first} moves cannot be halved down to {objective.last}"


def _scales(recipe: Recipe) -> str | None:
    objective = recipe.objective
    if objective.kind == "guidance" and objective.lowest > objective.highest:
        return f"lowest {objective.lowest:g} is above highest {objective.highest:g}"
    return None


def _goal_shares(recipe: Recipe) -> str | None:
    goal = getattr(recipe.objective, "goal", None)
    if goal is not None and goal.kind == "anywhere" and goal.clean + goal.nearest > 1.0:
        return f"clean {goal.clean:g} and nearest {goal.nearest:g} are shares of one whole"
    return None


def _gap_grid(recipe: Recipe) -> str | None:
    gap = getattr(recipe.objective, "gap", None)
    if gap is not None and gap.kind == "grid" and gap.sigma_min >= gap.sigma_max:
        return f"sigma_min {gap.sigma_min:g} is not below sigma_max {gap.sigma_max:g}"
    return None


def student_sampling_rules(name: str) -> Iterator[Rule]:
    """Rules that hold for the sections `sample` and `evaluate` alike."""

    def guidance(recipe: Recipe) -> str | None:
        scale, objective = getattr(recipe, name).guidance, recipe.objective
        if "scale" in traits("objective", objective):
            within = objective.lowest <= scale <= objective.highest
            return None if within else f"guidance {scale:g} is outside the {objective.lowest:g} to {objective.highest:g} that are distilled"
        if scale != 1.0 and traits("objective", objective) & {"flow-map", "teacher"}:
            return f"a student cannot be guided (scale {scale:g}); use guidance 1, and teacher.guidance for a guided teacher"
        return None

    def interval(recipe: Recipe) -> str | None:
        given = getattr(getattr(recipe, name), "guidance_interval", (0.0, 1.0))
        if "scale" in traits("objective", recipe.objective) and given != (0.0, 1.0):
            return "distilled guidance acts at all times; leave it at [0, 1]"
        return None

    def student(recipe: Recipe) -> str | None:
        settings, words = getattr(recipe, name), traits("objective", recipe.objective)
        if "uniform-plan" in words and (settings.plan.kind, settings.steps) != ("uniform", recipe.objective.last):
            return f"the student knows the {recipe.objective.last} moves of the uniform plan only; use these"
        if words & {"uniform-plan", "flow-map"} and "flow-map" not in traits("solver", settings.solver):
            fits = [word for word in names("solver") if "flow-map" in entry("solver", word).traits({})]
            return f"'{settings.solver.kind}' takes small steps along a flow, and this model jumps; what does: {', '.join(fits)}"
        return None

    yield Rule((f"{name}.guidance", "objective.lowest", "objective.highest"), guidance)
    yield Rule((f"{name}.guidance_interval",), interval)
    yield Rule((f"{name}.solver", f"{name}.plan", f"{name}.steps", "objective.kind", "objective.last"), student)


STUDENT_RULES = (
    Rule(("teacher", "objective.kind", "objective.drift"), _teacher),
    Rule(("teacher.guidance", "objective.kind"), _teacher_scale),
    Rule(("prediction.kind", "objective.kind"), _boundary),
    Rule(("objective.first", "objective.last"), _halving_moves),
    Rule(("objective.lowest", "objective.highest"), _scales),
    Rule(("objective.goal.clean", "objective.goal.nearest", "objective.goal.kind"), _goal_shares),
    Rule(("objective.gap.sigma_min", "objective.gap.sigma_max", "objective.gap.kind"), _gap_grid),
)
