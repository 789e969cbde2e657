# SPDX-License-Identifier: Apache-2.0
"""Image folders: classes, order, bad files, the held-out part and the cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ornstein.base.errors import DataError, UsageError
from ornstein.data import folder as folder_module
from ornstein.data import load

SIZE = 8


def paint(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(path, "PNG")
    return path


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    for index, name in enumerate(("cat", "dog")):
        for i in range(12):
            paint(tmp_path / "zoo" / name / f"{i:02}.png", 100 * index + i)
    return tmp_path / "zoo"


def contents(split) -> dict[bytes, int]:
    """Label of every image, whichever part it is in."""
    parts = [(part.raw, part.labels) for part in (split.train, split.test)]
    return {image.numpy().tobytes(): int(label) for raw, labels in parts for image, label in zip(raw, labels, strict=True)}


def read(path: Path, **changes):
    return load.folder(str(path), **{"size": SIZE, "test_fraction": 0.3, **changes})


def test_classes_and_order_follow_the_names(zoo):
    split = read(zoo)
    assert split.train.class_names == ("cat", "dog")
    assert len(split.train) + len(split.test) == split.report.read == 24
    found = contents(split)
    for index, name in enumerate(("cat", "dog")):
        for path in (zoo / name).iterdir():
            assert found[np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes()] == index
    names = [f"{name}/{i:02}.png" for name in ("cat", "dog") for i in range(12)]
    expected = [np.asarray(Image.open(zoo / name)).transpose(2, 0, 1) for name in names]
    for part in (split.train, split.test):
        places = [next(i for i, image in enumerate(expected) if (image == raw.numpy()).all()) for raw in part.raw]
        assert places == sorted(places)


def test_nested_files_belong_to_the_top_folder_and_unlabelled_folders_have_no_classes(zoo, tmp_path):
    paint(zoo / "cat" / "kittens" / "deep.png", 77)
    assert read(zoo).train.class_names == ("cat", "dog")
    for i in range(5):
        paint(tmp_path / "flat" / f"{i}.png", i)
    flat = read(tmp_path / "flat", channels=1)
    assert flat.train.labels is None
    assert flat.train.class_names == ()
    assert flat.train.raw.shape[1:] == (1, SIZE, SIZE)


def test_the_split_is_stable_when_files_are_added(zoo):
    before = {image.numpy().tobytes() for image in read(zoo).test.raw}
    for i in range(30):
        paint(zoo / "ape" / f"{i}.png", 1000 + i)
    after = read(zoo)
    old = {image.numpy().tobytes() for image, label in zip(after.test.raw, after.test.labels, strict=True) if label > 0}
    assert after.train.class_names == ("ape", "cat", "dog")
    assert old == before
    assert 0 < len(before) < 20


def test_the_split_is_the_same_on_every_machine(tmp_path):
    for i in range(40):
        paint(tmp_path / "flat" / f"{i}.png", i)
    order = sorted(range(40), key=str)
    whole = {np.asarray(Image.open(tmp_path / "flat" / f"{i}.png")).transpose(2, 0, 1).tobytes(): i for i in order}
    held_out = [whole[image.numpy().tobytes()] for image in read(tmp_path / "flat", test_fraction=0.25).test.raw]
    assert held_out == [10, 11, 14, 2, 20, 24, 26, 31, 4, 6]


def test_every_class_keeps_a_training_image_and_something_is_held_out(zoo):
    mostly = read(zoo, test_fraction=0.999)
    assert mostly.train.labels.unique().tolist() == [0, 1]
    hardly = read(zoo, test_fraction=1e-9)
    assert len(hardly.test) == 1
    for path in zoo.glob("*/*.png"):
        if path.name != "00.png":
            path.unlink()
    with pytest.raises(DataError, match="too few usable images"):
        read(zoo)


def spoil(zoo: Path) -> dict[str, str]:
    """Add six bad files between the others; gives a part of each one's reason by path."""
    good = (zoo / "cat" / "00.png").read_bytes()
    (zoo / "cat" / "005.png").write_bytes(good[: len(good) // 2])
    (zoo / "cat" / "zero.jpg").write_bytes(b"")
    (zoo / "dog" / "00a.png").write_text("no image")
    frames = [Image.new("L", (4, 4), shade) for shade in (0, 99)]
    frames[0].save(zoo / "dog" / "moving.gif", save_all=True, append_images=frames[1:])
    (zoo / "dog" / "gone.png").symlink_to(zoo / "nowhere.png")
    (zoo / "beside.png").write_bytes(good)
    return {
        "beside.png": "no class",
        "cat/005.png": "damaged",
        "cat/zero.jpg": "zero bytes",
        "dog/00a.png": "not an image",
        "dog/gone.png": "cannot be reached",
        "dog/moving.gif": "animated, 2 frames",
    }


def test_bad_files_end_the_scan_by_default_and_are_all_named(zoo):
    expected = spoil(zoo)
    with pytest.raises(DataError) as caught:
        read(zoo)
    for path, reason in expected.items():
        line = next(line for line in str(caught.value).splitlines() if line.strip().startswith(f"{path}: "))
        assert reason in line
    assert "6 of 30 files" in caught.value.what
    assert "data.on_bad_file=skip" in caught.value.fix


def test_skipping_counts_bad_files_and_changes_nothing_else(zoo):
    sound = read(zoo)
    expected = spoil(zoo)
    skipped = read(zoo, on_bad_file="skip")
    assert [file.path for file in skipped.report.skipped] == sorted(expected)
    assert all(expected[file.path] in file.reason for file in skipped.report.skipped)
    assert (skipped.train.identity, skipped.test.identity) == (sound.train.identity, sound.test.identity)
    again = read(zoo, on_bad_file="skip")
    assert again.report == skipped.report
    with pytest.raises(DataError, match="6 of 30"):
        read(zoo)


def test_an_error_names_ten_files_and_counts_the_rest(zoo):
    for i in range(13):
        (zoo / "cat" / f"bad{i:02}.png").write_text("x")
    with pytest.raises(DataError, match="and 3 more") as caught:
        read(zoo)
    assert str(caught.value).count("not an image") == 10


def test_a_class_without_a_usable_image_is_an_error_even_when_skipping(zoo):
    (zoo / "eel").mkdir()
    (zoo / "eel" / "only.png").write_text("x")
    with pytest.raises(DataError, match="no usable image in eel"):
        read(zoo, on_bad_file="skip")


def test_hidden_files_and_text_are_ignored_by_name(zoo):
    for name in (".DS_Store", "Thumbs.db", "README.md", "cat/00.txt", ".git/config"):
        (zoo / name).parent.mkdir(exist_ok=True)
        (zoo / name).write_text("x")
    split = read(zoo)
    assert sorted(split.report.ignored) == [".DS_Store", ".git", "README.md", "Thumbs.db", "cat/00.txt"]
    assert split.report.read == 24


def test_linked_folders_are_read_and_loops_end(zoo, tmp_path):
    paint(tmp_path / "elsewhere" / "a.png", 5)
    (zoo / "linked").symlink_to(tmp_path / "elsewhere")
    (zoo / "cat" / "loop").symlink_to(zoo)
    split = read(zoo)
    assert split.train.class_names == ("cat", "dog", "linked")
    assert any("loop" in name for name in split.report.ignored)
    assert split.report.read == 25


def test_names_that_are_no_text_are_kept_apart_and_shown(zoo):
    odd = os.fsencode(zoo) + b"/cat/\xff\xfe.png"
    shutil.copy(zoo / "cat" / "00.png", odd)
    split = read(zoo)
    assert split.report.read == 25
    with open(odd, "wb"):
        pass
    with pytest.raises(DataError, match="zero bytes") as caught:
        read(zoo)
    str(caught.value).encode()


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files decoded since the last look."""
    names = []
    real = folder_module.decode

    def spy(path, channels):
        names.append(path.name)
        return real(path, channels)

    monkeypatch.setattr(folder_module, "decode", spy)
    return names


def test_the_cache_is_used_and_lies_outside_the_data(zoo, home, decoded):
    before = sorted(zoo.rglob("*"))
    first = read(zoo)
    assert len(decoded) == 24
    second = read(zoo)
    assert len(decoded) == 24
    assert first.report.cache == second.report.cache
    assert first.report.cache.parent == home / "cache"
    assert (first.train.identity, first.test.identity) == (second.train.identity, second.test.identity)
    assert sorted(zoo.rglob("*")) == before


@pytest.mark.parametrize("change", ["content", "size", "name", "removed", "channels", "pixels"])
def test_any_change_makes_a_new_cache(zoo, decoded, change):
    read(zoo)
    decoded.clear()
    file = zoo / "cat" / "03.png"
    if change == "content":
        data = bytearray(file.read_bytes())
        status = file.stat()
        file.write_bytes(paint(zoo.parent / "other.png", 5).read_bytes()[: len(data)].ljust(len(data), b"\0"))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "size":
        file.write_bytes(file.read_bytes() + b"tail")
    elif change == "name":
        file.rename(zoo / "cat" / "3.png")
    elif change == "removed":
        file.unlink()
    read(zoo, on_bad_file="skip", **{"channels": {"channels": 1}, "pixels": {"size": 16}}.get(change, {}))
    assert len(decoded) == 23 + (change != "removed")


@pytest.mark.parametrize("place", [0.01, 0.1, 0.5, 0.999])
def test_a_damaged_cache_is_made_again(zoo, decoded, place):
    sound = read(zoo)
    data = bytearray(sound.report.cache.read_bytes())
    data[int(place * len(data))] ^= 4
    sound.report.cache.write_bytes(data)
    assert read(zoo).train.identity == sound.train.identity
    assert len(decoded) == 48
    sound.report.cache.write_bytes(data[: len(data) // 2])
    assert read(zoo).test.identity == sound.test.identity
    assert len(decoded) == 72


def test_a_cache_that_cannot_be_written_is_done_without(zoo, home):
    (home / "cache").write_text("in the way")
    split = read(zoo)
    assert split.report.cache is None
    assert len(split.train) + len(split.test) == 24


def test_no_cache_is_kept_inside_the_data_folder(zoo, monkeypatch):
    monkeypatch.delenv("ORNSTEIN_HOME")
    monkeypatch.chdir(zoo)
    assert read(Path()).report.cache is None
    assert not (zoo / ".ornstein").exists()
    monkeypatch.chdir(zoo.parent)
    assert read(zoo).report.cache.parent.resolve() == zoo.parent / ".ornstein" / "cache"


@pytest.mark.parametrize("path", ["nowhere", "file", "empty"])
def test_folders_without_images_are_named(tmp_path, path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=path):
        read(tmp_path / path)


@pytest.mark.parametrize(
    "change", [{"size": 0}, {"size": 5000}, {"channels": 2}, {"on_bad_file": "ignore"}, {"test_fraction": 0.0}, {"test_fraction": 1.0}]
)
def test_impossible_settings_are_refused(zoo, change):
    with pytest.raises(UsageError, match=next(iter(change))):
        read(zoo, **change)


def test_kinds_of_files_meet_in_one_folder(tmp_path):
    """Every convertible kind beside each other: the run gets 8-bit pixels of one shape, in the names' order."""
    rng = np.random.default_rng(1)
    path = tmp_path / "mixed"
    path.mkdir()
    grey = rng.integers(0, 256, (9, 12), dtype=np.uint8)
    Image.fromarray(grey).save(path / "a.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(path / "b.png")
    Image.fromarray(np.stack([255 - grey] * 3 + [grey * 0], 2), "CMYK").save(path / "c.tif")
    Image.fromarray(np.stack([grey, grey, grey, grey * 0 + 255], 2)).save(path / "d.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(np.rot90(grey, 2)).save(path / "e.png", exif=exif)
    split = read(path, size=9)
    raw = torch.cat([split.train.raw, split.test.raw])
    assert raw.shape == (5, 3, 9, 9)
    assert (raw.numpy() == raw[0].numpy()).all()
