# SPDX-License-Identifier: Apache-2.0
"""What the registry is made of: a part that may be named, and the values it takes. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

REQUIRED: Any = object()
"""The default of a parameter that has none."""


@dataclass(frozen=True)
class Param:
    """One value of a part that a recipe may set.

    Args:
        type: int, float, str, bool, or `tuple` for a list of whole numbers.
        default: the value where a recipe says nothing, or REQUIRED.
        within: the interval of allowed numbers (for a list, of its entries), in the notation "(0, 1]".
        choices: the values allowed, instead of an interval.
        length: fewest and most entries, where `type` is tuple.
        optional: whether null is allowed.
        multiple_of: what a whole number must be a multiple of.
        help: what it is, as the rest of a sentence.
    """

    type: type
    default: Any
    within: str = ""
    help: str = ""
    choices: tuple[str | int, ...] = ()
    length: tuple[int, int] = (0, 64)
    optional: bool = False
    multiple_of: int = 1


Traits = frozenset[str]


@dataclass(frozen=True)
class Entry:
    """A part that can be named in a recipe.

    Args:
        kind: what it is: schedule, prediction, network, times, weighting, objective, solver, plan or data.
        name: how a recipe names it.
        target: "module:attribute" of the class or function that makes it.
        params: what a recipe may set, by the target's argument names.
        parts: arguments that are parts themselves, as kind and default name.
        wired: arguments that the builder supplies.
        traits: words other parts are checked against, as a function of the values set.
    """

    kind: str
    name: str
    target: str
    params: Mapping[str, Param] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    wired: tuple[str, ...] = ()
    traits: Callable[[Mapping[str, Any]], Traits] = lambda values: frozenset()


def traits(*words: str) -> Callable[[Mapping[str, Any]], Traits]:
    """Traits that do not depend on the values."""
    return lambda values: frozenset(words)


SIGMA_DATA = Param(float, 0.5, "[0.001, 1000]", "standard deviation of the data")
"""What EDM's prediction and its weighting ask for alike."""
