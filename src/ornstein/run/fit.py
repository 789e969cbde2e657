# SPDX-License-Identifier: Apache-2.0
"""`ornstein fit-solver`: learn the levels and rows of a solver of few evaluations for a run's own model, and keep them with the run.

Fitted on one set of noises, judged on another, beside the run's own solver at the same number of evaluations. What is stored
serves one checkpoint and one guidance; for any other it is not used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ornstein import __version__
from ornstein.base.errors import UsageError
from ornstein.base.files import write_json
from ornstein.run.build import plan_of, schedule_of, solver_of
from ornstein.run.draw import DrawOptions, labels_for, sampler, settled
from ornstein.run.fitted import FORMAT, file_of, guidance_of
from ornstein.run.folder import RunFolder
from ornstein.run.recipe import Recipe
from ornstein.run.trained import trained
from ornstein.sample.draw import Sampler
from ornstein.sample.exponential import angular
from ornstein.sample.fitted import fit, lessons
from ornstein.sample.least_squares import Lesson, end_error, error
from ornstein.sample.plans import angle
from ornstein.sample.protocol import Renoise

ERROR = "root mean square over samples and dimensions, divided by the standard deviation of the model's own samples"
_SEEDS = 1 << 45  # far from what anybody draws
_FINE = 40  # evaluations of the reference
_TEACHING = 0.45  # largest share of the time that goes into the reference
_NUMBERS, _FEWEST, _MOST, _PIECES = 8192, 32, 512, 8  # per piece: numbers, samples; and pieces on either side

Show = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class FitOptions:
    """What `ornstein fit-solver` may be told.

    Args:
        evaluations: network calls of the solver, a guided pair counting one; 2 to 20.
        guidance: scale it is fitted for; None takes the recipe's.
        seconds: wall time for reference, fit and judgement together.
        seed: of the noises.
        checkpoint: "newest", "best" or a step.
    """

    evaluations: int = 5
    guidance: float | None = None
    seconds: float = 25.0
    seed: int = 0
    checkpoint: str = "newest"


def fit_solver(folder: Path, options: FitOptions, show: Show, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Fit a solver to a run's model and store it where it is better than the run's own; what was done, as JSON values.

    Args:
        folder: the run.
        options: for how many evaluations and which guidance, and how long it may take.
        show: is told {"fitting": word, ...} while it works and {"warning": sentence}.
        clock: seconds since any moment.

    Raises UsageError, RecipeError, CheckpointError, StorageError.
    """
    began = clock()
    if not 2 <= options.evaluations <= 20:
        what = f"A solver of {options.evaluations} evaluations cannot be fitted."
        raise UsageError(what, "Ask for 2 to 20; with one there is nothing to fit, and beyond 20 there is nothing to win.")
    run = RunFolder.open(folder)
    model = trained(run, options.checkpoint, lambda sentence: show({"warning": sentence}))
    own = _own(model.recipe, options)
    plain = sampler(model, own, labels_for(model.facts, None))
    taught, unseen = _taught(plain, options, began, clock, show)
    show({"note": f"Fitting {options.evaluations} evaluations to {_count(taught)} samples; {_count(unseen)} others will judge."})
    result = fit(taught, options.evaluations, seconds=options.seconds - (clock() - began), clock=clock)
    before, after = end_error(plain.solver, plain.plan, unseen), error(result.rule, unseen)
    document = {
        "format": FORMAT,
        "evaluations": options.evaluations,
        "ratios": list(result.rule.ratios),
        "rows": [{"pull": row.pull, "estimates": list(row.estimates)} for row in result.rule.shares],
        "guidance": guidance_of(own),
        **model.identity(),
        "error": {"unfitted": before, "fitted": after, "fitted_on_its_own_noises": result.after, "is": ERROR},
        "unfitted": {"solver": own.sample.solver.kind, "plan": own.sample.plan.kind, "steps": own.sample.steps},
        "reference": {"solver": "default", "plan": "default", "evaluations": _FINE},
        "seeds": {"fitted": [_SEEDS + options.seed, _count(taught)], "judged": [_judges(options.seed), _count(unseen)]},
        "rounds": result.rounds,
        "stopped": result.stopped,
        "seconds": round(clock() - began, 2),
        **{"version": __version__, "torch": torch.__version__, "device": str(model.device), "threads": torch.get_num_threads()},
    }
    better = after < before
    if better:
        write_json(file_of(run, options.evaluations), document)
    return {**document, "stored": str(file_of(run, options.evaluations)) if better else None}


def _own(recipe: Recipe, options: FitOptions) -> Recipe:
    """The recipe with as many steps of its own solver as the budget allows.

    What draws fresh noise has no end to miss: a stochastic solver gives way to 2M, and a plan with detours to Karras levels.
    """
    solver = "dpm++2m" if solver_of(recipe.sample.solver).stochastic else None
    plan = "karras" if any(isinstance(node, Renoise) for node in plan_of(recipe.sample.plan, schedule_of(recipe), 8)) else None
    return settled(recipe, DrawOptions(solver=solver, plan=plan, evaluations=options.evaluations, guidance=options.guidance))


def _taught(
    plain: Sampler, options: FitOptions, began: float, clock: Callable[[], float], show: Show
) -> tuple[list[Lesson], list[Lesson]]:
    """Lessons to fit and lessons to judge by, of disjoint seeds, in turn until they are enough or their time is over."""
    teacher = plain._replace(solver=angular(), plan=angle(plain.model.process.schedule, _FINE))
    size = min(max(_NUMBERS // math.prod(plain.shape), _FEWEST), _MOST)
    sides: tuple[list[Lesson], list[Lesson]] = ([], [])
    for piece in range(_PIECES):
        for side, start in zip(sides, (_SEEDS + options.seed, _judges(options.seed)), strict=True):
            first = start + piece * size
            side += lessons(teacher._replace(micro_batch=size), range(first, first + size))
        show({"fitting": "reference", "drawn": (piece + 1) * 2 * size, "count": _PIECES * 2 * size})
        spent = clock() - began
        if spent * (piece + 2) / (piece + 1) > _TEACHING * options.seconds:
            break
    return sides


def _judges(seed: int) -> int:
    """First seed of the noises that judge."""
    return 2 * _SEEDS + seed


def _count(given: list[Lesson]) -> int:
    return sum(len(lesson.start) for lesson in given)
