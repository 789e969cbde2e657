# SPDX-License-Identifier: Apache-2.0
"""The table: ratios to the floor, JSON there and back, aligned text, nothing that is not a number."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ornstein.base.errors import CheckpointError
from ornstein.base.files import read_json, write_json
from ornstein.evaluate.metrics import Metric, Row
from ornstein.evaluate.table import Table, ratio_to_floor


def metric(name: str, value: float | None, reason: str = "", **changed: Any) -> Metric:
    fields = {"spread": 0.1, "error": None, "n": 100, "draws": 5, "seed": 0, "eye": "classifier 8x8 abc"} | changed
    return Metric(name=name, value=value, reason=reason, **fields)


def row(name: str, *metrics: Metric) -> Row:
    return Row(name, f"What {name} is.", {item.name: item for item in metrics})


@pytest.fixture
def table() -> Table:
    floor = row(
        "real train", metric("frechet", 2.0), metric("kernel", 0.01), metric("coverage", 0.9), metric("accuracy", None, "no labels")
    )
    model = row("model", metric("frechet", 2.5), metric("kernel", 0.5), metric("coverage", 0.45), metric("accuracy", None, "no labels"))
    return Table((floor, model))


def test_ratio_divides_by_the_floor() -> None:
    assert ratio_to_floor(metric("frechet", 2.6), metric("frechet", 2.0)) == (pytest.approx(1.3), "")
    assert ratio_to_floor(metric("coverage", 0.72), metric("coverage", 0.9, draws=1)) == (pytest.approx(0.8), "")


@pytest.mark.parametrize(
    ("measured", "floor", "reason"),
    [
        (metric("kernel", 0.5), metric("kernel", -0.01), "unbiased"),
        (metric("frechet", 1.0), metric("frechet", 0.0), "the floor is 0"),
        (metric("frechet", None, "diverged"), metric("frechet", 1.0), "diverged"),
        (metric("frechet", 1.0), metric("frechet", None, "no floor"), "no floor"),
    ],
)
def test_ratio_that_says_nothing_is_left_out_with_its_reason(measured: Metric, floor: Metric, reason: str) -> None:
    ratio, why = ratio_to_floor(measured, floor)
    assert ratio is None
    assert reason in why


@pytest.mark.parametrize("change", [{"n": 99}, {"seed": 1}, {"eye": "classifier 8x8 abd"}])
def test_figures_taken_differently_do_not_compare(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Not comparable"):
        ratio_to_floor(metric("frechet", 1.0, **change), metric("frechet", 1.0))


def test_document_survives_the_disk(tmp_path: Path, table: Table) -> None:
    write_json(tmp_path / "evaluation.json", table.document())
    assert Table.of_document(read_json(tmp_path / "evaluation.json")) == table


def test_document_says_all_of_a_figure(table: Table) -> None:
    entry = json.loads(json.dumps(table.document(), allow_nan=False))["rows"][1]["metrics"]
    assert entry["frechet"]["ratio_to_floor"] == 1.25
    assert entry["frechet"]["identity"] == table.rows[1].metrics["frechet"].identity
    assert (entry["frechet"]["value"], entry["frechet"]["n"], entry["frechet"]["seed"]) == (2.5, 100, 0)
    assert entry["kernel"]["ratio_to_floor"] is None
    assert "unbiased" in entry["kernel"]["no_ratio_reason"]
    assert (entry["accuracy"]["value"], entry["accuracy"]["reason"]) == (None, "no labels")


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d | {"format": 2},
        lambda d: {"format": 1},
        lambda d: d | {"rows": [{"name": "a"}]},
        lambda d: d | {"rows": [{"name": "a", "note": "", "metrics": {"frechet": {"value": 1}}}]},
        lambda d: d | {"rows": [{"name": "a", "note": "", "metrics": []}]},
        lambda d: d | {"rows": 3},
    ],
)
def test_another_document_is_refused(table: Table, damage: Any) -> None:
    with pytest.raises(CheckpointError, match="no evaluation"):
        Table.of_document(damage(table.document()))


def test_cells_and_text(table: Table) -> None:
    assert table.cells() == [
        ["", "Frechet", "kernel", "coverage", "accuracy"],
        ["real train", "2 (1.00x)", "0.01", "0.9", "-"],
        ["model", "2.5 (1.25x)", "0.5", "0.45", "-"],
    ]
    lines = table.text().splitlines()
    assert len({len(line) for line in lines[:3]}) == 1  # aligned
    assert lines[3] == ""
    notes = "\n".join(lines[4:])
    for words in ("model: What model is.", "Frechet distance", "n 100, draws 5, seed 0, classifier 8x8 abc", "model, accuracy: no labels."):
        assert words in notes


def test_intervals_stand_on_a_line_below_their_row(table: Table) -> None:
    wide = row("model", metric("frechet", 2.5, low=2.25, high=2.75), metric("kernel", 0.1, low=-0.1, high=0.2))
    text = Table((table.rows[0], wide)).text()
    lines = text.splitlines()
    assert re.match(r"  95 % +2.25-2.75 +-0.1 to 0.2 *$", lines[3])
    assert "half-sample" in text
    assert "half-sample" not in table.text()


def test_a_document_of_before_there_were_intervals_is_read(table: Table) -> None:
    document = table.document()
    for entry in (entry for line in document["rows"] for entry in line["metrics"].values()):
        del entry["low"], entry["high"]
    assert Table.of_document(document) == table
