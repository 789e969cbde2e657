# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ornstein.base.errors import UsageError
from ornstein.evaluate import metrics as evaluated
from ornstein.evaluate.table import Table
from ornstein.run.page.markup import tag
from ornstein.run.page.shown import smoothed
from ornstein.run.pictures import film, grid, png_bytes, save_png
from ornstein.run.report import report

RNG = np.random.default_rng(3)
MADE = {"solver": "dpm++2m", "plan": "uniform", "steps": 10, "guidance": 2.0, "seed": 7}
RECIPE = """format: 1
name: digits
data: {kind: digits, size: 16}
schedule: {kind: cosine}
prediction: {kind: v}
network: {kind: unet}
objective: {kind: matching, condition_drop: 0.1}
train: {steps: 300, batch_size: 128}
"""
FACTS = {
    "recipe_hash": "3f9a1c22b7d04e61",
    "code_version": "0.1.0",
    "torch_version": "2.13.0+cpu",
    "device": "cpu",
    "threads": 2,
    "seed": 4,
    "parameters": 1003457,
    "created": "2026-11-20T14:40:02+00:00",
    "data": {"kind": "image", "shape": [1, 16, 16], "classes": 10, "class_names": list("0123456789")},
}


def draw(path: Path, count: int = 4, metadata: dict[str, Any] | None = None) -> None:
    save_png(path, grid(RNG.integers(0, 255, (count, 4, 4), dtype=np.uint8), 2, 2), MADE if metadata is None else metadata)


def lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def log(notes: dict[int, str] | None = None, skipped: int = 0) -> list[dict[str, Any]]:
    """Loss every 10 steps, an evaluation every 100; held-out loss lowest at 200."""
    records: list[dict[str, Any]] = []
    for step in range(10, 301, 10):
        records.append({"step": step, "loss": 1.0 / step, "grad_norm": 1.0, "lr": 1e-3, "skipped": skipped})
        if step % 100 == 0:
            level = [[(i + 0.5) / 10, (i + 1) / step] for i in reversed(range(10))]
            held = {"heldout": 0.5 + abs(step - 200) / 1000, "train_fixed": 40 / step, "by_level": level, "memorised": None}
            records.append({"step": step, **held, "note": (notes or {}).get(step)})
    return records


def figure(name: str, value: float | None, draws: int = 5, seed: int = 4, reason: str = "") -> evaluated.Metric:
    return evaluated.Metric(name, value, 0.0126 if value is not None else None, None, 897, draws, seed, "classifier 8x8 0bb12f3a", reason)


def source(name: str, frechet: float, nearest: float = 1.0, copies: float = 0.0, draws: int = 5) -> evaluated.Row:
    made = {"frechet": figure("frechet", frechet), "accuracy": figure("accuracy", 0.9712, draws), "coverage": figure("coverage", 0.93)}
    made |= {"nearest": figure("nearest", nearest, draws), "copies": figure("copies", copies, draws)}
    return evaluated.Row(name, f"This is {name}.", made)


def evaluation(*rows: evaluated.Row) -> dict[str, Any]:
    floor = source("real train", 0.05, draws=1)
    return {**Table((floor, *rows)).document(), "checkpoint": 200, "model_hash": "90aa11bb22cc"}


def write_evaluation(run: Path, *rows: evaluated.Row) -> None:
    (run / "evaluation.json").write_text(json.dumps(evaluation(*rows)))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "digits"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(RECIPE)
    return run


@pytest.fixture
def run(bare: Path) -> Path:
    (bare / "run.json").write_text(json.dumps(FACTS))
    lines(bare / "metrics.jsonl", log())
    lines(bare / "times.jsonl", [{"step": 10, "seconds": 4.0}, {"step": 300, "seconds": 131.2}])
    (bare / "best.json").write_text(json.dumps({"step": 200, "heldout": 0.5}))
    write_evaluation(bare, source("model", 0.055), source("model, guided", 0.09), source("class Gaussians", 0.09, nearest=1.2))
    (bare / "diagnostics.json").write_text(json.dumps(diagnosis()))
    draw(bare / "samples/report/grid.png")
    draw(bare / "nearest.png", 16, {})
    x = RNG.integers(0, 255, (4, 2, 8, 8), dtype=np.uint8)
    save_png(bare / "film.png", film(x, x, [1.0, 0.7, 0.4, 0.1]), {})
    for step in (100, 200, 300, 1000, 2000):
        draw(bare / f"samples/previews/step-{step}.png", 4, {"step": step})
    return bare


def diagnosis() -> dict[str, Any]:
    groups = [
        {"t": t, "low": t - 0.1, "high": t + 0.1, "draws": 20, "loss": 1.0, "loss_share": 0.25, "gradient_share": 0.25, "pull": p}
        for t, p in ((0.1, 0.5), (0.3, 0.4), (0.6, 0.2), (0.9, -0.1))
    ]
    plan = {"kind": "karras", "steps": 3, "t": [0.9, 0.5], "gained": [0.5, 1.0], "cost": [0.8, 1.1]}
    curves = {"t": [0.5, 1.0], "alpha": [0.7, 0.0], "sigma": [0.7, 1.0], "log_snr": [0.0, None], "information": [0.3, 0.0]}
    paths = {"samples": 3, "solver": "heun", "moves": 4, "u": [0.75, 0.5, 0.25], "turning_rate": [0.1, 0.2, 0.3]}
    paths |= {name: [1.0, 1.1, 1.2] for name in ("stretch", "defect", "turning")}
    solver = {"order": 1, "observed": 0.9, "moves": [3, 6, 12], "evaluations": [3, 6, 12], "error": [0.4, 0.2, 0.1]}
    steps = {"samples": 3, "plan": "karras", "reference": "heun, 96 moves", "floor": 1e-3, "solvers": {"ddim": solver}}
    return {"shares": {"draws": 80, "groups": groups}, "schedule": {**curves, "plan": plan}, "paths": paths, "discretisation": steps}


def page(run: Path) -> ET.Element:
    """The page of a run as a tree; it must be sound XML after its doctype."""
    text = report(run).read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))


def section(tree: ET.Element, anchor: str) -> ET.Element:
    (found,) = [one for one in tree.iter("section") if one.get("id") == anchor]
    return found


def words(tree: ET.Element) -> str:
    return " ".join(" ".join(tree.itertext()).split())


def of_class(tree: ET.Element, name: str) -> list[ET.Element]:
    return [one for one in tree.iter() if name in (one.get("class") or "").split()]


def pictures(tree: ET.Element) -> list[bytes]:
    sources = [one.get("src") or "" for one in tree.iter("img")]
    return [base64.b64decode(text.removeprefix("data:image/png;base64,"), validate=True) for text in sources]


ANCHORS = ["samples", "film", "noticed", "training", "measured", "diagnosed", "closest", "recipe", "next"]


def test_a_whole_run_has_every_part_and_a_link_to_it(run: Path) -> None:
    tree = page(run)
    assert [one.get("id") for one in tree.iter("section")] == ANCHORS
    (nav,) = tree.iter("nav")
    assert [link.get("href") for link in nav] == [f"#{anchor}" for anchor in ANCHORS]
    assert not of_class(tree, "missing")
    assert len(list(section(tree, "training").iter("svg"))) == 2


def test_a_diagnosis_is_drawn_and_told(run: Path) -> None:
    part = section(page(run), "diagnosed")
    titles = [one.text for one in part.iter("h3")]
    assert titles == [
        "Loss and gradient by noise level",
        "Signal and noise",
        "Log-SNR",
        "Information of the moves",
        "Turning of the paths",
        "Error against evaluations",
    ]
    assert len(list(part.iter("svg"))) == len(titles)
    assert "path length over chord 1.1" in words(part)
    assert "3 moves of the karras plan" in words(part)
    assert "(1.5 nats per dimension in all), and its KL in the bound (1.9)" in words(part)
    assert "ddim 0.9 (theory 1)" in words(part)


def test_figures_by_noise_level_are_drawn_where_they_were_measured(run: Path) -> None:
    assert "by noise level" not in words(section(page(run), "measured"))
    known = json.loads((run / "evaluation.json").read_text())
    ends = {"value": [0.1, 0.5], "low": [0.09, 0.4], "high": [0.11, 0.6]}
    curves = [
        {"kind": kind, "name": name, "squared_error": ends, "accuracy": ends}
        for kind in ("estimate", "reconstruction")
        for name in ("given the class", "without a class")
    ]
    by_level = {"n": 512, "t": [0.2, 0.8], "reconstruction": "10 steps of ddim", "curves": curves}
    (run / "evaluation.json").write_text(json.dumps(known | {"by_level": by_level}))
    part = section(page(run), "measured")
    assert [one.text for one in part.iter("h3")] == ["Error of x_0 by noise level", "Class kept by noise level"]
    assert "sampled on, without a class" in words(part)
    assert "10 steps of ddim from there end in" in words(part)
    (run / "evaluation.json").write_text(json.dumps(known | {"by_level": {"curves": 3}}))
    assert "no figures by noise level" in words(section(page(run), "measured"))


def test_intervals_are_shown_in_the_place_of_spreads(run: Path) -> None:
    ranged = replace(figure("frechet", 0.055), low=0.0512, high=0.0621)
    write_evaluation(run, evaluated.Row("model", "", {"frechet": ranged}))
    tree = page(run)
    assert table(tree)["Frechet distance of the features ↓"][1] == "0.0550 0.0512–0.0621 1.10×"
    assert "95 % percentile intervals" in words(section(tree, "measured"))


def test_the_page_asks_nobody_for_anything(run: Path) -> None:
    tree, text = page(run), (run / "report.html").read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(|javascript:", re.sub(r'"data:image/png;base64,[^"]*"', "", text))
    assert {one.tag for one in tree.iter()}.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    targets = [value for one in tree.iter() for key, value in one.items() if key in {"src", "href", "srcset", "action", "poster"}]
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in targets)
    assert not [key for one in tree.iter() for key in one.attrib if key.startswith("on")]
    (policy,) = [one.get("content") or "" for one in tree.iter("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy


def test_the_pictures_are_those_of_the_run_and_say_how_they_were_drawn(run: Path) -> None:
    tree = page(run)
    for anchor, file in (("samples", "samples/report/grid.png"), ("film", "film.png"), ("closest", "nearest.png")):
        part = section(tree, anchor)
        assert pictures(part) == [(run / file).read_bytes()]
        assert all(one.get("alt") for one in part.iter("img"))
    assert "Drawn with solver dpm++2m, plan uniform, 10 steps, guidance 2.0, seeds from 7." in words(section(tree, "samples"))
    assert "Drawn with" not in words(section(tree, "film"))


def test_the_head_says_what_the_model_is_and_what_it_was_made_with(run: Path) -> None:
    (head,) = page(run).iter("header")
    lead = (
        "A class-conditional diffusion model of images (digits), a U-Net of 1,003,457 parameters with v prediction on the cosine "
        "schedule, trained for 300 steps of 128 examples in 2 min 11 s."
    )
    assert lead in words(head)
    made = dict(zip([one.text for one in head.iter("dt")], [one.text for one in head.iter("dd")], strict=True))
    assert made == {
        "created": "2026-11-20 14:40 UTC",
        "seed": "4",
        "device": "cpu",
        "threads": "2",
        "Ornstein": "0.1.0",
        "torch": "2.13.0+cpu",
        "recipe hash": "3f9a1c22b7d04e61",
    }


def test_the_figures_looked_for_first_are_those_of_the_model_beside_real_data(run: Path) -> None:
    tiles = [words(tile) for tile in of_class(page(run), "tile")]
    assert tiles[0] == "1.10× Frechet distance, in multiples of the floor 0.0550; real data: 0.0500"
    assert tiles[1] == "97.1 % class accuracy real data: 97.1 %"
    assert [tile.split()[0] for tile in tiles[2:]] == ["0.930", "1.00"]


def table(tree: ET.Element) -> dict[str, list[str]]:
    (found,) = section(tree, "measured").iter("table")
    rows = [[words(cell) for cell in row] for row in found.iter("tr")]
    return {row[0]: row[1:] for row in rows}


def test_the_table_has_every_figure_of_every_source_and_what_it_depends_on(run: Path) -> None:
    tree = page(run)
    rows = table(tree)
    assert rows[""] == ["real train", "model", "model, guided", "class Gaussians", "measured with"]
    assert rows["Frechet distance of the features ↓"] == [
        "0.0500 ± 0.013 1.00×",
        "0.0550 ± 0.013 1.10×",
        "0.0900 ± 0.013 1.80×",
        "0.0900 ± 0.013 1.80×",
        "n 897, draws 5, seed 4, classifier 8x8 0bb12f3a",
    ]
    accuracy = rows["class accuracy ↑"]
    assert accuracy[1] == "97.1 % ± 1.3 %"
    assert accuracy[4] == "n 897, draws 5, seed 4, classifier 8x8 0bb12f3a real train: n 897, draws 1, seed 4, classifier 8x8 0bb12f3a"
    assert [cell.text for cell in of_class(section(tree, "measured"), "model") if cell.tag == "th"] == ["model", "model, guided"]
    names = ("real train", "model", "model, guided", "class Gaussians")
    assert [words(one) for one in section(tree, "measured").iter("li")] == [f"{name}: This is {name}." for name in names]
    assert "step of the model 200 model hash 90aa11bb22cc" in words(section(tree, "measured"))


def test_a_figure_that_is_missing_or_not_known_is_shown_as_such(run: Path) -> None:
    document = evaluation(evaluated.Row("model", "", {"frechet": figure("frechet", None, reason="no features")}))
    document["rows"][1]["metrics"]["new_figure"] = {"value": 3.0, "n": 5, "identity": "a new figure: n 5", "ratio_to_floor": None}
    (run / "evaluation.json").write_text(json.dumps(document))
    tree = page(run)
    assert table(tree)["Frechet distance of the features ↓"][1] == "–"
    assert table(tree)["a new figure"] == ["–", "3.00", "n 5"]
    assert "No Frechet of model: no features." in words(section(tree, "measured"))


def test_the_loss_plot_shows_the_curves_and_the_best_step(run: Path) -> None:
    loss, level = section(page(run), "training").iter("svg")
    text, marks = words(loss), [one for one in loss.iter("line") if one.get("class") == "mark"]
    assert "best 200" in text
    assert len(marks) == 1
    assert "training: from 0.1 at 10 to 0.00333 at 300. held out: from 0.6 at 100 to 0.6 at 300." in text
    assert "training data, same noise: from 0.4 at 100 to 0.133 at 300." in text
    assert "at step 300: from 0.00333 at 0.05 to 0.0333 at 0.95. at step 100: from 0.01 at 0.05 to 0.1 at 0.95." in words(level)


def test_the_first_the_middle_and_the_last_preview_are_shown_in_the_order_of_steps(run: Path) -> None:
    part = section(page(run), "training")
    assert pictures(part) == [(run / f"samples/previews/step-{step}.png").read_bytes() for step in (100, 300, 2000)]
    assert words(of_class(part, "previews")[0]).endswith("Step 100 Step 300 Step 2,000")


def test_smoothing_is_a_centred_mean() -> None:
    values = [float(value) for value in RNG.normal(size=9)]
    assert smoothed(values, 1) == pytest.approx(values)
    assert smoothed(values, 3) == pytest.approx([np.mean(values[max(0, i - 1) : i + 2]) for i in range(9)])
    assert smoothed([], 5) == []


def test_a_sound_run_is_said_to_be_sound(run: Path) -> None:
    part = section(page(run), "noticed")
    assert not of_class(part, "callout")
    assert [words(one).split(" ", 2)[:2] for one in of_class(part, "good")] == [
        ["No", "overfitting"],
        ["No", "memorising"],
        ["No", "memorising"],
    ]


def test_overfitting_memorising_and_skipped_updates_are_named(run: Path) -> None:
    first = "overfitting: held-out loss rose; the checkpoint of step 200 is the best"
    lines(run / "metrics.jsonl", log({200: first, 300: f"{first}; memorising: samples lie at 0.2 of the usual distance"}, skipped=3))
    part = section(page(run), "noticed")
    assert [words(one) for one in of_class(part, "callout")] == [
        "Overfitting, first named at step 200: held-out loss rose; the checkpoint of step 200 is the best.",
        "Memorising, first named at step 300: samples lie at 0.2 of the usual distance.",
        "Updates left out: 3, because the loss or the gradient was not finite.",
    ]
    assert "No overfitting" not in words(part)


@pytest.mark.parametrize(("nearest", "copies", "memorised"), [(0.9, 0.02, False), (0.89, 0.0, True), (1.0, 0.021, True)])
def test_samples_too_close_to_training_images_are_called_memorising(run: Path, nearest: float, copies: float, memorised: bool) -> None:
    write_evaluation(run, source("model", 0.06, nearest, copies), source("noisy copies", 0.06, 0.1, 0.9))
    part = section(page(run), "noticed")
    assert [words(one).startswith("Memorising: samples of 'model'") for one in of_class(part, "callout")] == [True] * memorised
    assert ("No memorising in samples of 'model'" in words(part)) is not memorised
    assert "noisy copies" not in words(part)


def test_an_attribute_ends_where_it_should() -> None:
    evil = "\"><b x='&\x01"
    assert ET.fromstring(tag("p", title=evil, class_=None, aria_label=2.5)).attrib == {
        "title": evil.replace("\x01", "\ufffd"),
        "aria-label": "2.5",
    }


EVIL = "<script>alert('1')</script>&amp;\" onload=\"x"


def test_nothing_in_a_run_becomes_markup(run: Path) -> None:
    (run / "recipe.yaml").write_text(
        json.dumps({"name": EVIL} | {part: {"kind": EVIL} for part in ("data", "network", "schedule", "prediction")})
    )
    (run / "run.json").write_text(json.dumps({**FACTS, "device": EVIL, "created": EVIL}))
    lines(run / "metrics.jsonl", [*log(), {"step": EVIL, "note": EVIL}, {"step": 400, "note": f"{EVIL}: {EVIL}", "heldout": EVIL}])
    document = evaluation(source("model", 0.06), source(EVIL, 0.06))
    document["rows"][1] |= {"name": f"model {EVIL}", "note": EVIL}
    document["rows"][1]["metrics"][EVIL] = {"value": 1.0, "identity": EVIL, "eye": EVIL, "reason": EVIL}
    (run / "evaluation.json").write_text(json.dumps({**document, "checkpoint": EVIL}))
    draw(run / "samples/report/grid.png", 4, {"solver": EVIL})
    tree = page(run)
    assert not list(tree.iter("script"))
    assert not [key for one in tree.iter() for key in one.attrib if key.startswith("on")]
    assert [one.text for one in tree.iter("h1")] == [EVIL]
    for anchor in ("samples", "noticed", "measured", "recipe"):
        assert "<script>alert('1')</script>" in words(section(tree, anchor))


@pytest.mark.parametrize(
    ("gone", "anchor", "sentence"),
    [
        ("samples/report/grid.png", "samples", "No samples yet; ornstein sample {run} -n 40 draws some."),
        ("film.png", "film", "No film strip yet; ornstein evaluate {run} draws one."),
        ("metrics.jsonl", "training", "Nothing is logged yet; ornstein train {run} --resume trains the model."),
        ("evaluation.json", "measured", "Not measured yet; ornstein evaluate {run} makes the table."),
        ("diagnostics.json", "diagnosed", "Not taken apart yet; ornstein diagnose {run} shows where the loss and the errors come from."),
        ("nearest.png", "closest", "No comparison with the training images yet; ornstein evaluate {run} makes one."),
    ],
)
def test_a_part_that_is_not_there_yet_names_the_command_that_makes_it(run: Path, gone: str, anchor: str, sentence: str) -> None:
    (run / gone).unlink()
    tree = page(run)
    (only,) = of_class(tree, "missing")
    assert words(section(tree, anchor)).endswith(sentence.format(run=run))
    assert words(only) == sentence.format(run=run)


def test_a_run_that_has_only_begun_has_a_page(bare: Path) -> None:
    tree = page(bare)
    assert "not trained yet" in words(tree)
    assert len(of_class(tree, "missing")) == 7
    assert not list(tree.iter("img"))
    assert not of_class(tree, "tile")


WHOLE = png_bytes(grid(np.zeros((1, 64, 64), np.uint8), 1, 1), {})
NO_PICTURE = [b"", b"{}", WHOLE[:20], WHOLE[:-30], WHOLE.replace(b"IDAT", b"IDAX")]
NO_JSON = [b"{\n", b"\xff\xfe\n"]
NO_TABLE = [b"[1]", b'{"rows": "none"}', b'{"rows": [{"name": 1}]}', b'{"format": 1}']
DAMAGE = [
    *(("samples/report/grid.png", "samples", content) for content in NO_PICTURE),
    *(("film.png", "film", content) for content in NO_PICTURE),
    ("diagnostics.json", "diagnosed", b'{"shares": 3}'),
    *(("nearest.png", "closest", content) for content in NO_PICTURE),
    *(("samples/previews/step-300.png", "training", content) for content in NO_PICTURE),
    *(("metrics.jsonl", "training", content) for content in NO_JSON),
    *(("best.json", "training", content) for content in [*NO_JSON, b"", b"[1]"]),
    *(("evaluation.json", "measured", content) for content in [*NO_JSON, *NO_TABLE]),
]


@pytest.mark.parametrize(("file", "anchor", "content"), DAMAGE)
def test_a_damaged_file_costs_only_the_parts_that_need_it(run: Path, file: str, anchor: str, content: bytes) -> None:
    (run / file).write_bytes(content)
    tree = page(run)
    assert Path(file).name in " ".join(words(one) for one in of_class(section(tree, anchor), "missing"))
    assert "ornstein evaluate" in words(section(tree, "next"))
    assert "format: 1" in words(section(tree, "recipe"))


def test_a_damaged_run_file_leaves_the_other_parts(run: Path) -> None:
    (run / "run.json").write_bytes(b"{")
    (run / "times.jsonl").write_bytes(b"{\n")
    tree = page(run)
    assert "run.json is not readable" in words(of_class(tree, "missing")[0])
    assert [one.get("id") for one in tree.iter("section")] == ANCHORS


def test_values_that_are_no_numbers_are_passed_over(run: Path) -> None:
    odd: list[dict[str, Any]] = [
        {"step": "x", "loss": 1},
        {"step": True, "loss": None},
        {"step": 305, "heldout": True},
        {"step": 310, "heldout": [1], "by_level": [[1], "x", [0.5, None]]},
    ]
    lines(run / "metrics.jsonl", log() + odd)
    with (run / "metrics.jsonl").open("a") as handle:  # what another program may write
        handle.write('7\n{"step": 320, "loss": NaN, "train_fixed": Infinity}\n')
    assert "held out: from 0.6 at 100 to 0.6 at 300." in words(section(page(run), "training"))


def test_the_grid_of_the_report_comes_before_the_newest(run: Path) -> None:
    for age, name in enumerate(("a", "c", "b")):
        draw(run / f"samples/{name}/grid.png", 4, {"seed": age})
        os.utime(run / f"samples/{name}/grid.png", (4_000_000_000 - age, 4_000_000_000 - age))
    assert pictures(section(page(run), "samples")) == [(run / "samples/report/grid.png").read_bytes()]
    (run / "samples/report/grid.png").unlink()
    assert pictures(section(page(run), "samples")) == [(run / "samples/a/grid.png").read_bytes()]


@pytest.fixture
def points(bare: Path) -> Path:
    (bare / "recipe.yaml").write_text("name: toy\ndata: {kind: points, world: spiral}\nnetwork: {kind: mlp}\ntrain: {steps: 50}\n")
    (bare / "samples/report").mkdir(parents=True)
    return bare


def test_a_run_on_points_shows_its_samples_among_the_data(points: Path) -> None:
    samples, reference = (RNG.normal(size=(n, 2)).astype(np.float32) for n in (60, 80))
    np.savez(points / "samples/report/samples.npz", samples=samples, reference=reference)
    tree = page(points)
    assert [one.get("id") for one in tree.iter("section")] == [anchor for anchor in ANCHORS if anchor not in ("film", "closest")]
    part = section(tree, "samples")
    assert "data: 80 points. samples: 60 points." in words(part)
    assert "60 samples over 80 points of the data." in words(part)
    assert "points in the plane (spiral), a multilayer perceptron" in words(tree)
    np.savez(points / "samples/report/samples.npz", samples=samples)
    assert "60 samples." in words(section(page(points), "samples"))


@pytest.mark.parametrize(
    "content", [None, b"", b"PK\x03\x04", {"samples": np.zeros((3, 5), np.float32)}, {"labels": np.zeros(3)}, {"samples": np.array([{}])}]
)
def test_samples_that_are_no_points_are_named(points: Path, content: Any) -> None:
    path = points / "samples/report/samples.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
    (sentence,) = of_class(section(page(points), "samples"), "missing")
    assert "ornstein sample" in words(sentence) if content is None else words(sentence).startswith("samples.npz")


def test_points_of_which_none_is_finite_are_named(points: Path) -> None:
    np.savez(points / "samples/report/samples.npz", samples=np.full((3, 2), np.nan, np.float32), reference=np.zeros((3, 2), np.float32))
    assert "samples.npz" in words(section(page(points), "samples"))


def test_the_commands_fit_the_run_and_are_safe_to_paste(run: Path) -> None:
    odd = run.rename(run.with_name("it's a $(run)"))
    commands = [shlex.split(words(one)) for one in section(page(odd), "next").iter("code")]
    assert ["ornstein", "train", str(odd), "--resume", "train.steps=600"] in commands
    assert ["ornstein", "evaluate", str(odd)] in commands
    assert ["ornstein", "sample", str(odd), "-n", "16", "--label", "3", "--guidance", "2", "--steps", "10", "--seed", "0"] in commands
    assert ["ornstein", "train", f"{odd}/recipe.yaml", "--out", str(odd.parent / "next"), "--init-from", str(odd)] in commands
    assert ["ornstein", "train", str(odd), "--resume"] not in commands
    lines(odd / "metrics.jsonl", log()[:5])
    (odd / "run.json").write_text(json.dumps({**FACTS, "data": {**FACTS["data"], "classes": 0}}))  # type: ignore[dict-item]
    commands = [shlex.split(words(one)) for one in section(page(odd), "next").iter("code")]
    assert ["ornstein", "train", str(odd), "--resume"] in commands
    assert not [word for line in commands for word in line if word in ("--label", "--guidance")]


def test_guidance_is_proposed_only_where_the_model_has_learned_to_go_without_classes(run: Path) -> None:
    assert "--label 3 --guidance 2" in words(section(page(run), "next"))
    (run / "recipe.yaml").write_text(RECIPE.replace("0.1", "0.0"))
    assert "--label 3 --steps" in words(section(page(run), "next"))


def test_a_checkpoint_counts_as_trained_where_the_log_ends_before_it(run: Path) -> None:
    (run / "checkpoints/step-305").mkdir(parents=True)
    assert "trained for 305 steps" in words(page(run))


def test_equal_files_give_an_equal_page(run: Path) -> None:
    first = report(run).read_bytes()
    assert report(run) == run / "report.html"
    assert (run / "report.html").read_bytes() == first
    assert not list(run.glob("*.tmp-*"))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(str(tmp_path))):
        report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_page_is_written_without_torch(run: Path) -> None:
    program = (
        "import sys, pathlib; from ornstein.run.report import report; report(pathlib.Path(sys.argv[1])); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(run)], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
