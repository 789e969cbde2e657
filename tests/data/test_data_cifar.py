# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 binary files: sound ones and faulty ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ornstein.base.errors import DataError
from ornstein.data import load
from ornstein.data.cifar import FOLDER, TEST, TRAIN

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in (*TRAIN, TEST):
        rows = rng.integers(0, 256, (4, 3073), dtype=np.uint8)
        rows[:, 0] %= 10
        (tmp_path / name).write_bytes(rows.tobytes())
    (tmp_path / "batches.meta.txt").write_text("".join(f"{name}\n" for name in NAMES) + "\n")
    return tmp_path


def test_records_become_images_in_order(folder):
    split = load.cifar10(str(folder))
    assert (len(split.train), len(split.test)) == (20, 4)
    assert split.train.class_names == NAMES
    rows = np.concatenate([np.fromfile(folder / name, np.uint8).reshape(-1, 3073) for name in TRAIN])
    assert split.train.labels.tolist() == rows[:, 0].tolist()
    assert (split.train.raw.numpy() == rows[:, 1:].reshape(-1, 3, 32, 32)).all()
    assert (split.train.raw[7, 1, 2, 3].item()) == rows[7, 1 + 1024 + 2 * 32 + 3]


def test_the_folder_around_it_will_do(folder, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    (outer / FOLDER).symlink_to(folder)
    assert load.cifar10(str(outer)).train.identity == load.cifar10(str(folder)).train.identity
    assert load.cifar10(str(folder), 16).train.raw.shape == (20, 3, 16, 16)


@pytest.mark.parametrize("fault", ["missing", "empty", "cut", "label", "directory"])
def test_a_faulty_file_is_named(folder, fault):
    path = folder / "data_batch_3.bin"
    data = path.read_bytes()
    path.unlink()
    if fault == "directory":
        path.mkdir()
    elif fault != "missing":
        path.write_bytes({"empty": b"", "cut": data[:-1], "label": b"\x0a" + data[1:]}[fault])
    with pytest.raises(DataError, match=r"data_batch_3\.bin") as caught:
        load.cifar10(str(folder))
    assert caught.value.path == path


@pytest.mark.parametrize("names", [None, "cat\ndog\n", "\0" * 20, "x" * 100_000])
def test_faulty_class_names_are_named(folder, names):
    path = folder / "batches.meta.txt"
    path.unlink()
    if names is not None:
        path.write_text(names)
    with pytest.raises(DataError, match=r"batches\.meta\.txt"):
        load.cifar10(str(folder))
