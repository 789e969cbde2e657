# SPDX-License-Identifier: Apache-2.0
"""The part of a report that shows what was measured: the figures looked for first, and the table with its conditions."""

from __future__ import annotations

from collections.abc import Sequence

from ornstein.evaluate.kinds import KINDS, METHOD, kind_of
from ornstein.run.page.by_level import by_level
from ornstein.run.page.document import bullets, code, facts, missing
from ornstein.run.page.markup import Markup, join, tag
from ornstein.run.page.scales import Log, measured, number
from ornstein.run.page.sources import Figure, Source
from ornstein.run.page.story import Story
from ornstein.run.plots import Axis, Mark, dot_plot

_ARROWS = {"lower": "\u00a0↓", "higher": "\u00a0↑", "": ""}
_IDENTITY = {"checkpoint": "step of the model", "model_hash": "model hash", "device": "device", "torch": "torch"}
_FIRST = {
    "frechet": "Frechet distance",
    "accuracy": "class accuracy",
    "coverage": "coverage of the test data",
    "nearest": "distance to training data, over theirs",
    "sliced_wasserstein": "sliced Wasserstein distance",
}


def tiles(story: Story, run: str) -> Markup:
    """Up to four figures of the model's first row, each beside that of real data; nothing where it was not measured."""
    model = next((source for source in story.sources if source.is_model), None)
    if model is None:
        return Markup("")
    floor = story.sources[0]
    shown = [_tile(words, name, model.figures[name], floor.value(name)) for name, words in _FIRST.items() if model.value(name) is not None]
    return tag("div", *shown[:4], class_="tiles")


def table(story: Story, run: str) -> Markup:
    """The metric table, a line per figure and a column per source, and the ratios to the floor as a picture."""
    sources = story.sources
    if not sources:
        return missing("Not measured yet; ", code(f"ornstein evaluate {run}"), " makes the table.")
    found = {name for source in sources for name in source.figures}
    names = [name for name in KINDS if name in found] + sorted(found - KINDS.keys())
    titles = [tag("th", source.name, scope="col", class_=_look(source)) for source in sources]
    head = tag("tr", tag("th", "", scope="col"), *titles, tag("th", "measured with", scope="col", class_="with"))
    body = [tag("tr", _heading(sources, name), *(_cell(source, name) for source in sources), _conditions(sources, name)) for name in names]
    identity = [(words, str(story.evaluation.get(key) or "")) for key, words in _IDENTITY.items()]
    intro = (
        "The first column is the floor: what real data score against other real data. ↓ less is better, ↑ more is better, "
        "± is the standard deviation over the draws, × the multiple of the floor."
    )
    if any(figure.low is not None for source in sources for figure in source.figures.values()):
        intro += f" Ranges are {METHOD}."
    shown = tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="table")
    return join(tag("p", intro), facts(identity), shown, bullets(_remarks(sources, names)), _ratios(sources), by_level(story, run))


def figure_text(name: str, value: float) -> str:
    """A value as it is read: shares in per cent where that is the custom."""
    return f"{100 * value:.1f} %" if kind_of(name).whole == 100 else measured(value)


def _spread(name: str, value: float) -> str:
    return figure_text(name, value) if kind_of(name).whole == 100 else measured(value, 2)


def _range(name: str, low: float, high: float) -> str:
    """The ends of an interval, in little room: `0.87–0.91`, `95.9–96.9 %`, `−0.3 to 1.2`."""
    between = " to " if low < 0 else "–"
    if kind_of(name).whole == 100:
        return f"{100 * low:.1f}{between}{100 * high:.1f} %"
    return f"{measured(low)}{between}{measured(high)}"


def _tile(words: str, name: str, figure: Figure, floor: float | None) -> Markup:
    value = 0.0 if figure.value is None else figure.value
    as_multiple = figure.ratio is not None and kind_of(name).better == "lower"
    large = _multiple(figure.ratio) if figure.ratio is not None and as_multiple else figure_text(name, value)
    beside = f"real data: {figure_text(name, floor)}" if floor is not None else ""
    small = f"{figure_text(name, value)}; {beside}" if as_multiple else beside
    below = f"{words}, in multiples of the floor" if as_multiple else words
    return tag("div", tag("b", large), tag("span", below), tag("span", small, class_="muted"), class_="tile")


def _look(source: Source) -> str | None:
    return "model" if source.is_model else None


def _heading(sources: Sequence[Source], name: str) -> Markup:
    """A figure in words, and which way is better."""
    words = next((source.figures[name].words for source in sources if name in source.figures), "")
    kind = kind_of(name)
    return tag("th", (words or kind.title) + _ARROWS[kind.better], scope="row")


def _cell(source: Source, name: str) -> Markup:
    """Value, then its interval, or else its spread, and its multiple of the floor in small print; a dash where there is none."""
    figure = source.figures.get(name, Figure())
    if figure.value is None:
        return tag("td", "–", class_=_look(source))
    small = [f"± {_spread(name, figure.spread)}"] if figure.spread is not None else []
    if figure.low is not None and figure.high is not None:
        small = [_range(name, figure.low, figure.high)]
    small += [_multiple(figure.ratio)] if figure.ratio is not None and kind_of(name).better == "lower" else []
    return tag("td", figure_text(name, figure.value), *(tag("small", text) for text in small), class_=_look(source))


def _conditions(sources: Sequence[Source], name: str) -> Markup:
    """What a figure depends on; where sources differ in that, the rarer conditions with their names."""
    groups: dict[str, list[str]] = {}
    for source in sources:
        if name in source.figures:
            groups.setdefault(source.figures[name].conditions, []).append(source.name)
    common = max(groups, key=lambda text: len(groups[text]))
    others = [tag("small", f"{', '.join(names)}: {text}") for text, names in groups.items() if text != common]
    return tag("td", common, *others, class_="with")


def _remarks(sources: Sequence[Source], names: Sequence[str]) -> list[str]:
    """What each source is, and why figures are missing."""
    notes = [f"{source.name}: {source.note}" for source in sources if source.note]
    absent = [(source, name, source.figures[name].reason) for source in sources for name in names if name in source.figures]
    return notes + [f"No {kind_of(name).title} of {source.name}: {reason}." for source, name, reason in absent if reason]


def _ratios(sources: Sequence[Source]) -> Markup:
    """The Frechet distance of each source in multiples of the floor; nothing where fewer than two have a ratio."""
    ratios = [(source, source.figures.get("frechet", Figure()).ratio) for source in sources]
    values = [(source.name, ratio, 2 if source.is_model else 1) for source, ratio in ratios if ratio is not None and ratio > 0]
    if len(values) < 2:
        return Markup("")
    axis = Axis("Frechet distance, in multiples of the floor", Log)
    return tag("figure", dot_plot("Frechet distance in multiples of the floor", values, axis, [Mark(1.0, "")]))


def _multiple(ratio: float) -> str:
    return f"{ratio:.2f}×" if ratio < 100 else f"{number(ratio)}×"
