# SPDX-License-Identifier: Apache-2.0
"""IDX files: sound ones in every form, and hostile ones that may only ever be a DataError."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ornstein.base.errors import DataError, UsageError
from ornstein.data import load
from ornstein.data.idx import read
from ornstein.data.resize import framed


def packed(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_set(folder: Path, rng: np.random.Generator, *, sizes=(12, 7), shape=(28, 28), mark="-", zipped=False) -> dict[str, np.ndarray]:
    arrays = {}
    for part, n in zip(("train", "t10k"), sizes, strict=True):
        arrays[f"{part}-images{mark}idx3-ubyte"] = rng.integers(0, 256, (n, *shape))
        arrays[f"{part}-labels{mark}idx1-ubyte"] = np.arange(n) % 5
    for name, array in arrays.items():
        data = packed(array)
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(data) if zipped else data)
    return arrays


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("mark", ["-", "."])
def test_plain_and_gzip_files_are_read(tmp_path, zipped, mark):
    arrays = write_set(tmp_path, np.random.default_rng(0), mark=mark, zipped=zipped)
    split = load.idx(str(tmp_path))
    assert (split.train.raw[:, 0].numpy() == arrays[f"train-images{mark}idx3-ubyte"]).all()
    assert (split.test.raw[:, 0].numpy() == arrays[f"t10k-images{mark}idx3-ubyte"]).all()
    assert split.train.labels.tolist() == [i % 5 for i in range(12)]
    assert split.train.class_names == split.test.class_names == tuple("01234")
    assert split.report.read == 4


def test_class_names_beside_the_files(tmp_path):
    write_set(tmp_path, np.random.default_rng(0))
    (tmp_path / "classes.txt").write_text("T-shirt/top\nTrouser\n\nPullover\nDress\nCoat\n")
    assert load.idx(str(tmp_path)).train.class_names == ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
    (tmp_path / "classes.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="names 2 classes"):
        load.idx(str(tmp_path))
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"classes\.txt"):
        load.idx(str(tmp_path))


def test_sizes_are_reached_by_border_or_shrinking(tmp_path):
    arrays = write_set(tmp_path, np.random.default_rng(0), shape=(20, 28))
    bordered = load.idx(str(tmp_path), 32).train.raw
    assert (bordered[:, 0, 6:26, 2:30].numpy() == arrays["train-images-idx3-ubyte"]).all()
    assert bordered.long().sum() == arrays["train-images-idx3-ubyte"].sum()
    assert load.idx(str(tmp_path), 14).train.raw.shape == (12, 1, 14, 14)
    with pytest.raises(UsageError):
        load.idx(str(tmp_path), 2)


def test_shrinking_keeps_flat_parts_and_mean():
    images = torch.zeros(3, 1, 28, 28, dtype=torch.uint8)
    images[1], images[2, :, 8:20, 8:20] = 255, 200
    small = framed(images, 14)
    assert small[1].unique().tolist() == [255]
    assert small[2, 0, 5:9, 5:9].unique().tolist() == [200]
    stripes = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    stripes[..., ::4] = 200
    assert (framed(stripes, 7)[..., 1:-1].float() - 50).abs().max() < 10, "no pixel is passed over"
    assert small[2].float().mean() == pytest.approx(images[2].float().mean().item(), rel=0.01)


BAD = {
    "empty": b"",
    "short magic": b"\0\0\x08",
    "wrong magic": b"PNG!" + bytes(40),
    "labels where images are expected": packed(np.zeros(3)),
    "signed bytes": b"\0\0\x09\x03" + struct.pack(">III", 1, 2, 2) + bytes(4),
    "cut header": b"\0\0\x08\x03" + struct.pack(">II", 1, 2),
    "cut data": packed(np.zeros((3, 4, 4)))[:-1],
    "bytes too many": packed(np.zeros((3, 4, 4))) + b"x",
    "no images": packed(np.zeros((0, 4, 4))),
    "no rows": packed(np.zeros((3, 0, 4))),
    "sizes of 2^96 bytes": b"\0\0\x08\x03" + b"\xff" * 12 + bytes(64),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("fault", BAD)
def test_faulty_files_are_named(tmp_path, fault, zipped):
    path = tmp_path / ("images.gz" if zipped else "images")
    path.write_bytes(gzip.compress(BAD[fault]) if zipped else BAD[fault])
    with pytest.raises(DataError) as caught:
        read(path, 3)
    assert str(path) in caught.value.what
    assert caught.value.path == path


@pytest.mark.parametrize("cut", [0, 5, 12, 30, -9, -4, -1])
def test_cut_gzip_files_are_named(tmp_path, cut):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(packed(np.random.default_rng(0).integers(0, 256, (3, 8, 8))))[:cut])
    with pytest.raises(DataError, match=r"images\.gz"):
        read(path, 3)


def test_a_flipped_byte_in_a_gzip_file_is_found_or_harmless(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (2, 6, 6))
    data = gzip.compress(packed(array))
    path = tmp_path / "images.gz"
    found = 0
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :])
        try:
            assert (read(path, 3) == array).all()
        except DataError:
            found += 1
    assert found >= len(data) - 10, "only the time, the system and flags of the gzip header may change"


def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_says(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(packed(np.zeros((2, 4, 4))) + bytes(64 << 20)))
    tracemalloc.start()
    with pytest.raises(DataError, match="has more"):
        read(path, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_header_that_claims_more_than_the_file_can_hold_reserves_nothing(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 60000, 1000, 1000) + bytes(1000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="cannot hold"):
        read(path, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_missing_and_mismatched_files_are_named(tmp_path):
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load.idx(str(tmp_path / "nowhere"))
    write_set(tmp_path, np.random.default_rng(0))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(packed(np.zeros(6)))
    with pytest.raises(DataError, match="7 t10k images and 6 t10k labels"):
        load.idx(str(tmp_path))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        load.idx(str(tmp_path))


SOUND = packed(np.arange(2 * 3 * 4).reshape(2, 3, 4))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.one_of(st.binary(max_size=40), st.integers(0, len(SOUND)).map(lambda cut: SOUND[:cut])),
    tail=st.binary(max_size=40),
    dimensions=st.sampled_from([1, 3]),
    form=st.sampled_from(["plain", "gzip", "gzip by name only"]),
)
def test_any_bytes_give_an_array_of_the_stated_shape_or_a_data_error(tmp_path, start, tail, dimensions, form):
    data = start + tail
    path = tmp_path / ("file" if form == "plain" else "file.gz")
    path.write_bytes(gzip.compress(data) if form == "gzip" else data)
    try:
        array = read(path, dimensions)
    except DataError:
        return
    assert form != "gzip by name only"
    assert packed(array) == data
