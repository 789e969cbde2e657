# SPDX-License-Identifier: Apache-2.0
"""The part of a report that shows what is left of an image at each noise level; nothing where it was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ornstein.base.errors import CheckpointError
from ornstein.evaluate.kinds import METHOD
from ornstein.run.page.document import figure
from ornstein.run.page.markup import Markup, tag
from ornstein.run.page.scales import number
from ornstein.run.page.story import Story
from ornstein.run.plots import Axis, Series, line_plot

_NOISE = "noise level t (0 is clean data, 1 is noise)"
_WORDS = {"estimate": "estimate", "reconstruction": "sampled on"}
_FIGURES = {
    "squared_error": ("Error of x_0 by noise level", "squared error per dimension", 1.0),
    "accuracy": ("Class kept by noise level", "images of their class in %", 100.0),
}


def by_level(story: Story, run: str) -> Markup:
    """The curves of `evaluate --full`. Raises CheckpointError for something else under their name."""
    known = story.evaluation.get("by_level")
    if known is None:
        return Markup("")
    try:
        plots = [plot for name in _FIGURES if (plot := _plot(known, name)) is not None]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError(
            "evaluation.json holds no figures by noise level.", "Run `ornstein evaluate --full` on the run again."
        ) from error
    return tag("div", *plots, class_="pair after")


def _plot(known: Mapping[str, Any], name: str) -> Markup | None:
    """One figure: a line per way to ask and kind of end, with the ends of its intervals behind it."""
    title, label, whole = _FIGURES[name]
    series = []
    for i, curve in enumerate(curve for curve in known["curves"] if name in curve):
        values = {key: [whole * value for value in curve[name][key]] for key in ("value", "low", "high")}
        words = ", ".join(word for word in (_WORDS[curve["kind"]], curve["name"]) if word)
        colour, look = i % 4 + 1, "line" if curve["kind"] == "estimate" else "dashed"
        series += [Series(words, known["t"], values[end], colour, "faint") for end in ("low", "high")]
        series.append(Series(words, known["t"], values["value"], colour, look))
    if not series:
        return None
    text = (
        f"{number(known['n'], 9)} test images brought to t with the same noise. Estimate: what the network takes them "
        f"for at once. Sampled on: what {known['reconstruction']} from there end in. Thin lines: {METHOD}."
    )
    return tag("div", tag("h3", title), figure(line_plot(title, series, Axis(_NOISE), Axis(label)), text))
