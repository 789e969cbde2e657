# SPDX-License-Identifier: Apache-2.0
r"""Levenberg-Marquardt on the levels and shares of a multistep rule.

A rule ends at f(x; theta), the exact flow at y. Here theta holds the half log-SNRs of the inner levels as
l_j = l_0 + sum_{k <= j} exp(g_k), fitted in g and hence always in order, and of each row the pull and the newest shares. With
r = f - y and the Jacobian J by finite differences a round solves (J^T J + mu diag(J^T J)) step = -J^T r. A number that first acts
in move m costs only the evaluations after that move: for 5 evaluations, 24 numbers cost 40 evaluations. No model needs a derivative.

Where data are almost discrete, a few samples end in another mode than the teacher's, whatever the rule, and would rule the mean
square. The loss of a sample is therefore knee^2 log(1 + e^2/knee^2) of its error e (Cauchy's), by reweighted least squares;
knee = inf is the plain mean square.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Plan, Solver
from ornstein.sample.rules import Rule, first_place, levels
from ornstein.sample.tabled import Shares, combine, row

_STEP = 1e-2  # of the finite differences: large enough for the rounding of float32 and bfloat16 networks
_GAIN, _PATIENCE = 2e-3, 3  # rounds in a row that lower the squared error by less, relatively, end the fit


class Lesson(NamedTuple):
    """What a rule is fitted to, or judged by.

    Args:
        model: the denoiser, guided or not.
        start: states at the schedule's noisiest level, `(batch, ...)`.
        end: where the probability flow takes each of them.
        cond: their condition.
    """

    model: Denoiser
    start: Tensor
    end: Tensor
    cond: Cond | None = None


class Fit(NamedTuple):
    """What fitting did.

    Args:
        rule: the fitted solver.
        before: error of the rule that the fit began with, on the lessons.
        after: error of the fitted one.
        rounds: steps of the least squares.
        seconds: wall time.
        stopped: "converged", "time" or "rounds".
    """

    rule: Rule
    before: float
    after: float
    rounds: int
    seconds: float
    stopped: str


class Limits(NamedTuple):
    """When a fit ends.

    Args:
        rounds: most rounds.
        until: moment of the clock by which no round is begun that would not end before it.
        clock: seconds since any moment.
    """

    rounds: int
    until: float
    clock: Callable[[], float]


def descend(begin: Rule, given: Sequence[Lesson], history: int, knee: float, limits: Limits) -> Fit:
    """Levenberg-Marquardt from a rule on."""
    began = limits.clock()
    point = Point.of(begin, given, history)
    paths = [point.walk(lesson) for lesson in given]
    before, loss = _loss(given, paths), _loss(given, paths, knee)
    damping, done, idle, longest = 1e-3, 0, 0, 0.0
    stopped = "rounds"
    while done < limits.rounds:
        now = limits.clock()
        if now + longest > limits.until:
            stopped = "time"
            break
        found = _improve(point, given, paths, loss, damping, knee)
        longest = max(longest, limits.clock() - now)
        if found is not None:
            point, paths, new, damping = found
            idle, loss, done = (idle + 1 if new > (1.0 - _GAIN) * loss else 0), new, done + 1
        if found is None or idle == _PATIENCE:
            stopped = "converged"
            break
    return Fit(point.rule, math.sqrt(before), math.sqrt(_loss(given, paths)), done, limits.clock() - began, stopped)


def median_error(rule: Rule, given: Sequence[Lesson]) -> float:
    """Median over all samples of the root mean square error of each, in the same unit."""
    ends = [(Point.of(rule, [lesson], 1).walk(lesson).states[-1], lesson.end) for lesson in given]
    return float(torch.cat([squares(found, end) for found, end in ends]).median().sqrt())


def error(rule: Rule, given: Sequence[Lesson], knee: float = math.inf) -> float:
    """Root mean square over samples and dimensions, divided by the standard deviation of the end points of each lesson.

    With a knee, the root of the mean loss.
    """
    return math.sqrt(_loss(given, [Point.of(rule, [lesson], 1).walk(lesson) for lesson in given], knee))


def end_error(solver: Solver, plan: Plan, given: Sequence[Lesson]) -> float:
    """The same figure for any deterministic solver and plan."""
    total = 0.0
    for lesson in given:
        *_, last = sample(lesson.model, solver, plan, lesson.start, SampleNoise(range(len(lesson.start))), lesson.cond)
        total += float(squares(last.x, lesson.end).mean())
    return math.sqrt(total / len(given))


class Path(NamedTuple):
    """States at every node and the estimates between them; the last state is the result."""

    states: list[Tensor]
    estimates: list[Tensor]


class Point(NamedTuple):
    """A rule as the numbers that are fitted.

    Args:
        base: half log-SNR from which the first gap is counted.
        inner: half log-SNR of the inner levels, rising.
        shares: the rows.
        history: how many of the newest estimates have a free share in each row.
    """

    base: float
    inner: tuple[float, ...]
    shares: tuple[Shares, ...]
    history: int

    @staticmethod
    def of(rule: Rule, given: Sequence[Lesson], history: int) -> Point:
        """The rule, with every row as long as it can be."""
        base = max(first_place(lesson.model.process.schedule) for lesson in given)
        rows = [Shares(pull, (*p, *[0.0] * (i + 1 - len(p)))) for i, (pull, p) in enumerate(rule.shares)]
        return Point(base, tuple(-math.log(ratio) for ratio in rule.ratios), tuple(rows), history)

    @property
    def rule(self) -> Rule:
        """The rule that these numbers are."""
        return Rule(tuple(math.exp(-value) for value in self.inner), self.shares)

    @property
    def size(self) -> int:
        """How many numbers are free."""
        return len(self.inner) + sum(self._free(i) for i in range(len(self.shares)))

    def _free(self, move: int) -> int:
        """Free numbers of a row, the pull among them."""
        return 1 + min(move + 1, self.history)

    def walk(self, lesson: Lesson, kept: Path | None = None, first: int = 0) -> Path:
        """The path of a lesson; up to and with the estimate of move `first` as in `kept`, where one is given."""
        nodes = levels(lesson.model.process.schedule, self.inner)
        states = [lesson.start] if kept is None else kept.states[: first + 1]
        estimates = [] if kept is None else kept.estimates[: first + 1]
        with torch.no_grad():
            for i in range(first, len(self.shares)):
                if len(estimates) == i:
                    estimates.append(lesson.model(states[i], nodes[i], lesson.cond, nodes[i + 1]).x0)
                states.append(combine(states[i], estimates, row(nodes[i], nodes[i + 1], self.shares[i])))
        return Path(states, estimates)

    def nudged(self, step: float) -> Iterator[tuple[int, Point]]:
        """(first move that notices, this point with one number moved) for every free number: levels, then shares."""
        for j in range(len(self.inner)):
            yield j, self._replace(inner=(*self.inner[:j], self.inner[j] + step, *self.inner[j + 1 :]))
        for i, shares in enumerate(self.shares):
            for j in range(self._free(i)):
                moved = _added(shares, [0.0] * j + [step])
                yield i, self._replace(shares=(*self.shares[:i], moved, *self.shares[i + 1 :]))

    def gaps(self) -> Tensor:
        """exp(g), float64."""
        return torch.tensor([after - before for before, after in pairwise((self.base, *self.inner))], dtype=torch.float64)

    def moved(self, step: Tensor) -> Point:
        """The point after a step in (g, free shares)."""
        gaps, rest = step[: len(self.inner)], step[len(self.inner) :].tolist()
        inner = self.base + (self.gaps() * gaps.exp()).cumsum(0)
        rows = []
        for i, shares in enumerate(self.shares):
            rows.append(_added(shares, rest[: self._free(i)]))
            rest = rest[self._free(i) :]
        return self._replace(inner=tuple(inner.tolist()), shares=tuple(rows))


def _added(shares: Shares, changes: Sequence[float]) -> Shares:
    """A row with changes of its first numbers."""
    pull, *estimates = (number + change for number, change in zip_longest((shares.pull, *shares.estimates), changes, fillvalue=0.0))
    return Shares(pull, tuple(estimates))


_Found = tuple[Point, list[Path], float, float]


def _improve(point: Point, given: Sequence[Lesson], paths: list[Path], loss: float, damping: float, knee: float) -> _Found | None:
    """A point of lower loss with its paths, loss and damping for the next round; None where no step helps."""
    matrix, slope = _normal(point, given, paths, knee)
    scale = matrix.diagonal().clamp_min(1e-12 * float(matrix.diagonal().max()) + 1e-300)
    for _ in range(8):
        step = -torch.linalg.solve(matrix + damping * torch.diag(scale), slope)
        trial = point.moved(step.clamp(-1.0, 1.0))
        found = [trial.walk(lesson) for lesson in given]
        if (lower := _loss(given, found, knee)) < loss:
            return trial, found, lower, damping / 5.0
        damping *= 5.0
    return None


def _normal(point: Point, given: Sequence[Lesson], paths: Sequence[Path], knee: float) -> tuple[Tensor, Tensor]:
    """J^T J and J^T r in (g, free shares), float64, every sample by its weight."""
    matrix = torch.zeros(point.size, point.size, dtype=torch.float64)
    slope = torch.zeros(point.size, dtype=torch.float64)
    for lesson, path in zip(given, paths, strict=True):
        end, spread = path.states[-1], _spread(lesson.end)
        # Cauchy's weight of a sample, and every lesson counts the same whatever its size.
        weight = (1.0 + squares(end, lesson.end) / knee**2).rsqrt().to(end)[:, None] / (spread * math.sqrt(end.numel()))
        columns = [
            ((nudged.walk(lesson, path, first).states[-1] - end).flatten(1) * (weight / _STEP)).flatten()
            for first, nudged in point.nudged(_STEP)
        ]
        jacobian = torch.stack(columns)
        residual = ((end - lesson.end).flatten(1) * weight).flatten()
        matrix += (jacobian @ jacobian.T).to("cpu", torch.float64)
        slope += (jacobian @ residual).to("cpu", torch.float64)
    turn = torch.eye(point.size, dtype=torch.float64)
    count = len(point.inner)
    turn[:count, :count] = torch.ones(count, count, dtype=torch.float64).tril() * point.gaps()  # d l_j / d g_k
    return turn.T @ matrix @ turn, turn.T @ slope


def _loss(given: Sequence[Lesson], paths: Sequence[Path], knee: float = math.inf) -> float:
    """Mean over the lessons of the mean loss of their samples."""
    found = [squares(path.states[-1], lesson.end) for lesson, path in zip(given, paths, strict=True)]
    if knee < math.inf:
        found = [knee**2 * (each / knee**2).log1p() for each in found]
    return sum(float(each.mean()) for each in found) / len(found)


def squares(found: Tensor, end: Tensor) -> Tensor:
    """Mean squared error of each sample, in units of the variance of the end points: float64 `(batch,)`."""
    return ((found - end).double() / _spread(end)).square().flatten(1).mean(1)


def _spread(end: Tensor) -> float:
    """Standard deviation of samples about their mean, over all dimensions."""
    return max(float((end.double() - end.double().mean(0)).square().mean().sqrt()), 1e-12)
