# SPDX-License-Identifier: Apache-2.0
"""The pieces a report page is made of: the document itself, pictures held inside it, captions, tables, commands.

A page needs nothing but itself: pictures are data URIs, there are no scripts, and its content security policy forbids
the browser any request.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from PIL import Image

from ornstein.base.errors import DataError
from ornstein.run.page.markup import Markup, join, tag

STYLE = resources.files("ornstein.run.page").joinpath("style.css").read_text(encoding="utf-8")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, *content: str) -> Markup:
    """A whole HTML page."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    return join(Markup("<!DOCTYPE html>\n"), tag("html", head, tag("body", tag("main", *content)), lang="en"), "\n")


def picture(path: Path, alt: str, fit: str) -> Markup:
    """A PNG file as it is, inside the page. Raises DataError.

    Args:
        path: the file.
        alt: what it shows, for who cannot see it.
        fit: "fit" where it may always shrink with the page, "film" where it scrolls on a telephone.
    """
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.verify()
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path.name} is not a readable PNG file ({error}).", "Delete it and run the command that makes it again.", path
        ) from error
    source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return tag("div", tag("img", src=source, alt=alt, width=width, height=height), class_=f"scroll {fit}")


def figure(content: str, *caption: str, class_: str | None = None) -> Markup:
    """Something to look at with sentences on it, a paragraph each."""
    return tag("figure", content, tag("figcaption", *(tag("p", text) for text in caption if text)), class_=class_)


def missing(*text: str) -> Markup:
    """The sentence that stands where a part is not there yet."""
    return tag("p", *text, class_="missing")


def code(words: str) -> Markup:
    """A command within a sentence."""
    return tag("code", words)


def command(words: str, purpose: str) -> Markup:
    """A command to type, with what it does."""
    return tag("div", tag("p", purpose), tag("pre", tag("code", words)))


def facts(pairs: Sequence[tuple[str, str]]) -> Markup:
    """Names and values side by side; pairs without a value are left out."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value), class_="facts")


def bullets(sentences: Sequence[str]) -> Markup:
    """A list in small print."""
    return tag("ul", *(tag("li", sentence) for sentence in sentences), class_="notes")
