# SPDX-License-Identifier: Apache-2.0
r"""Solvers fitted to a model: the levels and the rows of a multistep rule, learned against the exact flow.

The teacher is a fine solver: it carries starts x to points y, and a rule of few evaluations is made to end near y for all of them
(`least_squares`). Few numbers are free, 24 for five evaluations, against as many residuals as the samples have numbers: what was
fitted on some noises holds on others.

Fitting levels and coefficients to a teacher's end points is the idea of Frankel et al. 2025 (arXiv 2502.17423).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

from ornstein.base.errors import UsageError
from ornstein.sample.draw import Sampler
from ornstein.sample.least_squares import Fit, Lesson, Limits, descend, error, median_error
from ornstein.sample.rules import Rule, fixed_rules

_RACERS, _NUMBERS, _LAPS = 24, 4096, 4  # fewest samples, fewest numbers in them, and rounds by which the starts are compared


def lessons(teacher: Sampler, seeds: Sequence[int]) -> Iterator[Lesson]:
    """Lessons of the samples of some seeds, one per micro-batch; the teacher's solver and plan stand for the exact flow."""
    for first in range(0, len(seeds), teacher.micro_batch):
        part = seeds[first : first + teacher.micro_batch]
        cond = teacher.condition(part)
        *_, last = teacher.steps(part)
        yield Lesson(teacher.model, teacher.start(part), last.x, None if cond is None else cond.to(teacher.device))


def fit(
    given: Sequence[Lesson],
    evaluations: int,
    *,
    history: int = 4,
    seconds: float = 25.0,
    rounds: int = 40,
    begin: Rule | None = None,
    robust: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Fit:
    """Fit a rule to lessons.

    Args:
        given: lessons, of one model or of several; each is weighed by the spread of its end points.
        evaluations: denoiser calls, which is also moves, >= 1.
        history: how many of a row's newest estimates have their shares fitted, >= 1; older ones stay as the fit began with.
        seconds: no round is begun that would not end within them.
        rounds: most rounds.
        begin: rule to begin with; by default the best of a few fixed ones.
        robust: weigh down samples that end far off, from the median error at the beginning on.
        clock: seconds since any moment.

    Raises UsageError for fewer than one evaluation, for no lesson, and where no rule ends in finite numbers.
    """
    if evaluations < 1 or history < 1 or not given:
        raise UsageError(f"A solver of {evaluations} evaluations cannot be fitted.", "Ask for at least one evaluation, history and sample.")
    began, until = clock(), clock() + seconds
    if begin is None:
        begin = _race([_part(given[0])], evaluations, history, robust, Limits(_LAPS, until - 2.0 * seconds / 3.0, clock))
    found = descend(begin, given, history, _knee(begin, given, robust), Limits(rounds, until, clock))
    return found._replace(seconds=clock() - began)


def _knee(rule: Rule, given: Sequence[Lesson], robust: bool) -> float:
    return max(median_error(rule, given), 1e-6) if robust else math.inf


def _race(given: Sequence[Lesson], evaluations: int, history: int, robust: bool, limits: Limits) -> Rule:
    """The rule that a few rounds from each of the starts lead lowest, as far as time allows."""
    found, now = list[tuple[float, Rule]](), limits.clock()
    starts = _starts(given, evaluations, limits.clock, now + (limits.until - now) / 3.0)
    if not starts:
        raise UsageError("No solver of that many evaluations ends in finite numbers here.", "Check the model's samples first.")
    knee = _knee(starts[0], given, robust)
    for start in starts:
        began, now = now, limits.clock()
        if found and 2.0 * now - began > limits.until:  # as long again as the last one took
            break
        rule = descend(start, given, history, knee, limits._replace(until=math.inf)).rule
        found.append((error(rule, given, knee), rule))
    return min(found)[1]


def _part(lesson: Lesson) -> Lesson:
    """The first samples of a lesson, enough to compare rules."""
    count = max(_RACERS, -(-_NUMBERS // lesson.start[0].numel()))
    cond = None if lesson.cond is None else lesson.cond.take(slice(count))
    return lesson._replace(start=lesson.start[:count], end=lesson.end[:count], cond=cond)


def _starts(given: Sequence[Lesson], evaluations: int, clock: Callable[[], float], until: float) -> list[Rule]:
    """The best of every family of fixed rules among those there was time for, the best family first."""
    best: dict[int, tuple[float, Rule]] = {}
    families = fixed_rules(given[0].model.process.schedule, evaluations)
    for number, rule in (one for grid in zip(*families, strict=True) for one in enumerate(grid)):
        if len(best) > number and clock() > until:
            break
        if math.isfinite(loss := error(rule, given)):
            best[number] = min(best.get(number, (loss, rule)), (loss, rule))
    return [rule for _, rule in sorted(best.values())]
