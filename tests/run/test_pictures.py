# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ornstein.base.errors import DataError
from ornstein.run.pictures import GAP, MARGIN, PAPER, enlargement, film, grid, parameters_line, png_bytes, read_metadata, save_png

RNG = np.random.default_rng(5)


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 255, shape, dtype=np.uint8)


@pytest.mark.parametrize("colour", [(), (3,)])
def test_each_image_of_a_grid_is_enlarged_without_smoothing_in_its_own_cell(colour: tuple[int, ...]) -> None:
    images, scale, columns = noise(5, 4, 6, *colour), 3, 2
    canvas = np.asarray(grid(images, columns, scale))
    seen = np.zeros(canvas.shape[:2], bool)
    for i, image in enumerate(images):
        top, left = MARGIN + i // columns * (12 + GAP), MARGIN + i % columns * (18 + GAP)
        assert (canvas[top : top + 12, left : left + 18] == np.kron(image, np.ones((scale, scale, *[1] * len(colour)), np.uint8))).all()
        seen[top : top + 12, left : left + 18] = True
    assert (canvas[~seen] == PAPER).all()
    assert canvas.shape[:2] == (2 * MARGIN + 3 * 12 + 2 * GAP, 2 * MARGIN + 2 * 18 + GAP)


def test_one_image_at_scale_1_without_margin_comes_back_as_it_is() -> None:
    image = noise(1, 5, 7, 3)
    assert (np.asarray(grid(image, 1, 1, margin=0)) == image[0]).all()


def test_one_channel_is_the_same_as_none() -> None:
    images = noise(3, 4, 4)
    assert grid(images[..., None], 3, 2) == grid(images, 3, 2)


@pytest.mark.parametrize("headings", [["0", "1", "2"], ["a", "a very long name of a class", "b"]])
def test_a_heading_stands_above_its_own_column_and_nowhere_else(headings: list[str]) -> None:
    images, width = np.full((6, 4, 4), PAPER, np.uint8), 4 * 8
    plain, named = grid(images, 3, 8), grid(images, 3, 8, headings)
    extra = named.height - plain.height
    ink = np.asarray(named) < 128
    assert extra > 0
    assert not ink[MARGIN + extra :].any()
    columns = [slice(MARGIN + i * (width + GAP), MARGIN + i * (width + GAP) + width) for i in range(3)]
    middles = [np.nonzero(ink[:, column].any(0))[0][[0, -1]].mean() for column in columns]
    assert middles == pytest.approx([width / 2 - 0.5] * 3, abs=2)
    assert ink.sum() == sum(ink[:, column].sum() for column in columns)


@pytest.mark.parametrize(
    ("images", "columns", "scale", "headings"),
    [
        (np.zeros((2, 4, 4), np.float32), 2, 1, ()),
        (noise(2, 4, 4, 4), 2, 1, ()),
        (noise(4, 4), 2, 1, ()),
        (np.zeros((0, 4, 4), np.uint8), 2, 1, ()),
        (noise(2, 4, 4), 0, 1, ()),
        (noise(2, 4, 4), 2, 0, ()),
        (noise(2, 4, 4), 2, 1, ("one",)),
    ],
)
def test_what_is_no_grid_of_images_is_refused(images: Any, columns: int, scale: int, headings: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        grid(images, columns, scale, headings)


@pytest.mark.parametrize(("side", "scale"), [(8, 8), (16, 4), (28, 2), (32, 2), (64, 1), (65, 1), (512, 1)])
def test_tiny_images_are_enlarged_by_whole_numbers(side: int, scale: int) -> None:
    assert enlargement(side) == scale


def box(canvas: np.ndarray[Any, Any], colour: np.ndarray[Any, Any]) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of a colour, which must fill its box."""
    rows, columns = np.nonzero((canvas == colour).all(-1))
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    assert len(rows) == (bottom - top) * (right - left)
    return int(top), int(left), int(bottom), int(right)


def flat(moves: int, k: int, red: int) -> np.ndarray[Any, Any]:
    """Images of one colour each, none of them grey: the red says which film, green which move, blue which sample."""
    x = np.empty((moves, k, 8, 8, 3), np.uint8)
    x[..., 0] = red
    x[..., 1] = np.arange(moves)[:, None, None, None] * 3
    x[..., 2] = np.arange(k)[None, :, None, None] * 5
    return x


def test_a_film_has_moves_from_left_to_right_and_the_samples_above_their_estimates() -> None:
    x, x0 = flat(4, 3, 200), flat(4, 3, 220)
    canvas = np.asarray(film(x, x0, [1.0, 0.7, 0.4, 0.1]))
    boxes = np.array([[[box(canvas, part[move, i, 0, 0]) for i in range(3)] for move in range(4)] for part in (x, x0)])
    top, left, bottom, right = np.moveaxis(boxes, -1, 0)
    assert (bottom - top == 64).all()
    assert (right - left == 64).all()
    assert (left == left[:1, :, :1]).all()
    assert (np.diff(left[0, :, 0]) == 64 + GAP).all()
    assert (top == top[:, :1]).all()
    assert (np.diff(top, axis=2) == 64 + GAP).all()
    assert top[1].min() > bottom[0].max()


def test_a_long_film_is_thinned_out_evenly_and_keeps_its_ends() -> None:
    x, x0, times = noise(51, 2, 8, 8), noise(51, 2, 8, 8), [1 - i / 50 for i in range(51)]
    assert film(x, x0, times, columns=6) == film(x[::10], x0[::10], times[::10])
    assert film(x[:6], x0[:6], times[:6], columns=6) != film(x[::10], x0[::10], times[::10])


def test_large_images_are_shrunk_to_the_frame_of_a_film() -> None:
    small = RNG.integers(0, 255, (2, 1, 64, 48, 3), dtype=np.uint8)
    large = small.repeat(4, axis=2).repeat(4, axis=3)
    assert film(large, large, [1.0, 0.5]) == film(small, small, [1.0, 0.5])


def test_each_column_of_a_film_says_its_own_time() -> None:
    x = noise(3, 2, 8, 8)
    one, two = (np.asarray(film(x, x, times)).astype(int) for times in ([1.0, 0.5, 0.1], [1.0, 0.6, 0.1]))
    rows, columns = np.nonzero(one != two)
    assert rows.min() > one.shape[0] - 2 * MARGIN - 14
    assert columns.min() >= MARGIN + 64 + GAP - 2
    assert columns.max() < MARGIN + 2 * (64 + GAP) + 2
    assert (one[-MARGIN - 16 :, : MARGIN + 64] < 128).any()


def test_a_film_of_shapes_that_do_not_agree_is_refused() -> None:
    x = noise(3, 2, 8, 8)
    for x0, times, columns in ((x[:2], [1.0, 0.5, 0.1], 12), (x, [1.0, 0.5], 12), (x, [1.0, 0.5, 0.1], 1), (x[0], [1.0, 0.5, 0.1], 12)):
        with pytest.raises(ValueError):
            film(x if x0 is not x[0] else x0, x0, times, columns)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(metadata=st.dictionaries(st.sampled_from(["seed", "solver", "size", "label", "note"]) | st.text(max_size=8), JSON, max_size=5))
def test_metadata_come_back_whatever_they_are_and_leave_the_pixels_alone(tmp_path_factory: Any, metadata: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.png"
    image = Image.fromarray(noise(5, 7))
    save_png(path, image, metadata)
    assert read_metadata(path) == metadata
    with Image.open(path) as stored:
        assert (np.asarray(stored) == np.asarray(image)).all()


def test_both_chunks_are_text_chunks_before_the_pixels(tmp_path: Path) -> None:
    data = png_bytes(Image.fromarray(noise(4, 4)), {"seed": 7, "note": "größer ☃"})
    chunks, at = [], 8
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    kinds = [kind for kind, _ in chunks]
    texts = dict(body.split(b"\0", 1) for kind, body in chunks if kind == b"tEXt")
    assert texts.keys() == {b"ornstein", b"parameters"}
    assert kinds.index(b"IDAT") > max(i for i, kind in enumerate(kinds) if kind == b"tEXt")
    assert json.loads(texts[b"ornstein"]) == {"seed": 7, "note": "größer ☃"}
    assert texts[b"parameters"] == b"Seed: 7, Size: 4x4"


def test_equal_input_gives_equal_bytes() -> None:
    image = Image.fromarray(noise(6, 6))
    assert png_bytes(image, {"seed": 1}) == png_bytes(image.copy(), {"seed": 1}) != png_bytes(image, {"seed": 2})


def test_the_readable_line_has_the_names_that_other_programs_look_for() -> None:
    metadata = {"seed": 7, "steps": 10, "solver": "dpm++2m", "guidance": 2.0, "size": "16x16", "model_hash": "ab12", "plan": None, "x": 3}
    assert parameters_line(metadata) == "Steps: 10, Sampler: dpm++2m, CFG scale: 2.0, Seed: 7, Size: 16x16, Model hash: ab12"


def fields(line: str) -> dict[str, str]:
    """A reader of such a line: a value is a JSON string where it starts with a quote, else all up to the next comma."""
    found: dict[str, str] = {}
    while line:
        name, line = line.split(": ", 1)
        if line.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(line)
            line = line[end:]
        else:
            value, comma, rest = line.partition(",")
            line = comma + rest
        found[name], line = value, line.removeprefix(", ")
    return found


@given(model=st.text(), label=st.text(), seed=st.integers())
def test_no_value_breaks_out_of_the_readable_line(model: str, label: str, seed: int) -> None:
    line = parameters_line({"model": model, "label": label, "seed": seed, "version": "0.1.0"})
    assert fields(line) == {"Seed": str(seed), "Model": model, "Class": label, "Version": "0.1.0"}
    assert line.isprintable()


def test_a_value_that_could_be_read_otherwise_is_written_as_json() -> None:
    assert parameters_line({"model": " a", "label": "b, c: d", "version": ":"}) == 'Model: " a", Class: "b, c: d", Version: ":"'


def test_a_number_that_json_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        save_png(tmp_path / "a.png", Image.fromarray(noise(4, 4)), {"x": float("nan")})
    assert not (tmp_path / "a.png").exists()


def with_text(image: Image.Image, text: str) -> bytes:
    chunk, buffer = PngInfo(), io.BytesIO()
    chunk.add_text("ornstein", text)
    image.save(buffer, format="PNG", pnginfo=chunk)
    return buffer.getvalue()


def test_a_picture_that_does_not_say_how_it_was_made_is_named(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    image = Image.fromarray(noise(64, 64))
    image.save(tmp_path / "bare.png")
    image.save(tmp_path / "photo.jpg")
    whole = png_bytes(image, {"seed": 1})
    cut = [b"", b"text", whole[:200], whole[:-900]]
    for content in [
        None,
        *cut,
        *(with_text(image, text) for text in ("[1]", '{"a"', "1e999", "[" * 10**5)),
        *map(Path.read_bytes, tmp_path.glob("*")),
    ]:
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=r"picture\.png") as caught:
            read_metadata(path)
        assert caught.value.path == path
