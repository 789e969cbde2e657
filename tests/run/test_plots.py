# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ornstein.run.page.scales import Linear, Log, Scale, measured, number
from ornstein.run.plots import DOTS, HEIGHT, MOST, WIDTH, Axis, Cloud, Mark, Series, dot_plot, line_plot, scatter

STEP, LOSS, LOG_LOSS = Axis("step"), Axis("loss"), Axis("loss", Log)


def read(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def path_of(svg: ET.Element, look: str) -> list[list[tuple[float, float]]]:
    """Pieces of the drawn path of this class, the legend left out."""
    drawn = [one for part in svg if part.get("class") != "legend" for one in part.iter("path")]
    (path,) = [one for one in drawn if one.get("class") == look]
    pieces = [piece for piece in (path.get("d") or "").split("M") if piece]
    return [[(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", piece)] for piece in pieces]


Fold = Callable[[float], float]


def values_along(svg: ET.Element, axis: str, fold: Fold = float, unfold: Fold = float) -> Fold:
    """Coordinate -> value, recovered from nothing but the printed numbers of an axis and where they stand."""
    ticks = [one for one in svg.iter("text") if (one.get("class") or "") == ("tick middle" if axis == "x" else "tick end")]
    known = [(float(one.get("x") or 0) if axis == "x" else float(one.get("y") or 0) - 4.5, fold(read(one.text or ""))) for one in ticks]
    (a, low), (b, high) = known[0], known[-1]
    assert len(known) >= 2
    return lambda place: unfold(low + (place - a) / (b - a) * (high - low))


def test_points_of_a_line_stand_where_the_numbers_on_the_axes_say() -> None:
    x, y = [0.0, 100.0, 250.0, 1000.0], [0.5, -0.25, 1.0, 0.125]
    svg = ET.fromstring(line_plot("t", [Series("a", x, y)], STEP, LOSS))
    (piece,) = path_of(svg, "line s1")
    across, up = values_along(svg, "x"), values_along(svg, "y")
    assert [across(px) for px, _ in piece] == pytest.approx(x, abs=1000 * 0.1 / 300)
    assert [up(py) for _, py in piece] == pytest.approx(y, abs=1.25 * 0.1 / 180)


def test_a_logarithmic_axis_has_equal_distances_for_equal_ratios() -> None:
    y = [1.0, 0.1, 0.03, 0.004]
    svg = ET.fromstring(line_plot("t", [Series("a", [1, 2, 3, 4], y)], STEP, LOG_LOSS))
    (piece,) = path_of(svg, "line s1")
    up = values_along(svg, "y", math.log, math.exp)
    assert [up(py) for _, py in piece] == pytest.approx(y, rel=0.005)


def test_marks_and_series_share_one_axis() -> None:
    plot = line_plot("t", [Series("a", [0, 100], [1, 2]), Series("b", [50, 400], [5, 9], 2, "dashed")], STEP, LOSS, [Mark(500, "best 500")])
    svg = ET.fromstring(plot)
    across, up = values_along(svg, "x"), values_along(svg, "y")
    (mark,) = [one for one in svg.iter("line") if one.get("class") == "mark"]
    assert across(float(mark.get("x1") or 0)) == pytest.approx(500, abs=0.5)
    ((_, last),) = path_of(svg, "dashed s2")
    assert (across(last[0]), up(last[1])) == (pytest.approx(400, abs=0.5), pytest.approx(9, abs=0.02))
    assert "best 500" in [one.text for one in svg.iter("text")]


@pytest.mark.parametrize("x", [math.nan, math.inf, -1.0])
def test_a_mark_without_a_place_is_left_out(x: float) -> None:
    svg = ET.fromstring(line_plot("t", [Series("a", [1, 2], [1, 2])], Axis("step", Log), LOSS, [Mark(x, "m")]))
    assert "m" not in [one.text for one in svg.iter("text")]


@pytest.mark.parametrize(("bad", "axis"), [(math.nan, LOSS), (math.inf, LOSS), (1e300, LOSS), (0.0, LOG_LOSS), (-1.0, LOG_LOSS)])
def test_a_line_breaks_where_a_value_has_no_place(bad: float, axis: Axis) -> None:
    svg = ET.fromstring(line_plot("t", [Series("a", [1, 2, 3, 4, 5], [1.0, 2.0, bad, 3.0, 4.0])], STEP, axis))
    assert [len(piece) for piece in path_of(svg, "line s1")] == [2, 2]


def test_a_point_between_gaps_is_seen() -> None:
    y = [1.0] * 40
    y[20] = y[22] = math.nan
    svg = ET.fromstring(line_plot("t", [Series("a", range(40), y)], STEP, LOSS))
    assert len(list(svg.iter("circle"))) == 1


def test_few_points_get_dots_and_many_do_not() -> None:
    few, many = (ET.fromstring(line_plot("t", [Series("a", range(n), range(n))], STEP, LOSS)) for n in (10, 100))
    assert (len(list(few.iter("circle"))), len(list(many.iter("circle")))) == (10, 0)


def test_long_series_are_thinned_out_and_keep_their_ends() -> None:
    n = 10_007
    svg = ET.fromstring(line_plot("t", [Series("a", range(n), [1.0] * (n - 1) + [2.0])], STEP, LOSS))
    (piece,) = path_of(svg, "line s1")
    assert 0.8 * MOST < len(piece) <= MOST + 1
    assert [values_along(svg, "x")(px) for px, _ in (piece[0], piece[-1])] == pytest.approx([0, n - 1], abs=n / 1000)
    assert values_along(svg, "y")(piece[-1][1]) == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(("first", "last"), [(0, 5), (5, 0.5)])
def test_each_line_ends_in_its_last_value_and_no_two_touch(first: float, last: float) -> None:
    series = [Series(f"n{i}", [0, 1], [first, last + i / 100], i + 1) for i in range(4)]
    svg = ET.fromstring(line_plot("t", series, STEP, LOSS))
    labels = [one for one in svg.iter("text") if (one.get("class") or "").startswith("value")]
    heights = sorted(float(one.get("y") or 0) for one in labels)
    assert {one.get("class"): read(one.text or "") for one in labels} == {f"value f{i + 1}": last + i / 100 for i in range(4)}
    assert min(np.diff(heights)) >= 14.9
    (base,) = {float(one.get("y1") or 0) for one in svg.iter("line") if one.get("class") == "base" and one.get("y1") == one.get("y2")}
    assert heights[-1] <= base + 5


def test_long_values_at_the_end_of_a_line_have_room() -> None:
    svg = ET.fromstring(line_plot("t", [Series("a", [0, 1], [0.001, 0.00472])], STEP, LOSS))
    (label,) = [one for one in svg.iter("text") if one.get("class") == "value f1"]
    assert float(label.get("x") or 0) + 7.8 * len(label.text or "") <= WIDTH


def test_the_legend_names_what_is_drawn_and_nothing_faint_or_empty() -> None:
    series = [
        Series("raw", [1, 2], [1, 2], 1, "faint"),
        Series("mean", [1, 2], [1, 2]),
        Series("none", [], [], 2),
        Series("nan", [1], [math.nan], 3),
    ]
    svg = ET.fromstring(line_plot("t", series, STEP, LOSS))
    (legend,) = [group for group in svg.findall("g") if group.get("class") == "legend"]
    assert [one.text for one in legend.iter("text")] == ["mean"]
    assert path_of(svg, "faint s1")


def test_a_legend_that_is_too_long_goes_on_below() -> None:
    series = [Series("a name of a good length " + str(i), [0, 1], [0, 1], i + 1) for i in range(4)]
    svg = ET.fromstring(line_plot("t", series, STEP, LOSS))
    (legend,) = [group for group in svg.findall("g") if group.get("class") == "legend"]
    texts = list(legend.iter("text"))
    assert len({one.get("y") for one in texts}) > 1
    assert all(float(one.get("x") or 0) + 6 * len(one.text or "") < WIDTH for one in texts)


def test_who_cannot_see_a_plot_is_told_what_it_shows() -> None:
    svg = ET.fromstring(line_plot("Loss", [Series("held out", [0, 1500], [0.5, 0.031])], STEP, LOSS))
    assert (svg.get("role"), svg[0].tag, svg[1].tag) == ("img", "title", "desc")
    assert svg[0].text == "Loss"
    assert svg[1].text == "loss against step. held out: from 0.5 at 0 to 0.031 at 1,500."


def test_names_are_text_whatever_is_in_them() -> None:
    evil = "</text><script>alert(1)</script>&\"'\x00\ud800"
    plots = [
        line_plot(evil, [Series(evil, [0, 1], [0, 1])], Axis(evil), Axis(evil), [Mark(1, evil)]),
        scatter(evil, [Cloud(evil, np.zeros((1, 2)))]),
        dot_plot(evil, [(evil, 1.0, 1)], Axis(evil)),
    ]
    for plot in plots:
        svg = ET.fromstring(plot)
        assert {one.tag for one in svg.iter()} <= {"svg", "title", "desc", "g", "path", "line", "text", "circle"}
        assert svg[0].text == "</text><script>alert(1)</script>&\"'\ufffd\ufffd"


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf], [-1.0, 0.0]])
def test_nothing_to_draw_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no point"):
        line_plot("t", [Series("a", range(len(values)), values)], STEP, LOG_LOSS)
    with pytest.raises(ValueError, match="no point"):
        scatter("t", [Cloud("a", np.full((2, 2), np.nan))])
    with pytest.raises(ValueError, match="no value"):
        dot_plot("t", [("a", value, 1) for value in values], LOG_LOSS)


@pytest.mark.parametrize("wrong", [{"y": [1.0]}, {"look": "dotted"}, {"colour": 5}])
def test_a_series_that_cannot_be_drawn_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="'a'"):
        Series(**{"name": "a", "x": [1.0, 2.0], "y": [1.0, 2.0], **wrong})  # type: ignore[arg-type]


@given(
    y=st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=30),
    log=st.booleans(),
    mark=st.floats(allow_nan=True, allow_infinity=True),
)
def test_everything_drawn_lies_within_the_picture(y: list[float], log: bool, mark: float) -> None:
    axis = LOG_LOSS if log else LOSS
    assume(any(axis.scale.takes(value) for value in y))
    svg = ET.fromstring(line_plot("t", [Series("a", range(len(y)), y)], STEP, axis, [Mark(mark, "m")]))
    at = [(float(one.get("x", one.get("cx", 1))), float(one.get("y", one.get("cy", 1)))) for one in svg.iter()]
    at += [point for piece in path_of(svg, "line s1") for point in piece]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in at)


def test_a_cloud_is_drawn_to_one_scale_both_ways() -> None:
    corners = np.array([[0, 0], [4, 0], [0, 1], [4, 1]], np.float32)
    svg = ET.fromstring(scatter("t", [Cloud("data", corners, 3)]))
    pieces = path_of(svg, "points s3")
    across, up = values_along(svg, "x"), values_along(svg, "y")
    assert [(round(across(x), 1), round(up(y), 1)) for ((x, y),) in pieces] == [tuple(corner) for corner in corners.tolist()]
    assert pieces[1][0][0] - pieces[0][0][0] == pytest.approx(4 * (pieces[0][0][1] - pieces[2][0][1]), abs=0.5)


def test_points_that_would_dwarf_the_rest_are_counted_instead_of_drawn() -> None:
    points = np.random.default_rng(0).normal(size=(1200, 2))
    points[0], points[1], points[2] = 1e6, -1e6, np.nan
    svg = ET.fromstring(scatter("t", [Cloud("a", points)]))
    drawn = path_of(svg, "points s1")
    outside = next(int(one.text.split()[0]) for one in svg.iter("text") if one.text and "outside" in one.text)
    assert outside + len(drawn) == 1200
    assert 3 <= outside <= 30
    assert max(abs(values_along(svg, "x")(x)) for ((x, _),) in drawn) < 5


def test_a_large_cloud_is_drawn_by_a_choice_of_its_points() -> None:
    points = np.random.default_rng(0).random((10 * DOTS, 2))
    assert len(path_of(ET.fromstring(scatter("t", [Cloud("a", points)])), "points s1")) == DOTS


def test_dots_stand_at_their_values_in_their_rows() -> None:
    values = [("floor", 1.0, 1), ("model", 1.1, 2), ("Gaussians", 1.8, 1), ("peer", 15.0, 1)]
    svg = ET.fromstring(dot_plot("t", [*values, ("none", math.nan, 1)], Axis("ratio", Log), [Mark(1.0, "")]))
    across = values_along(svg, "x", math.log, math.exp)
    dots = list(svg.iter("circle"))
    names = [one for one in svg.iter("text") if one.get("class") == "end"]
    assert [across(float(dot.get("cx") or 0)) for dot in dots] == pytest.approx([value for _, value, _ in values], rel=0.01)
    assert [one.text for one in names] == [name for name, _, _ in values]
    assert all(np.diff([float(one.get("y") or 0) for one in names]) > 20)
    assert [float(one.get("y") or 0) - 4.5 for one in names] == pytest.approx([float(dot.get("cy") or 0) for dot in dots], abs=0.02)


@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=5), st.sampled_from([Linear, Log]), st.floats(-0.2, 1.2))
def test_a_scale_and_its_inverse_agree_and_ticks_lie_on_it(values: list[float], kind: type[Scale], place: float) -> None:
    scale = kind.around(values)
    assert scale.low < scale.high
    assert all(-1e-9 <= scale.place(value) <= 1 + 1e-9 for value in values)
    assert scale.place(scale.value(place)) == pytest.approx(place, abs=1e-6)
    ticks = scale.ticks(5)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 12
    assert all(-1e-6 <= scale.place(tick) <= 1 + 1e-6 for tick in ticks)


@pytest.mark.parametrize(
    ("scale", "ticks"),
    [
        (Linear(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Linear(-1.1, 1.3), [-1, -0.5, 0, 0.5, 1]),
        (Linear(0, 1500), [0, 500, 1000, 1500]),
        (Log(1e-5, 1), [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]),
        (Log(0.02, 1), [0.02, 0.05, 0.1, 0.2, 0.5, 1]),
        (Log(1, 1.9), [1, 1.2, 1.4, 1.6, 1.8]),
    ],
)
def test_ticks_are_round(scale: Scale, ticks: list[float]) -> None:
    assert scale.ticks(5) == ticks


@given(st.floats(-1e12, 1e12).filter(lambda value: abs(value) > 1e-12), st.integers(1, 6))
def test_printed_numbers_read_back_to_their_digits(value: float, digits: int) -> None:
    for text in (number(value, digits), measured(value, digits)):
        assert read(text) == pytest.approx(value, rel=0.51 * 10 ** (1 - digits))


@pytest.mark.parametrize(
    ("value", "short", "full"),
    [(0, "0", "0"), (1.5e6, "1,500,000", "1,500,000"), (0.05, "0.05", "0.0500"), (0.9999, "1", "1.00"), (-4.2e-7, "−4.2e−7", "−4.20e−7")],
)
def test_numbers_are_printed_for_people(value: float, short: str, full: str) -> None:
    assert (number(value), measured(value)) == (short, full)
