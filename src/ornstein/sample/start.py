# SPDX-License-Identifier: Apache-2.0
"""Where sampling starts when it does not start from the prior: a clean example carried part of the way to noise.

`noised` adds fresh noise (SDEdit: Meng et al. 2022, arXiv 2108.01073, algorithm 1): the further up, the more is redrawn.
`inverted` solves the probability flow from clean to noise (Song et al. 2021, arXiv 2010.02502, section 5.4), so that the same
model and solver find the example again, to the order of the solver, and another condition finds its counterpart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import Schedule
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Plan, Renoise, Solver

Start = Callable[[Sequence[int]], Tensor]
"""Seeds of a batch -> its states at the plan's first level, `(batch, ...)`."""


def noised(process: GaussianProcess, x0: Tensor, level: Level) -> Start:
    """The example x_0 (without batch) at a level, every sample with the noise that its prior would have been made of."""

    def start(seeds: Sequence[int]) -> Tensor:
        noise = process.draw(tuple(x0.shape), SampleNoise(seeds).prior_keys())
        return process.corrupt(x0.to(noise).expand_as(noise), noise, level)

    return start


def inverted(model: Denoiser, solver: Solver, plan: Plan, x0: Tensor, condition: Callable[[Sequence[int]], Cond | None]) -> Start:
    """The example x_0 (without batch) carried up the probability flow to the first level of a plan.

    It begins as alpha x_0 at the plan's last level above clean data, where little noise is missing, and needs a first level
    with alpha > 0.

    Args:
        model: what says where the flow goes; guidance 1 keeps the way back short.
        solver: a deterministic rule.
        plan: the way down that will follow; it is walked the other way.
        x0: the example, `(...)`.
        condition: what the model is told on the way up.

    Raises:
        UsageError: a stochastic solver, or a plan without two levels of finite log-SNR.
    """
    if solver.stochastic:
        raise UsageError("A stochastic solver cannot carry an example up to noise and find it again.", "Use ddim, heun or dpm++2m.")
    up = upward(plan)

    def start(seeds: Sequence[int]) -> Tensor:
        x = (up[0].alpha * x0).expand(len(seeds), *x0.shape)
        cond = condition(seeds)
        [last] = deque(sample(model, solver, up, x, SampleNoise(seeds), None if cond is None else cond.to(x.device)), maxlen=1)
        return last.x

    return start


def upward(plan: Plan) -> tuple[Level, ...]:
    """The levels of a plan the other way round, from the last above clean data to the first. Raises UsageError."""
    if any(isinstance(node, Renoise) for node in plan):
        raise UsageError("A plan that goes back up with fresh noise has no way back.", "Use a plain plan, for example karras.")
    levels = [node for node in plan if isinstance(node, Level) and not node.is_clean and not node.is_noise]
    if len(levels) < 2 or levels[0] is not plan[0]:
        raise UsageError("The way up to noise needs two levels between clean data and pure noise.", "Ask for more steps.")
    return tuple(reversed(levels))


def from_level(plan: Plan, level: Level) -> Plan:
    """The part of a plan that lies below a level, from that level on."""
    return (level, *(node for node in plan if (node.level if isinstance(node, Renoise) else node).t < level.t))


def below_noise(plan: Plan) -> Plan:
    """A plan without its first level where that is pure noise."""
    first = plan[0]
    return plan[1:] if isinstance(first, Level) and first.is_noise else plan


def level_of(schedule: Schedule, strength: float) -> Level:
    """The level at a share in (0, 1] of the way to the schedule's noisiest time."""
    return schedule.at(strength * schedule.noisiest)
