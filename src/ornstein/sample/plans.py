# SPDX-License-Identifier: Apache-2.0
"""Plans: where on the schedule a sampler stops, as functions (schedule, moves) -> levels from noisiest to clean.

Every plan has `moves` + 1 nodes; the first is the schedule's noisiest level, the last is clean data, and none between them is
below its cleanest time. Where alpha = 0 at
the start, log-SNR is -inf there, so the log-SNR and Karras grids begin one node later at their own upper end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from ornstein.base.errors import UsageError
from ornstein.process.level import CLEAN, Level
from ornstein.process.schedule import Schedule


def uniform(schedule: Schedule, moves: int) -> tuple[Level, ...]:
    """Equal steps in t from the noisiest time to 0."""
    _check(moves)
    return _at(schedule, [1.0 - i / moves for i in range(moves)])


def trailing(schedule: Schedule, moves: int, table: int = 1000) -> tuple[Level, ...]:
    """Equal steps in t, rounded to the times k/table of a discrete schedule and ending at the last of them.

    The spacing that Lin et al. 2023 (arXiv 2305.08891, table 2) call trailing; integer timestep k - 1 there is t = k/table.
    """
    _check(moves)
    if moves > table:
        raise UsageError(f"A trailing plan on {table} timesteps cannot have {moves} moves.", f"Ask for at most {table} steps.")
    return _at(schedule, [round(table * (1.0 - i / moves)) / table for i in range(moves)])


def log_snr(schedule: Schedule, moves: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> tuple[Level, ...]:
    """Equal steps in log-SNR down to sigma/alpha = sigma_min, then clean (Lu et al. 2022, arXiv 2206.00927)."""
    return _graded(schedule, moves, sigma_min, sigma_max, lambda high, low, u: math.exp((1.0 - u) * math.log(high) + u * math.log(low)))


def karras(schedule: Schedule, moves: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> tuple[Level, ...]:
    """Equal steps in (sigma/alpha)^(1/rho) down to sigma_min, then clean (Karras et al. 2022, arXiv 2206.00364, eq. 5)."""
    power = 1.0 / rho
    return _graded(schedule, moves, sigma_min, sigma_max, lambda high, low, u: ((1.0 - u) * high**power + u * low**power) ** rho)


def between(schedule: Schedule, high: float, low: float, moves: int, rho: float = 7.0) -> tuple[Level, ...]:
    """Equal steps in (sigma/alpha)^(1/rho) from sigma/alpha = high to low > 0: `moves` + 1 levels."""
    _check(moves)
    power, shares = 1.0 / rho, torch.linspace(0.0, 1.0, moves + 1, dtype=torch.float64)
    ratios = ((1.0 - shares) * high**power + shares * low**power) ** rho
    return schedule.at_log_snr(-2.0 * ratios.log()).unbind()


def angle(schedule: Schedule, moves: int, scale: float = 0.75, power: float = 1.6) -> tuple[Level, ...]:
    """Equal steps in v, with sigma/alpha = scale tan(v)^power, from the noisiest level to clean data at v = 0.

    Far above `scale` the clean data is not to be seen yet, far below it is settled; steps are spent between. At low noise
    the nodes crowd as Karras's with rho = power do, at high noise they thin out likewise, and v is finite at both ends of
    any path. No node but the last lies below 0.002, where networks are trained on little, or the schedule's cleanest time.
    """
    _check(moves)
    first = schedule.at(schedule.noisiest)
    high = math.atan((float(first.noise_to_signal) / scale) ** (1.0 / power))
    floor = max(_FLOOR, float(schedule.at(schedule.cleanest).noise_to_signal))
    low = math.atan((floor / scale) ** (1.0 / power))
    places = [high * (1.0 - i / moves) for i in range(1, moves)]
    if places and places[-1] < low < high:
        places = [high + (low - high) * i / (moves - 1) for i in range(1, moves)]
    ratios = torch.tensor([scale * math.tan(place) ** power for place in places], dtype=torch.float64)
    return (first, *schedule.at_log_snr(-2.0 * ratios.log()).unbind(), CLEAN)


_FLOOR = 0.002
_Grade = Callable[[float, float, float], float]


def _graded(schedule: Schedule, moves: int, sigma_min: float, sigma_max: float, grade: _Grade) -> tuple[Level, ...]:
    """Nodes by sigma/alpha: `grade(high, low, fraction)` places them between the start and sigma_min."""
    _check(moves)
    first = schedule.at(schedule.noisiest)
    finite = not first.is_noise
    high = float(first.noise_to_signal) if finite else sigma_max
    sigma_min = max(sigma_min, float(schedule.at(schedule.cleanest).noise_to_signal))
    if not 0.0 < sigma_min < high:
        raise UsageError(f"The plan's sigma_min {sigma_min} does not lie between 0 and its start {high}.", "Choose a smaller sigma_min.")
    count = moves if finite else moves - 1
    ratios = [grade(high, sigma_min, i / max(count - 1, 1)) for i in range(count)]
    inner = torch.tensor(ratios[1:] if finite else ratios, dtype=torch.float64)
    return (first, *schedule.at_log_snr(-2.0 * inner.log()).unbind(), CLEAN)


def _at(schedule: Schedule, shares: list[float]) -> tuple[Level, ...]:
    """The levels at the given shares of the way from the cleanest to the noisiest time, then clean."""
    length = schedule.noisiest - schedule.cleanest
    return (*schedule.at(schedule.cleanest + length * torch.tensor(shares, dtype=torch.float64)).unbind(), CLEAN)


def _check(moves: int) -> None:
    if moves < 1:
        raise UsageError(f"A sampling plan cannot have {moves} moves.", "Ask for at least one step.")
