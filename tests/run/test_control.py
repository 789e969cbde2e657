# SPDX-License-Identifier: Apache-2.0
"""Drawings that are guided, started, filled in and measured, on runs of a second."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_world import DIGITS, POINTS, recipe

from ornstein.base.errors import OrnsteinError, UsageError
from ornstein.run.control import Control, source
from ornstein.run.draw import DrawOptions, draw
from ornstein.run.evaluate import evaluate
from ornstein.run.folder import RunFolder
from ornstein.run.pictures import read_metadata
from ornstein.run.report import report
from ornstein.run.train import train

ENCODER = ("network={kind: encoder, channels: [8, 8], blocks: 1, groups: 4}", "objective={kind: classification}")
POINT_ENCODER = ("network={kind: point-encoder, width: 16, depth: 1}", "objective={kind: classification}")


def run(folder: Path, text: str, *words: str, every: int = 6) -> Path:
    made = recipe(text, f"train.checkpoint_every={every}", "train.evaluate_every=6", *words)
    train(made, folder, resume=False, init_from=None, show=lambda _: None)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: digits; a younger copy; a classifier; the same on another schedule, size and for points; pictures."""
    home = tmp_path_factory.mktemp("control")
    run(home / "digits", DIGITS, every=3)
    run(home / "judge", DIGITS, *ENCODER, "sample.guidance=1", "evaluate.guidance=1")
    run(home / "points", POINTS)
    run(home / "points-judge", POINTS, *POINT_ENCODER)
    shutil.copytree(home / "digits", home / "other")
    RunFolder(home / "other").write_recipe(recipe(DIGITS, "schedule.sigma_max=50"))
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(pixels).save(home / "init.png")
    Image.fromarray(pixels[::2, ::2].copy()).save(home / "small.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 2:6] = 128
    mask[0, 0] = 127
    Image.fromarray(mask).save(home / "mask.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(home / "black.png")
    (home / "text.png").write_text("no picture")
    return home


def drawn(folder: Path, out: Path, control: Control, **options: object) -> dict[str, np.ndarray]:
    draw(folder, DrawOptions(out=out, control=control, **options), lambda _: None)  # type: ignore[arg-type]
    with np.load(out / "samples.npz", allow_pickle=False) as stored:
        return dict(stored)


def said(arrays: dict[str, np.ndarray]) -> dict:
    return json.loads(str(arrays["parameters"]))


KINDS = {
    "plain": {},
    "negative": {"negative": 3},
    "compose": {"compose": "3:1.5,8:-0.5"},
    "classifier": {"classifier": "judge"},
    "bad": {"bad": "digits:3"},
    "init": {"init": "init.png", "strength": 0.4},
    "invert": {"init": "init.png", "invert": True, "strength": 0.5, "init_label": 2},
    "mask": {"init": "init.png", "mask": "mask.png"},
    "resample": {"init": "init.png", "mask": "mask.png", "resample": 2},
    "super-resolution": {"init": "small.png", "task": "super-resolution:2"},
    "deblur": {"init": "init.png", "task": "deblur:0.8", "noise": 0.1},
    "inpaint": {"init": "init.png", "task": "inpaint", "mask": "mask.png"},
    "dps": {"init": "small.png", "task": "super-resolution:2", "method": "dps"},
}


def control(home: Path, kind: str) -> Control:
    at_home = {"init", "mask"}
    return Control(**{
        name: home / value if name in at_home else str(home / value) if name in ("classifier", "bad") else value
        for name, value in KINDS[kind].items()
    })  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_has_one_picture_whatever_else_is_asked_for(home: Path, tmp_path: Path, kind: str) -> None:
    many = drawn(home / "digits", tmp_path / "many", control(home, kind), count=11, seed=5)
    alone = drawn(home / "digits", tmp_path / "alone", control(home, kind), count=1, seed=9)
    assert np.array_equal(alone["samples"][0], many["samples"][4])
    if kind != "plain":
        plain = drawn(home / "digits", tmp_path / "plain", Control(), count=11, seed=5)
        assert not np.array_equal(plain["samples"], many["samples"])
        words = said(many)
        assert set(KINDS[kind]) - {"init_label"} <= set(words)
        single = sorted(tmp_path.glob("alone/0*.png"))[0]
        told = read_metadata(single)
        assert {**told, "sample": 0} == {**words, "sample": 0, "seed": 9} | ({"label": 9} if "labels" in alone else {})


def test_what_is_black_in_the_mask_is_kept_to_the_pixel(home: Path, tmp_path: Path) -> None:
    original = np.asarray(Image.open(home / "init.png"))
    for kind in ("mask", "resample"):
        samples = drawn(home / "digits", tmp_path / kind, control(home, kind), count=3, solver="ddpm")["samples"]
        inner = np.zeros((8, 8), bool)
        inner[2:6, 2:6] = True
        assert (samples[:, ~inner] == original[~inner]).all()
        assert said(drawn(home / "digits", tmp_path / f"{kind}-again", control(home, kind), count=1))["filled"] == 16


def test_strength_keeps_a_share_of_the_picture(home: Path, tmp_path: Path) -> None:
    original = np.asarray(Image.open(home / "init.png")).astype(float)
    near, far = (
        np.abs(drawn(home / "digits", tmp_path / f"{x}", Control(init=home / "init.png", strength=x), count=4)["samples"] - original).mean()
        for x in (0.02, 0.9)
    )
    assert near < 0.3 * far


def test_a_composition_has_no_labels_and_a_class_condition_has(home: Path, tmp_path: Path) -> None:
    assert "labels" not in drawn(home / "digits", tmp_path / "a", control(home, "compose"), count=2)
    assert drawn(home / "digits", tmp_path / "b", control(home, "classifier"), count=2, label=4)["labels"].tolist() == [4, 4]


def test_guidance_is_the_scale_of_whoever_guides(home: Path, tmp_path: Path) -> None:
    for kind in ("classifier", "bad"):
        pictures = [
            drawn(home / "digits", tmp_path / f"{kind}-{scale}", control(home, kind), count=8, guidance=scale)["samples"]
            for scale in (1.0, 9.0)
        ]
        assert not np.array_equal(*pictures)
    itself = drawn(home / "digits", tmp_path / "self", Control(bad=str(home / "digits")), count=8, guidance=9.0)
    alone = drawn(home / "digits", tmp_path / "alone", Control(), count=8, guidance=1.0)
    assert np.abs(itself["samples"].astype(int) - alone["samples"]).max() <= 1
    words = said(itself)
    assert (words["guidance"], words["guidance_by"], words["sample"]["guidance"]) == (9.0, "worse model", 1.0)
    assert words["bad"]["checkpoint"] == 6


def test_interval_and_rescale_reach_the_recipe(home: Path, tmp_path: Path) -> None:
    words = said(drawn(home / "digits", tmp_path, Control(), count=1, interval=(0.2, 0.8), rescale=0.7))
    assert (words["sample"]["guidance_interval"], words["sample"]["guidance_rescale"]) == ([0.2, 0.8], 0.7)


def test_a_classifier_brings_classes_to_a_run_without(home: Path, tmp_path: Path) -> None:
    """The points' own network takes no class; with a classifier they have one, and guidance moves them."""
    made, alone = (
        drawn(home / "points", tmp_path / f"{scale}", Control(classifier=str(home / "points-judge")), count=5, guidance=scale)
        for scale in (50.0, 0.0)
    )
    assert made["samples"].shape == (5, 2)
    assert not np.array_equal(made["samples"], alone["samples"])
    with pytest.raises(UsageError, match="draws points"):
        drawn(home / "points", tmp_path / "no", Control(init=home / "init.png"), count=1)


def test_a_classifier_is_measured_by_noise_level_and_draws_nothing(home: Path, tmp_path: Path) -> None:
    rows = evaluate(home / "judge", lambda _: None)["rows"]
    assert rows[0]["name"] == "chance"
    assert len(rows) == 6
    assert all(0.0 <= row["metrics"]["accuracy"]["value"] <= 1.0 for row in rows)
    assert "--classifier" in report(home / "judge").read_text()
    with pytest.raises(UsageError, match="draws nothing"):
        drawn(home / "judge", tmp_path / "out", Control())
    assert not (home / "judge" / "samples").exists()


PICTURE = {"init": "init.png"}
REFUSED = [
    ({"init": "absent.png"}, {}, "no file"),
    ({"init": "text.png"}, {}, "cannot be used"),
    ({"init": "small.png"}, {}, "4x4 pixels where 8x8"),
    ({**PICTURE, "task": "super-resolution:2"}, {}, "8x8 pixels where 4x4"),
    ({**PICTURE, "task": "super-resolution:3"}, {}, "3 times smaller"),
    ({**PICTURE, "mask": "small.png"}, {}, "4x4 pixels where 8x8"),
    ({**PICTURE, "mask": "black.png"}, {}, "nothing white"),
    ({**PICTURE, "mask": "absent.png"}, {}, "no file"),
    ({**PICTURE, "strength": 0.0}, {}, "does not lie in"),
    ({**PICTURE, "strength": 1.5}, {}, "does not lie in"),
    ({**PICTURE, "strength": float("nan")}, {}, "does not lie in"),
    ({"strength": 0.5}, {}, "without a picture"),
    ({"mask": "mask.png"}, {}, "without a picture"),
    ({"task": "deblur:1"}, {}, "without a picture"),
    ({**PICTURE, "task": "inpaint"}, {}, "without a mask"),
    ({**PICTURE, "task": "inpaint:2", "mask": "mask.png"}, {}, "takes no number"),
    ({**PICTURE, "task": "deblur:1", "mask": "mask.png"}, {}, "takes no mask"),
    ({**PICTURE, "task": "deblur:0"}, {}, "needs the blur's width"),
    ({**PICTURE, "task": "super-resolution:1.5"}, {}, "needs a factor"),
    ({**PICTURE, "task": "colourise"}, {}, "no task 'colourise'"),
    ({**PICTURE, "task": "deblur:1", "strength": 0.5}, {}, "starts from noise"),
    ({**PICTURE, "task": "deblur:1", "method": "magic"}, {}, "no method 'magic'"),
    ({**PICTURE, "task": "deblur:1", "noise": -1.0}, {}, "no standard deviation"),
    ({**PICTURE, "task": "deblur:1", "noise": 0.1, "method": "dps"}, {}, "says nothing to dps"),
    ({**PICTURE, "task": "deblur:1", "method": "dps"}, {"solver": "heun"}, "no noisier"),
    ({**PICTURE, "method": "dps"}, {}, "without --task"),
    ({**PICTURE, "resample": 3}, {}, "belongs to filling in"),
    ({**PICTURE, "mask": "mask.png", "resample": 0}, {}, "no number of passes"),
    ({**PICTURE, "invert": True}, {"solver": "ddpm"}, "stochastic"),
    ({**PICTURE, "invert": True}, {"steps": 1}, "two levels"),
    ({**PICTURE, "invert": True, "mask": "mask.png"}, {}, "both given"),
    ({**PICTURE, "invert": True, "init_label": 10}, {}, "no class 10"),
    ({**PICTURE, "init_label": 1}, {}, "without --invert"),
    ({"negative": 10}, {}, "no class 10"),
    ({"negative": 1}, {"guidance": 1.0}, "at guidance 1"),
    ({"negative": 1, "compose": "1:1"}, {}, "only one of them"),
    ({"compose": "1:1,12:2"}, {}, "no class 12"),
    ({"compose": "1:1,x"}, {}, "no class with a weight"),
    ({"compose": "1:nan"}, {}, "no class with a weight"),
    ({"compose": "1:1"}, {"guidance": 2.0}, "both given"),
    ({"compose": "1:1"}, {"label": 2}, "both given"),
    ({"classifier": "judge", "bad": "digits"}, {}, "only one of them"),
    ({"classifier": "digits"}, {}, "is no classifier"),
    ({"classifier": "nowhere"}, {}, "is not a run"),
    ({"classifier": "judge:4"}, {}, "4"),
    ({"classifier": "judge"}, {"guidance": -1.0}, "guidance"),
    ({"bad": "judge"}, {}, "cannot be the worse"),
    ({}, {"guidance": -2.0}, "guidance"),
    ({}, {"interval": (0.8, 0.2)}, "above the second"),
    ({}, {"interval": (-0.1, 0.2)}, "guidance_interval"),
    ({}, {"rescale": 1.1}, "guidance_rescale"),
]


@pytest.mark.parametrize(("words", "options", "message"), REFUSED, ids=[f"{message}-{i}" for i, (_, _, message) in enumerate(REFUSED)])
def test_what_cannot_be_drawn_is_refused_in_words(home: Path, tmp_path: Path, words: dict, options: dict, message: str) -> None:
    paths = {name: home / words[name] for name in ("init", "mask") if name in words}
    runs = {name: str(home / words[name]) for name in ("classifier", "bad") if name in words}
    with pytest.raises(OrnsteinError, match=message) as caught:
        drawn(home / "digits", tmp_path / "out", Control(**{**words, **paths, **runs}), count=2, **options)
    assert caught.value.exit_code in (2, 3, 4)
    assert caught.value.fix
    assert not (tmp_path / "out").exists()


def test_runs_that_do_not_fit_cannot_guide(home: Path, tmp_path: Path) -> None:
    for folder, message in (("other", "another noise schedule"), ("points", "samples of shape")):
        with pytest.raises(UsageError, match=message):
            drawn(home / "digits", tmp_path / "out", Control(bad=str(home / folder)))
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_named_after_a_colon(tmp_path: Path) -> None:
    assert source("runs/a") == (Path("runs/a"), "newest")
    assert source("runs/a:40") == (Path("runs/a"), "40")
    assert source("runs/a:best") == (Path("runs/a"), "best")
    assert source("C:runs") == (Path("C:runs"), "newest")
    (tmp_path / "odd:7").mkdir()
    assert source(f"{tmp_path}/odd:7") == (tmp_path / "odd:7", "newest")


def test_classifiers_and_denoisers_are_not_mixed_up_in_a_recipe() -> None:
    for words, message in (
        (("objective={kind: classification}", "sample.guidance=1", "evaluate.guidance=1"), "needs logits; what fits: encoder"),
        (("network={kind: encoder, channels: [8, 8], groups: 4}",), "needs data; what fits: unet"),
    ):
        with pytest.raises(UsageError, match=message):
            recipe(DIGITS, *words)
    with pytest.raises(UsageError, match="'checkerboard' has none"):
        recipe(POINTS, *POINT_ENCODER, "data.world=checkerboard")


def test_class_gradients_do_not_reach_the_weights(home: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in (home / "judge").rglob("*.safetensors")}
    assert not torch.is_inference_mode_enabled()
    drawn(home / "digits", tmp_path, control(home, "classifier"), count=1)
    assert {p: p.read_bytes() for p in (home / "judge").rglob("*.safetensors")} == before
    assert RunFolder(home / "judge").recipe().objective.kind == "classification"
