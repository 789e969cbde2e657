# SPDX-License-Identifier: Apache-2.0
"""Which objectives, schedules, networks and solvers go together, in the traits that their entries state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ornstein.base.registry import entry, names
from ornstein.run.rule import Rule, traits
from ornstein.run.schedule_rules import nested

if TYPE_CHECKING:
    from ornstein.run.recipe import Recipe

_LEARNING = ("uniform", "stratified")
"""Times under which the weight of the bound makes the mean of the loss independent of the schedule."""


def _learned_outermost(recipe: Recipe) -> str | None:
    inner = [path for path, schedule in nested(recipe.schedule) if schedule.kind == "learned" and path != "schedule"]
    return f"a learned schedule stands outermost, not at {inner[0]}; put the others inside it" if inner else None


def _learned_smooth(recipe: Recipe) -> str | None:
    own = traits("schedule", recipe.schedule)
    if {"learned", "table"} <= own:
        return "a learned schedule needs a base with smooth rates, and a table has kinks; use linear-beta in place of ddpm"
    return None


def _learned_taught(recipe: Recipe) -> str | None:
    if not _is_learned(recipe) or "learns-schedules" in traits("objective", recipe.objective):
        return None
    fitting = ", ".join(name for name in names("objective") if "learns-schedules" in _default_traits(name))
    return f"'{recipe.objective.kind}' cannot teach a learned schedule; what can: {fitting}"


def _learned_weight(recipe: Recipe) -> str | None:
    weighting = getattr(recipe.objective, "weighting", None)
    if not _is_learned(recipe) or weighting is None or weighting.kind == "elbo":
        return None
    return f"a learned schedule needs weighting elbo: under '{weighting.kind}' it would lower the loss by leaving hard levels out"


def _learned_times(recipe: Recipe) -> str | None:
    times = getattr(recipe.objective, "times", None)
    if not _is_learned(recipe) or times is None or times.kind in _LEARNING:
        return None
    return f"a learned schedule needs times uniform or stratified: '{times.kind}' has a pace of its own"


def _learned_coupling(recipe: Recipe) -> str | None:
    if _is_learned(recipe) and _is_paired(recipe):
        return "a learned schedule follows the variational bound, which holds for independent noise only"
    return None


def _memory(recipe: Recipe) -> str | None:
    times = getattr(recipe.objective, "times", None)
    if times is None or "remembers" not in traits("times", times) or "remembers" in traits("objective", recipe.objective):
        return None
    return f"'{times.kind}' needs an objective that remembers its losses, which '{recipe.objective.kind}' does not; use stratified"


def _signal(recipe: Recipe) -> str | None:
    if "needs-signal" in traits("objective", recipe.objective) and "zero-terminal-snr" in traits("schedule", recipe.schedule):
        what = f"'{recipe.objective.kind}' says nothing about the data where the schedule ends in pure noise"
        return f"{what}; wrap the schedule in 'truncated', or use objective matching"
    return None


def _derivatives(recipe: Recipe) -> str | None:
    if "second-derivative" not in traits("objective", recipe.objective) or "second-derivative" in traits("network", recipe.network):
        return None
    others = ", ".join(name for name in names("network") if "second-derivative" in entry("network", name).traits({}))
    return f"'{recipe.objective.kind}' needs second derivatives, which '{recipe.network.kind}' does not have; what has: {others}"


def _is_learned(recipe: Recipe) -> bool:
    return "learned" in traits("schedule", recipe.schedule)


def _is_paired(recipe: Recipe) -> bool:
    coupling = getattr(recipe.objective, "coupling", None)
    return coupling is not None and "paired" in traits("coupling", coupling)


def _default_traits(name: str) -> frozenset[str]:
    part = entry("objective", name)
    return part.traits({key: param.default for key, param in part.params.items()})


def paired_rule(name: str) -> Rule:
    """For the section `sample` or `evaluate`: noise that was paired with data is followed by deterministic solvers only."""

    def solver(recipe: Recipe) -> str | None:
        chosen = getattr(recipe, name).solver
        if not _is_paired(recipe) or "stochastic" not in traits("solver", chosen):
            return None
        return f"'{chosen.kind}' adds fresh noise, and under '{recipe.objective.coupling.kind}' only deterministic solvers follow the paths"

    return Rule((f"{name}.solver", "objective.coupling"), solver)


OBJECTIVE_RULES = (
    Rule(("schedule",), _learned_outermost),
    Rule(("schedule.base", "schedule"), _learned_smooth),
    Rule(("objective.kind", "schedule"), _learned_taught),
    Rule(("objective.weighting.kind", "objective.weighting", "schedule"), _learned_weight),
    Rule(("objective.times.kind", "objective.times", "schedule"), _learned_times),
    Rule(("objective.coupling.kind", "objective.coupling", "schedule"), _learned_coupling),
    Rule(("objective.times.kind", "objective.kind"), _memory),
    Rule(("objective.kind", "schedule"), _signal),
    Rule(("objective.kind", "network.kind"), _derivatives),
    paired_rule("sample"),
    paired_rule("evaluate"),
)
