# SPDX-License-Identifier: Apache-2.0
"""The one sampling loop.

It walks a plan, asks the solver for one step at a time and yields what happened; callers draw pictures, measure, stop
or cancel between yields. Two moves it makes itself, by the process's reverse law, unless the solver declares it can:
out of pure noise (alpha = 0, where log-SNR is -inf) and into clean data (sigma = 0, where it is +inf). Multistep and
Runge-Kutta rules would give NaN there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.gaussian import Noise
from ornstein.process.level import Level
from ornstein.sample.noise import SampleNoise, Scaled, Stretch
from ornstein.sample.protocol import Advance, Bound, Plan, Renoise, Solver, Step


def sample(model: Denoiser, solver: Solver, plan: Plan, x: Tensor, noise: SampleNoise, cond: Cond | None = None) -> Iterator[Step]:
    """Move x along the plan, yielding after every step.

    Args:
        model: the denoiser, guided or not.
        solver: the rule for a move.
        plan: at least two nodes; the first is the level of x and cannot be a `Renoise`.
        x: the state at `plan[0]`, `(batch, ...)` floating point; not modified.
        noise: random numbers by sample seed; must hold as many seeds as x has rows.
        cond: condition of the batch.

    Raises:
        UsageError: the plan is too short, starts with a renoise, or noise and x differ in batch size.
    """
    _check(plan, x, noise)
    bound = Bound(model, cond)
    i = evaluations = renoised = 0
    for leg in legs(plan):
        if isinstance(leg[0], Renoise):
            before, (after, scale) = leg[1], leg[0]
            fresh = noise.move(i)
            with torch.no_grad():
                x = bound.process.renoise(x, before, after, fresh if scale == 1.0 else Scaled(fresh, scale))
            yield Step(i, after, x, None, evaluations)
            i, renoised = i + 1, renoised + 1
            continue
        for advance in _solve(bound, solver, leg, x, noise.stretch(renoised, leg), i):
            x, evaluations = advance.x, evaluations + advance.evaluations
            yield Step(i, advance.at, x, advance.estimate, evaluations)
            i += 1


def _solve(model: Bound, solver: Solver, nodes: tuple[Level, ...], x: Tensor, noise: Stretch, i: int) -> Iterator[Advance]:
    """All moves of one stretch of levels, with the ends that the solver cannot handle made by the reverse law."""
    if nodes[0].is_noise and "noise" not in solver.ends:
        yield (advance := _law_move(model, solver, nodes, x, noise.move(i, *nodes[:2])))
        x, nodes, i = advance.x, nodes[1:], i + 1
    lands = nodes[-1].is_clean and "clean" not in solver.ends
    inner = nodes[:-1] if lands else nodes
    no_grad = torch.no_grad()  # entered for every move and left before its yield, so that callers keep their own mode
    with no_grad:
        state = solver.init(inner) if len(inner) > 1 else None
    while len(inner) > 1:
        with no_grad:
            advance = solver.step(model, x, inner, state, noise.move(i, inner[0], inner[1]))
        x, state, i = advance.x, advance.state, i + 1
        inner = inner[advance.passed :] if advance.passed else (advance.at, *inner[1:])
        yield advance
    if lands and len(nodes) > 1:
        yield _law_move(model, solver, nodes[-2:], x, noise.move(i, *nodes[-2:]))


def _law_move(model: Bound, solver: Solver, nodes: tuple[Level, ...], x: Tensor, noise: Noise) -> Advance:
    """One move by the process's reverse law: a draw for a stochastic solver, the deterministic member otherwise."""
    t, s = nodes[:2]
    with torch.no_grad():
        estimate = model(x, t, s)
        law = model.process.reverse_law(estimate, x, t, s, eta=1.0 if solver.stochastic else 0.0)
        return Advance(law.draw(noise), s, 1, None, estimate, 1)


def legs(plan: Plan) -> Iterator[tuple[Level, ...] | tuple[Renoise, Level]]:
    """Cut a plan into stretches of levels and, between them, (renoise node, level it starts from)."""
    stretch: list[Level] = []
    for node in plan:
        if isinstance(node, Renoise):
            if len(stretch) > 1:
                yield tuple(stretch)
            yield node, stretch[-1]
            stretch = [node.level]
        else:
            stretch.append(node)
    if len(stretch) > 1:
        yield tuple(stretch)


def _check(plan: Plan, x: Tensor, noise: SampleNoise) -> None:
    if len(plan) < 2 or isinstance(plan[0], Renoise):
        raise UsageError("A sampling plan needs at least two nodes and starts with a level.", "Ask for at least one step.")
    if len(noise.seeds) != len(x):
        raise UsageError(f"There are {len(noise.seeds)} seeds for {len(x)} samples.", "Give one seed per sample.")
