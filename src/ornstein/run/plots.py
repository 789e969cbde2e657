# SPDX-License-Identifier: Apache-2.0
"""Plots as inline SVG, drawn without a plotting library.

Colours, fonts and strokes come from the page's style sheet (`run/page/style.css`) through classes, so one drawing serves
light, dark and paper. The four series colours keep apart for colour-blind eyes, and dashes and direct labels say the
same again. Coordinates are those of the drawing's `viewBox`, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ornstein.run.page.markup import Markup, tag
from ornstein.run.page.scales import Linear, Number, Scale, number

WIDTH, HEIGHT = 480.0, 310.0
LETTER = 7.0  # mean width of a letter at the plot's font size of 13
BOLD = 8.0  # mean width of a bold digit
LINE = 18.0
_WIDE = frozenset("mwMW+%")  # letters half as wide again
MOST = 400  # points kept of a line
DOTS = 1500  # points kept of a cloud
LOOKS = ("line", "dashed", "faint")


@dataclass(frozen=True)
class Axis:
    """What runs along an axis and on which scale."""

    label: str
    scale: type[Scale] = Linear


@dataclass(frozen=True)
class Series:
    """Points joined by a line; the line breaks where a point has no place on its axis (NaN, or 0 on a log axis).

    Attributes:
        name: for the legend.
        x, y: the points; x ascending.
        colour: 1 to 4.
        look: one of `LOOKS`; "faint" is for what stands behind another series, without name in the legend or end label.
    """

    name: str
    x: Sequence[Number]
    y: Sequence[Number]
    colour: int = 1
    look: str = "line"

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y) or self.look not in LOOKS or self.colour not in range(1, 5):
            raise ValueError(f"Series '{self.name}' needs as many x as y, a look of {LOOKS} and a colour of 1 to 4.")


@dataclass(frozen=True)
class Mark:
    """A vertical line at x with a word on it."""

    x: Number
    label: str


@dataclass(frozen=True)
class Cloud:
    """Named points `(n, 2)` in the plane."""

    name: str
    points: NDArray[np.floating[Any]]
    colour: int = 1


class _Key(NamedTuple):
    """An entry of the legend."""

    name: str
    look: str
    colour: int


class _Point(NamedTuple):
    x: Number
    y: Number


@dataclass(frozen=True)
class _Frame:
    """The rectangle of the data and the scales along its sides."""

    left: float
    top: float
    right: float
    bottom: float
    x: Scale = field(repr=False)
    y: Scale = field(repr=False)

    def at(self, x: Number, y: Number) -> _Point:
        """Coordinates of a data point."""
        return _Point(self.left + self.x.place(x) * (self.right - self.left), self.bottom - self.y.place(y) * (self.bottom - self.top))


def line_plot(title: str, series: Sequence[Series], x: Axis, y: Axis, marks: Sequence[Mark] = ()) -> Markup:
    """Lines over one pair of axes, with ticks, gridlines, legend and the last value of each line at its end.

    Raises ValueError where not one point has a place on the axes.
    """
    runs = [(one, _runs(one, x.scale, y.scale)) for one in series]
    points = [point for _, parts in runs for part in parts for point in part]
    if not points:
        raise ValueError(f"'{title}' has no point to draw.")
    known = [mark for mark in marks if x.scale.takes(mark.x)]
    x_scale = x.scale.around([point.x for point in points] + [mark.x for mark in known])
    y_scale = y.scale.around([point.y for point in points]).widened(0.05)
    named = [(one, parts) for one, parts in runs if parts and one.look != "faint"]
    legend, used = _legend([_Key(one.name, one.look, one.colour) for one, _ in named])
    ends = [(one, parts[-1][-1]) for one, parts in named]
    left = 10 + LETTER * _longest([number(tick) for tick in y_scale.ticks(5)])
    right = WIDTH - 10 - BOLD * _longest([number(point.y) for _, point in ends])
    frame = _Frame(left, used + 40, right, HEIGHT - 44, x_scale, y_scale)
    drawn = [_line(frame, one, parts) for one, parts in runs]
    desc = f"{y.label} against {x.label}. " + " ".join(_in_words(one, parts) for one, parts in named)
    axes = _axes(frame, x.label, y.label)
    return _svg(title, desc, HEIGHT, [legend, axes, *_marks(frame, known), *drawn, *_end_labels(frame, ends)])


def scatter(title: str, clouds: Sequence[Cloud]) -> Markup:
    """Clouds of points over one pair of equal axes, the first at the back.

    The axes hold the middle 99 % of each cloud; what lies outside is counted below the plot. Clouds of more than
    `DOTS` points are drawn by an evenly spaced choice. Raises ValueError where there is no finite point.
    """
    finite = [Cloud(cloud.name, _finite(cloud.points), cloud.colour) for cloud in clouds]
    shown = [cloud for cloud in finite if len(cloud.points)]
    if not shown:
        raise ValueError(f"'{title}' has no point to draw.")
    low, high = _window([cloud.points for cloud in shown])
    legend, used = _legend([_Key(cloud.name, "points", cloud.colour) for cloud in shown])
    side = 340.0
    left = (WIDTH - side) / 2
    frame = _Frame(left, used + 34, left + side, used + 34 + side, Linear(low[0], high[0]), Linear(low[1], high[1]))
    inside = [np.all((cloud.points >= low) & (cloud.points <= high), axis=1) for cloud in shown]
    dots = [_dots(frame, cloud, within) for cloud, within in zip(shown, inside, strict=True)]
    outside = (
        sum(int((~within).sum()) for within in inside)
        + sum(len(cloud.points) for cloud in clouds)
        - sum(len(cloud.points) for cloud in shown)
    )
    note = f"{number(outside)} of {number(sum(len(cloud.points) for cloud in clouds), 9)} points lie outside." if outside else ""
    below = tag("text", note, x=left, y=frame.bottom + 40, class_="muted")
    desc = "Points in the plane. " + " ".join(f"{cloud.name}: {len(cloud.points)} points." for cloud in shown) + f" {note}"
    return _svg(title, desc, frame.bottom + (50 if note else 34), [legend, _axes(frame, "", ""), *dots, below])


def _svg(title: str, desc: str, height: float, parts: Sequence[str]) -> Markup:
    box = f"0 0 {WIDTH:.0f} {height:.0f}"
    return tag("svg", tag("title", title), tag("desc", desc), *parts, class_="plot", viewBox=box, role="img")


def _axes(frame: _Frame, x_label: str, y_label: str) -> Markup:
    """Gridlines with their numbers, the axis below, and the names of both."""
    parts = []
    for tick in frame.y.ticks(5):
        y = frame.at(frame.x.low, tick).y
        parts.append(tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="rule"))
        parts.append(tag("text", number(tick), x=frame.left - 7, y=y + 4.5, class_="tick end"))
    parts.append(tag("text", y_label, x=2.0, y=frame.top - 14, class_="label"))
    parts.append(_bottom(frame, x_label))
    return tag("g", *parts, class_="axes")


def _bottom(frame: _Frame, label: str) -> Markup:
    """The line below the data, its ticks with their numbers, and the name of the axis."""
    parts = [tag("line", x1=frame.left, x2=frame.right, y1=frame.bottom, y2=frame.bottom, class_="base")]
    for tick in _fitting(frame):
        x = frame.at(tick, frame.y.low).x
        parts.append(tag("line", x1=x, x2=x, y1=frame.bottom, y2=frame.bottom + 5, class_="base"))
        parts.append(tag("text", number(tick, 6), x=x, y=frame.bottom + 20, class_="tick middle"))
    parts.append(tag("text", label, x=(frame.left + frame.right) / 2, y=frame.bottom + 39, class_="label middle"))
    return tag("g", *parts)


def _fitting(frame: _Frame) -> list[float]:
    """Ticks of the x axis, as many as keep their numbers apart."""
    for count in (6, 5, 4, 3):
        ticks = frame.x.ticks(count)
        if sum(LETTER * len(number(tick, 6)) + 14 for tick in ticks) <= frame.right - frame.left:
            return ticks
    return ticks[:: len(ticks) - 1] if len(ticks) > 1 else ticks


def _legend(keys: Sequence[_Key]) -> tuple[Markup, float]:
    """A swatch and a name per entry, in as many rows as they need; with the height used."""
    x, y, parts = 2.0, 14.0, []
    for key in keys:
        width = 26 + LETTER * (len(key.name) + sum(letter in _WIDE for letter in key.name) / 2) + 18
        if x > 2 and x + width > WIDTH:
            x, y = 2.0, y + LINE
        swatch = f"M{x + 12:.1f} {y - 4.5:.1f}h0" if key.look == "points" else f"M{x:.1f} {y - 4.5:.1f}h20"
        parts.append(tag("path", d=swatch, class_=f"{key.look} s{key.colour}"))
        parts.append(tag("text", key.name, x=x + 26, y=y))
        x += width
    return tag("g", *parts, class_="legend"), y if keys else 0.0


def _longest(texts: Sequence[str]) -> int:
    return max(map(len, texts), default=0)


def _runs(one: Series, x: type[Scale], y: type[Scale]) -> list[list[_Point]]:
    """The unbroken pieces of a series, thinned out where there are more points than a plot can show."""
    stride = max(1, math.ceil(len(one.x) / MOST))
    kept = [i for i in range(len(one.x)) if i % stride == 0 or i == len(one.x) - 1]
    parts: list[list[_Point]] = [[]]
    for i in kept:
        if x.takes(one.x[i]) and y.takes(one.y[i]):
            parts[-1].append(_Point(one.x[i], one.y[i]))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _line(frame: _Frame, one: Series, parts: Sequence[Sequence[_Point]]) -> Markup:
    """The pieces as one path, with a dot at each point where there are few enough to tell apart."""
    placed = [[frame.at(*point) for point in part] for part in parts]
    path = tag(
        "path",
        d=" ".join("M" + "L".join(f"{point.x:.1f} {point.y:.1f}" for point in part) for part in placed),
        class_=f"{one.look} s{one.colour}",
    )
    points = [point for part in placed for point in part]
    lonely = [part[0] for part in placed if len(part) == 1]
    shown = points if len(points) <= 24 and one.look != "faint" else lonely
    return tag("g", path, *(tag("circle", cx=point.x, cy=point.y, r=2.8, class_=f"dot f{one.colour}") for point in shown))


def _end_labels(frame: _Frame, ends: Sequence[tuple[Series, _Point]]) -> list[Markup]:
    """The last value of each line to the right of it, moved apart where they would touch."""
    labels = []
    lowest = frame.top - LINE
    for one, point in sorted(ends, key=lambda end: -end[1].y):
        lowest = max(frame.at(*point).y, lowest + LINE - 3)
        labels.append((one, point, lowest))
    excess = max(0.0, lowest - frame.bottom) if labels else 0.0
    return [
        tag("text", number(point.y), x=frame.at(*point).x + 6, y=y - excess + 4.5, class_=f"value f{one.colour}")
        for one, point, y in labels
    ]


def _marks(frame: _Frame, marks: Sequence[Mark]) -> list[Markup]:
    """Dashed lines from top to bottom, each named beside its upper end, on the side with more room."""
    parts = []
    for i, mark in enumerate(marks):
        x = frame.at(mark.x, frame.y.low).x
        left_of_it = x > (frame.left + frame.right) / 2
        parts.append(tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, class_="mark"))
        place = {"x": x - 6 if left_of_it else x + 6, "y": frame.top + 11 + i * LINE}
        parts.append(tag("text", mark.label, class_="label end" if left_of_it else "label", **place))
    return parts


def _in_words(one: Series, parts: Sequence[Sequence[_Point]]) -> str:
    first, last = parts[0][0], parts[-1][-1]
    return f"{one.name}: from {number(first.y)} at {number(first.x, 6)} to {number(last.y)} at {number(last.x, 6)}."


def _finite(points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Points of which both coordinates are finite, as float64."""
    pairs = np.asarray(points, np.float64).reshape(-1, 2)
    return pairs[(np.abs(pairs) < 1e100).all(axis=1)]


def _window(clouds: Sequence[NDArray[np.floating[Any]]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of a square that holds the middle 99 % of every cloud with a little room."""
    low = np.min([np.quantile(points, 0.005, axis=0) for points in clouds], axis=0)
    high = np.max([np.quantile(points, 0.995, axis=0) for points in clouds], axis=0)
    half = max(float((high - low).max()) * 0.56, 1e-6 * float(np.abs(high).max()), 1e-6)
    middle = (low + high) / 2
    return middle - half, middle + half


def _dots(frame: _Frame, cloud: Cloud, inside: NDArray[np.bool_]) -> Markup:
    """A cloud as one path of strokes without length, which round caps turn into dots."""
    points = cloud.points[inside]
    chosen = points[np.unique(np.linspace(0, len(points) - 1, min(DOTS, len(points))).astype(int))] if len(points) else points
    placed = [frame.at(float(px), float(py)) for px, py in chosen]
    return tag("path", d=" ".join(f"M{point.x:.1f} {point.y:.1f}h0" for point in placed), class_=f"points s{cloud.colour}")


def dot_plot(title: str, values: Sequence[tuple[str, Number, int]], x: Axis, marks: Sequence[Mark] = ()) -> Markup:
    """A dot per named value on one axis, names to the left; each is (name, value, colour).

    Raises ValueError where not one value has a place on the axis.
    """
    known = [one for one in values if x.scale.takes(one[1])]
    if not known:
        raise ValueError(f"'{title}' has no value to draw.")
    scale = x.scale.around([value for _, value, _ in known] + [mark.x for mark in marks]).widened(0.06)
    left = 16 + LETTER * _longest([name for name, _, _ in known])
    row, top = 30.0, 26.0 if any(mark.label for mark in marks) else 8.0
    frame = _Frame(
        left,
        top,
        WIDTH - 16 - BOLD * _longest([number(value) for _, value, _ in known]),
        top + row * len(known),
        scale,
        Linear(0.0, float(len(known))),
    )
    parts = []
    for i, (name, value, colour) in enumerate(known):
        at = frame.at(value, len(known) - i - 0.5)
        parts.append(tag("line", x1=frame.left, x2=frame.right, y1=at.y, y2=at.y, class_="rule"))
        parts.append(tag("text", name, x=frame.left - 10, y=at.y + 4.5, class_="end"))
        parts.append(tag("circle", cx=at.x, cy=at.y, r=5.5, class_=f"dot f{colour}"))
        parts.append(tag("text", number(value), x=at.x + 10, y=at.y + 4.5, class_=f"value f{colour}"))
    desc = f"{x.label}. " + " ".join(f"{name}: {number(value)}." for name, value, _ in known)
    return _svg(title, desc, frame.bottom + 46, [_bottom(frame, x.label), *_marks(frame, marks), *parts])
