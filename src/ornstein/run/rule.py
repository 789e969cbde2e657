# SPDX-License-Identifier: Apache-2.0
"""What a rule between the keys of a recipe is, and the traits that rules are written in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ornstein.base.registry import entry
from ornstein.run.recipe_parts import Part

if TYPE_CHECKING:
    from ornstein.run.recipe import Recipe


class Rule(NamedTuple):
    """A relation between keys.

    Args:
        keys: the dotted keys it relates; a breach is reported at the first.
        breach: recipe -> what is wrong, or None.
    """

    keys: tuple[str, ...]
    breach: Callable[[Recipe], str | None]


def traits(kind: str, part: Part) -> frozenset[str]:
    """The traits of a part with the values set."""
    return entry(kind, part.kind).traits(part.model_dump())
