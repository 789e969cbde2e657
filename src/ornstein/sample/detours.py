# SPDX-License-Identifier: Apache-2.0
r"""Plans with detours: functions plan -> plan that carry x back up with fresh noise and solve down again.

Fresh noise forgets part of the error that earlier moves have made, at the price of the moves that repeat them:

| detour | where | source |
|---|---|---|
| `churn` | a little before every move | Karras et al. 2022, arXiv 2206.00364, algorithm 2 |
| `restart` | far, some times over, between two noise levels | Xu et al. 2023, arXiv 2306.14878, algorithm 1 |
| `resample` | back over the last few moves, all the way down | Lugmayr et al. 2022, arXiv 2201.09865, algorithm 1 and figure 7 |

They are written with `Renoise` nodes, so every solver gets every one; a multistep rule starts afresh after each. None of
them changes the marginal law of an exact solver (churn with `inflation` 1). Levels are given by the noise-to-signal ratio
sigma/alpha, which is EDM's sigma; on a schedule with alpha < 1 the paper's x is x/alpha.
"""

from __future__ import annotations

import math
from itertools import pairwise

from ornstein.process.level import Level
from ornstein.process.schedule import Schedule
from ornstein.sample.plans import between
from ornstein.sample.protocol import Node, Plan, Renoise

_HIGHEST = math.sqrt(2.0) - 1.0  # the paper's bound: never more fresh noise than there already is


def churn(
    schedule: Schedule, base: Plan, amount: float = 40.0, sigma_min: float = 0.05, sigma_max: float = 50.0, inflation: float = 1.003
) -> Plan:
    """Before every move from a level with sigma/alpha in [sigma_min, sigma_max], raise it by the factor 1 + gamma with fresh noise.

    Args:
        schedule: of the levels.
        base: the plan to churn.
        amount: S_churn; gamma = min(amount / moves, sqrt(2) - 1), cut where it would leave the schedule's noisiest level.
        sigma_min: the paper's S_min.
        sigma_max: the paper's S_max.
        inflation: the paper's S_noise, a factor on the fresh noise that makes up for a denoiser that removes too much.
    """
    gamma = min(amount / (len(base) - 1), _HIGHEST)
    ceiling = float(schedule.at(schedule.noisiest).noise_to_signal)
    nodes: list[Node] = []
    for node, following in pairwise(base):
        nodes.append(node)
        level = _level(node)
        ratio = float(level.noise_to_signal)
        raised = min(ratio * (1.0 + gamma), ceiling)
        if sigma_min <= ratio <= sigma_max and raised > ratio and isinstance(following, Level):
            nodes.append(Renoise(schedule.at_log_snr(-2.0 * math.log(raised)), inflation))
    return (*nodes, base[-1])


def restart(
    schedule: Schedule, base: Plan, sigma_min: float = 0.06, sigma_max: float = 0.3, moves: int = 4, repeats: int = 1, rho: float = 7.0
) -> Plan:
    """When x has fallen to sigma/alpha <= sigma_min, go up to sigma_max with fresh noise and come down again, `repeats` times.

    Restarts between further pairs of levels are restarts of this plan. The turning point is the first node of `base` at or
    below sigma_min; where that is clean data, the move into it is made by way of sigma_min. A plan that starts at or below
    sigma_min is left as it is.

    Args:
        schedule: of the levels.
        base: the plan to interrupt.
        sigma_min: the paper's t_min.
        sigma_max: the paper's t_max, cut at the plan's start.
        moves: of every way down.
        repeats: the paper's K.
        rho: how much the moves of a way down crowd at low noise, as in `plans.karras`.
    """
    ratios = [float(_level(node).noise_to_signal) for node in base]
    at = next((i for i, ratio in enumerate(ratios) if ratio <= sigma_min), len(base))
    if at in (0, len(base)):
        return base
    split: Plan = () if ratios[at] > 0.0 else (schedule.at_log_snr(-2.0 * math.log(sigma_min)),)
    plan = (*base[:at], *split, *base[at:])
    bottom = _level(plan[at])
    down = between(schedule, min(sigma_max, ratios[0]), float(bottom.noise_to_signal), moves, rho)
    again: Plan = (Renoise(down[0]), *down[1:-1], bottom)
    return (*plan[: at + 1], *again * repeats, *plan[at + 1 :])


def resample(base: Plan, length: int = 10, times: int = 10) -> Plan:
    """Make every `length` moves `times` times over, going back up with fresh noise in between (RePaint's jumps).

    The move into clean data is made once: nothing goes back up from x_0. Of a plan with detours each way down is
    resampled by itself.

    Args:
        base: the plan.
        length: moves gone back over; the paper's j.
        times: how often they are made; the paper's r, 1 changes nothing.
    """
    nodes: list[Node] = [base[0]]
    start, stretch = _level(base[0]), list[Level]()
    for here, following in pairwise((*base[1:], None)):
        assert here is not None
        if isinstance(here, Renoise) or here.is_clean:
            nodes.append(here)
            start, stretch = _level(here), []
            continue
        stretch.append(here)
        nodes.append(here)
        if len(stretch) == length or not isinstance(following, Level) or following.is_clean:
            for _ in range(times - 1):
                nodes += [Renoise(start), *stretch]
            start, stretch = here, []
    return tuple(nodes)


def _level(node: Node) -> Level:
    return node.level if isinstance(node, Renoise) else node
