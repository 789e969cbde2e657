# SPDX-License-Identifier: Apache-2.0
"""Scales of a plot: where between 0 and 1 a value stands along an axis, and which values get a tick.

Linear: place(v) = (v - low) / (high - low). Logarithmic: the same of log v. `value` is the inverse of `place`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

Number = int | float  # annotations are checked in the tests, where an int is no float
LARGEST = 1e100  # what is beyond has blown up and is left out of plots


def number(value: Number, digits: int = 3) -> str:
    """A number for people: `1,200`, `0.5`, `4.2e−7`; at most `digits` significant digits after the whole ones."""
    mantissa, e, power = measured(value, digits).partition("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}{e}{power}"


def measured(value: Number, digits: int = 3) -> str:
    """A number as a result: `0.520`, `4.20e−7`; like `number`, with the zeros at its end."""
    if value == 0:
        return "0"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    exponent = int(power)
    text = f"{value:,.{max(0, digits - 1 - exponent)}f}" if -3 <= exponent < 9 else f"{mantissa}e{exponent}"
    return text.replace("-", "−")


@dataclass(frozen=True)
class Scale(ABC):
    """From `low` (place 0) to `high` (place 1), low < high."""

    low: Number
    high: Number

    @staticmethod
    @abstractmethod
    def takes(value: Number) -> bool:
        """Whether a value has a place on such a scale at all."""

    @classmethod
    @abstractmethod
    def around(cls, values: Iterable[Number]) -> Scale:
        """The smallest scale that holds all these values, a little around it if they are all equal. At least one value."""

    @abstractmethod
    def place(self, value: Number) -> float:
        """Where the value stands, 0 at `low` and 1 at `high`."""

    @abstractmethod
    def value(self, place: Number) -> float:
        """What stands at a place."""

    @abstractmethod
    def ticks(self, count: int) -> list[float]:
        """About `count` round values within the scale, ascending."""

    def widened(self, part: Number) -> Scale:
        """A scale that is longer by `part` of its length at both ends."""
        return type(self)(self.value(-part), self.value(1 + part))


class Linear(Scale):
    """Equal distances for equal differences."""

    @staticmethod
    def takes(value: Number) -> bool:
        """Any finite value."""
        return abs(value) < LARGEST  # false for NaN

    @classmethod
    def around(cls, values: Iterable[Number]) -> Scale:
        """See `Scale.around`."""
        low, high = _ends(values)
        room = max(abs(low), abs(high), 1e-6) * 1e-6
        return cls(low, high) if high - low > room else cls(low - max(abs(low) / 2, 0.5), high + max(abs(high) / 2, 0.5))

    def place(self, value: Number) -> float:
        """See `Scale.place`."""
        return (value - self.low) / (self.high - self.low)

    def value(self, place: Number) -> float:
        """See `Scale.value`."""
        return self.low + place * (self.high - self.low)

    def ticks(self, count: int) -> list[float]:
        """Multiples of 1, 2 or 5 times a power of ten."""
        step = _round_up((self.high - self.low) / max(count, 1))
        slack = 1e-9 * (self.high - self.low)
        first, last = math.ceil((self.low - slack) / step), math.floor((self.high + slack) / step)
        return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


class Log(Scale):
    """Equal distances for equal ratios; values above 0 only."""

    @staticmethod
    def takes(value: Number) -> bool:
        """Finite values above 0."""
        return 1 / LARGEST < value < LARGEST

    @classmethod
    def around(cls, values: Iterable[Number]) -> Scale:
        """See `Scale.around`."""
        low, high = _ends(values)
        return cls(low, high) if high > low * (1 + 1e-6) else cls(low / 2, high * 2)

    def place(self, value: Number) -> float:
        """See `Scale.place`."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def value(self, place: Number) -> float:
        """See `Scale.value`."""
        return float(self.low * (self.high / self.low) ** place)

    def ticks(self, count: int) -> list[float]:
        """Powers of ten; with 2 and 5 between where that leaves few, and linear ticks on less than a factor of three."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        stride = max(1, round((last - first) / max(count, 1)))
        powers = [float(f"1e{k}") for k in range(first, last + 1) if k % stride == 0]
        decades = [tick for tick in powers if self.low <= tick <= self.high]
        if len(decades) >= 4:
            return decades
        finer = [m * power for power in powers for m in (1, 2, 5) if self.low <= m * power <= self.high]
        return finer if len(finer) >= 3 else Linear(self.low, self.high).ticks(count)


def _ends(values: Iterable[Number]) -> tuple[Number, Number]:
    known = list(values)
    return min(known), max(known)


def _round_up(step: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `step`."""
    power = float(f"1e{math.floor(math.log10(step))}")
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= step * (1 - 1e-9))
