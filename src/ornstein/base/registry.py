# SPDX-License-Identifier: Apache-2.0
"""The names a user may write, what each of them takes, and where the class behind it lives.

One entry per part, in `ornstein.base.entries`. Nothing here imports torch: a recipe is checked whole against the entries
before any part is loaded. Names and defaults equal those of the target's own arguments, which a test verifies.
Arguments that the builder supplies (a plan's schedule, a network's channels of input) stand under `wired` and cannot be
written in a recipe.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from typing import Any

from ornstein.base.entries import ENTRIES
from ornstein.base.errors import UsageError
from ornstein.base.parts import Entry

_BY_KIND: dict[str, dict[str, Entry]] = {}
for _entry in ENTRIES:
    _BY_KIND.setdefault(_entry.kind, {})[_entry.name] = _entry


def kinds() -> tuple[str, ...]:
    """Every kind of part."""
    return tuple(_BY_KIND)


def names(kind: str) -> tuple[str, ...]:
    """Names of one kind of part."""
    return tuple(_BY_KIND[kind])


def entry(kind: str, name: str) -> Entry:
    """The entry of a name. Raises UsageError with the nearest name where there is none."""
    known = _BY_KIND[kind]
    if name not in known:
        raise UsageError(f"There is no {kind} '{name}'; the nearest is '{nearest(name, known)}'.", f"Choose one of: {', '.join(known)}.")
    return known[name]


def load(part: Entry) -> Callable[..., Any]:
    """Import the class or function behind an entry."""
    module, attribute = part.target.split(":")
    target: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return target


def build(kind: str, section: Any, **pool: Any) -> Any:
    """Make the part that a recipe's section describes, and the parts it is made of.

    Args:
        kind: what it is.
        section: anything with a `kind` attribute (the part's name) and the part's parameters as attributes.
        pool: what the parts may be wired with; each takes the arguments that its entry names, inner parts included.
    """
    part = entry(kind, section.kind)
    given = {name: getattr(section, name) for name in part.params}
    inner = {name: build(of, getattr(section, name), **pool) for name, (of, _) in part.parts.items() if name not in pool}
    wired = {name: pool[name] for name in (*part.wired, *part.parts) if name in pool}
    return load(part)(**given, **inner, **wired)


def likeness(word: str, other: str) -> float:
    """How alike two names are, from 0 to 1.3: letters in common order, more where one holds the other, 1 for its initials."""
    word, other = word[:64].lower(), other.lower()  # a name is short; what is not need not be compared whole
    if "_" in other and word == "".join(part[:1] for part in other.split("_")):
        return 1.0
    return difflib.SequenceMatcher(None, word, other).ratio() + (0.3 if word in other or other in word else 0.0)


def nearest(word: str, words: Iterable[str]) -> str:
    """The word most like the given one; there always is one, however far."""
    return max(words, key=lambda other: likeness(word, other))
