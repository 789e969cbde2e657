# SPDX-License-Identifier: Apache-2.0
"""Markup whose text is escaped by construction: a plain string never becomes a tag, whatever it holds.

Everything here is valid both as HTML and as XML, so that a page and a plot in it can be checked by an XML parser.
"""

from __future__ import annotations

import html
import re

_CONTROL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what XML 1.0 has no way to write
_EMPTY = {"meta", "img", "br", "path", "line", "circle", "rect"}


class Markup(str):
    """A piece of finished markup."""

    __slots__ = ()


def escape(text: str) -> Markup:
    """Text as markup; characters that no document may hold become U+FFFD. Markup comes back as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(_CONTROL.sub("\ufffd", text)))


def join(*parts: str) -> Markup:
    """The parts one after another, plain strings escaped."""
    return Markup("".join(map(escape, parts)))


def tag(name: str, /, *children: str, **attributes: object) -> Markup:
    """An element. In the names of attributes a trailing `_` is dropped (`class_`) and every other `_` becomes `-`.

    An attribute that is None is left out; floats get two decimals.
    """
    given = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    opening = "".join([name, *(f' {key}="{escape(_value(value))}"' for key, value in given.items())])
    if name in _EMPTY:
        return Markup(f"<{opening}/>")
    return Markup(f"<{opening}>{join(*children)}</{name}>")


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
