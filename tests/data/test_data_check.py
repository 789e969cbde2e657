# SPDX-License-Identifier: Apache-2.0
"""Reports on data folders."""

from __future__ import annotations

import json
import shlex
import struct

import numpy as np
import pytest
from PIL import Image

from ornstein.base.errors import DataError
from ornstein.data.check import check
from ornstein.data.cifar import TEST, TRAIN

RNG = np.random.default_rng(0)


def test_a_folder_of_images(tmp_path):
    path = tmp_path / "photos"
    for name, shapes in {"cat": [(20, 30), (20, 30), (40, 40)], "dog": [(20, 30)]}.items():
        (path / name).mkdir(parents=True)
        for i, shape in enumerate(shapes):
            Image.fromarray(RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)).save(path / name / f"{i}.png")
    Image.open(path / "cat" / "1.png").save(path / "dog" / "copy.bmp")
    Image.open(path / "cat" / "1.png").save(path / "dog" / "copy2.bmp")
    (path / "dog" / "broken.png").write_text("x")
    (path / "notes.txt").write_text("x")
    report = json.loads(json.dumps(check(path)))
    assert report["kind"] == "folder"
    assert report["images"] == 6
    assert report["sizes"] == {"30x20": 5, "40x40": 1}
    assert list(report["sizes"]) == ["30x20", "40x40"]
    assert report["modes"] == {"RGB": 6}
    assert report["classes"] == {"cat": 3, "dog": 3}
    assert report["duplicates"] == {"groups": 1, "extra": 2, "examples": [["cat/1.png", "dog/copy.bmp"]]}
    assert [file["path"] for file in report["bad_files"]] == ["dog/broken.png"]
    assert "not an image" in report["bad_files"][0]["reason"]
    assert report["ignored"] == ["notes.txt"]
    assert report["suggestion"] == f"data.kind=folder data.path={path} data.size=16 data.channels=3 data.on_bad_file=skip"


def test_the_suggestion_can_be_typed_into_a_shell(tmp_path):
    path = tmp_path / "my photos"
    path.mkdir()
    Image.new("L", (9, 9)).save(path / "a.png")
    assert shlex.split(check(path)["suggestion"]) == ["data.kind=folder", f"data.path={path}", "data.size=8", "data.channels=1"]


def test_equal_bytes_of_another_shape_are_no_duplicate(tmp_path):
    Image.new("RGB", (20, 30)).save(tmp_path / "tall.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "wide.png")
    assert check(tmp_path)["duplicates"] == {"groups": 0, "extra": 0, "examples": []}


def test_grey_images_suggest_one_channel_and_large_ones_a_size_a_small_machine_trains(tmp_path):
    Image.new("L", (300, 200), 7).save(tmp_path / "a.png")
    Image.fromarray(RNG.integers(0, 65536, (200, 300), dtype=np.uint16)).save(tmp_path / "b.png")
    report = check(tmp_path)
    assert report["modes"] == {"L": 1, "I;16": 1}
    assert report["classes"] == {}
    assert report["suggestion"] == f"data.kind=folder data.path={tmp_path} data.size=64 data.channels=1"


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def test_idx_files(tmp_path):
    images = RNG.integers(0, 256, (6, 28, 28))
    write_idx(tmp_path / "train-images-idx3-ubyte", images[[0, 1, 2, 3, 0]])
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.array([0, 1, 2, 1, 0]))
    write_idx(tmp_path / "t10k-images-idx3-ubyte", images[[4, 2]])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([2, 2]))
    report = check(tmp_path)
    assert (report["kind"], report["images"]) == ("idx", 7)
    assert report["sizes"] == {"28x28": 7}
    assert report["classes"] == {"0": 2, "1": 2, "2": 3}
    assert report["duplicates"] == {"groups": 2, "extra": 2, "examples": [["train 0", "train 4"], ["train 2", "t10k 1"]]}
    assert report["suggestion"] == f"data.kind=idx data.path={tmp_path} data.size=28"
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"wrong")
    broken = check(tmp_path)
    assert broken["images"] == 5
    assert broken["bad_files"][0]["path"].endswith("t10k-labels-idx1-ubyte")
    assert "begins with" in broken["bad_files"][0]["reason"]


def test_cifar_files(tmp_path):
    for name in (*TRAIN, TEST):
        rows = RNG.integers(0, 256, (3, 3073), dtype=np.uint8)
        rows[:, 0] = (0, 1, 9)
        (tmp_path / name).write_bytes(rows.tobytes())
    (tmp_path / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    report = check(tmp_path)
    assert (report["kind"], report["images"], report["modes"]) == ("cifar10", 18, {"RGB": 18})
    assert report["classes"] == {"a": 6, "b": 6, "j": 6}
    assert report["duplicates"]["groups"] == 0
    assert report["suggestion"].endswith("data.size=32")


def test_what_is_no_folder_or_holds_nothing(tmp_path):
    for path in (tmp_path / "gone", tmp_path / "file"):
        (tmp_path / "file").write_text("x")
        with pytest.raises(DataError, match=path.name):
            check(path)
    (tmp_path / "file").unlink()
    report = check(tmp_path)
    assert (report["images"], report["suggestion"]) == (0, None)
