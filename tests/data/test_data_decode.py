# SPDX-License-Identifier: Apache-2.0
"""The fate of every kind of image file, on files made here."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from ornstein.data.decode import BadImage, decode, framed, in_parallel

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)


def saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def pixels(tmp_path: Path):
    def run(data: bytes, channels: int = 3, name: str = "picture") -> np.ndarray:
        (tmp_path / name).write_bytes(data)
        return np.asarray(decode(tmp_path / name, channels).image)

    return run


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_give_the_pixels_back_whatever_the_name(pixels, form):
    data = saved(Image.fromarray(COLOUR), form, **({"lossless": True} if form == "WEBP" else {}))
    assert (pixels(data, name="picture.txt") == COLOUR).all()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF"])
def test_grey_is_kept_or_repeated(pixels, form):
    data = saved(Image.fromarray(GREY), form)
    assert (pixels(data, 1) == GREY).all()
    assert (pixels(data, 3) == GREY[..., None]).all()


def test_colour_to_grey_is_luma(pixels):
    grey = pixels(saved(Image.fromarray(COLOUR), "PNG"), 1)
    assert np.abs(grey - COLOUR @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


def big_endian_tiff(values: np.ndarray) -> bytes:
    """A 16-bit grey TIFF with Motorola byte order, written by hand: Pillow writes none."""
    height, width = values.shape
    data = values.astype(">u2").tobytes()
    fields = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(data)),
    ]
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1) + (struct.pack(">I", value) if kind == 4 else struct.pack(">HH", value, 0))
        for tag, kind, value in fields
    )
    return b"MM\0\x2a" + struct.pack(">I", 8 + len(data)) + data + struct.pack(">H", len(fields)) + entries + bytes(4)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "big-endian TIFF", "32-bit TIFF"])
def test_sixteen_bits_are_scaled_not_cut(pixels, form):
    if form == "big-endian TIFF":
        data = big_endian_tiff(DEEP)
    elif form == "32-bit TIFF":
        data = saved(Image.fromarray(DEEP.astype(np.int32)), "TIFF")
    else:
        data = saved(Image.fromarray(DEEP), form)
    assert (pixels(data, 1) == np.round(DEEP / 257)).all()


def test_sixteen_bit_colour_loses_at_most_one_level(pixels):
    deep = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    assert np.abs(pixels(b"\x89PNG\r\n\x1a\n" + body) - deep / 257).max() <= 1.0


def test_cmyk_becomes_rgb(pixels):
    flat = np.zeros((8, 8, 4), np.uint8)
    flat[:, :4] = (255, 0, 0, 0)
    flat[:, 4:] = (0, 0, 0, 255)
    rgb = pixels(saved(Image.fromarray(flat, "CMYK"), "TIFF"))
    assert (rgb[:, :4] == (0, 255, 255)).all()
    assert (rgb[:, 4:] == 0).all()
    jpeg = pixels(saved(Image.fromarray(flat, "CMYK"), "JPEG", quality=100))
    assert np.abs(jpeg.astype(int) - rgb).max() < 8, "inverted CMYK, as JPEG stores it, is turned back"


def test_lab_becomes_rgb(pixels):
    flat = np.full((20, 30, 3), (200, 60, 90), np.uint8)
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(Image.fromarray(flat), to_lab)
    assert np.abs(pixels(saved(lab, "TIFF")).astype(int) - flat).max() <= 3


def test_palette_bilevel_and_transparency_lie_over_white(pixels):
    alpha = RNG.integers(0, 256, (20, 30, 1), dtype=np.uint8)
    over = COLOUR * (alpha / 255) + 255 * (1 - alpha / 255)
    rgba = Image.fromarray(np.concatenate([COLOUR, alpha], 2))
    assert np.abs(pixels(saved(rgba, "PNG")) - over).max() <= 1.01
    assert (
        np.abs(
            pixels(saved(Image.fromarray(np.concatenate([GREY[..., None], alpha], 2), "LA"), "PNG"), 1)
            - (GREY[..., None] * (alpha / 255) + 255 * (1 - alpha / 255))[..., 0]
        ).max()
        <= 1.01
    )
    keyed = pixels(saved(Image.fromarray(GREY), "PNG", transparency=int(GREY[3, 4])), 1)
    assert keyed[3, 4] == 255
    others = np.not_equal(GREY, GREY[3, 4])
    assert (keyed[others] == GREY[others]).all()
    palette = Image.fromarray((GREY // 128).astype(np.uint8), "P")
    palette.putpalette([200, 0, 0, 0, 100, 0])
    expected = np.where((GREY // 128)[..., None] == 1, [0, 100, 0], [200, 0, 0])
    assert (pixels(saved(palette, "PNG")) == expected).all()
    assert (pixels(saved(palette, "GIF", transparency=1))[GREY >= 128] == 255).all()
    bits = Image.fromarray(GREY > 127)
    assert (pixels(saved(bits, "PNG"), 1) == np.where(GREY > 127, 255, 0)).all()


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 3),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_exif_orientation_is_turned_upright(pixels, form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    upright = pixels(saved(Image.fromarray(stored), form, exif=exif, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {})))
    expected = TURNS[orientation](stored)
    assert upright.shape == expected.shape
    assert np.abs(upright.astype(int) - expected).max() < 12


def frames(n: int) -> list[Image.Image]:
    return [Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(n)]


@pytest.mark.parametrize(
    ("form", "reason"), [("GIF", "animated, 3 frames"), ("PNG", "animated, 3 frames"), ("WEBP", "animated, 3 frames"), ("TIFF", "3 pages")]
)
def test_several_frames_are_bad_and_counted(pixels, form, reason):
    first, *others = frames(3)
    with pytest.raises(BadImage, match=reason):
        pixels(saved(first, form, save_all=True, append_images=others))


def test_the_first_picture_of_a_cameras_jpeg_is_the_photograph(pixels):
    first, *others = (frame.resize((24, 24)) for frame in frames(3))
    data = saved(first, "MPO", save_all=True, append_images=others, quality=100, subsampling=0)
    assert np.abs(pixels(data).astype(int) - np.asarray(first)).max() < 12


def png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = b"".join(struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, data, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("side", [30_000, 10_000, 8_193])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(pixels, side, monkeypatch):
    def decoded(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    with pytest.raises(BadImage, match="refused before decoding"):
        pixels(png_that_claims(side, side))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "zero bytes"),
        (b"not an image at all", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "not an image"),
        (b"%PDF-1.4\n", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"P6\n4 x\n255\n" + bytes(60), "damaged"),
        (saved(Image.fromarray(COLOUR), "PNG").replace(b"IDAT", b"\xff\xff\xff\xff"), "damaged"),
        (saved(Image.fromarray(DEEP.astype(np.float32)), "TIFF"), "mode F"),
        (saved(Image.fromarray(DEEP.astype(np.int32) - 70000), "TIFF"), "mode I"),
        (saved(Image.fromarray(DEEP.astype(np.int32) + 70000), "TIFF"), "mode I"),
        (saved(Image.fromarray(DEEP), "PNG", transparency=int(DEEP[0, 0])), "mode I;16"),
    ],
    ids=[
        "zero",
        "text",
        "postscript",
        "pdf",
        "signature only",
        "no number",
        "broken chunk",
        "float",
        "negative",
        "beyond 16 bits",
        "deep transparent",
    ],
)
def test_what_cannot_be_used_is_told_with_a_reason(pixels, data, reason):
    with pytest.raises(BadImage, match=reason):
        pixels(data)


def test_what_is_no_file_is_bad_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("pipe", "not a regular file"), ("", "not a regular file"), ("gone", "unreadable")):
        with pytest.raises(BadImage, match=reason):
            decode(tmp_path / name, 3)


FORMS = {form: saved(Image.fromarray(COLOUR), form) for form in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")}


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_is_bad_or_complete(pixels, form):
    data, bad = FORMS[form], 0
    whole = pixels(data)
    cuts = [*range(1, len(data), max(1, len(data) // 25)), len(data) - 2, len(data) - 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cut in cuts:
            try:
                assert (pixels(data[:cut]) == whole).all(), f"{form} cut to {cut} of {len(data)} bytes decodes to other pixels"
            except BadImage:
                bad += 1
    assert bad >= 20


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(sorted(FORMS)),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    tail=st.binary(max_size=30),
)
def test_any_bytes_decode_or_are_bad(tmp_path, form, changes, tail):
    data = bytearray(FORMS[form])
    for place, value in changes:
        data[place % len(data)] = value
    (tmp_path / "file").write_bytes(bytes(data) + tail)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            mode, reason = decode(tmp_path / "file", 3).image.mode, ""
        except BadImage as error:
            mode, reason = "", str(error)
    assert mode == "RGB" or reason
    assert "\n" not in reason


def test_framing_takes_the_centre_square_and_keeps_what_fits():
    image = Image.fromarray(COLOUR)
    assert (framed(image.crop((5, 0, 25, 20)), 20) == COLOUR[:, 5:25].transpose(2, 0, 1)).all()
    assert (framed(image, 20) == COLOUR[:, 5:25].transpose(2, 0, 1)).all()
    assert (framed(Image.fromarray(COLOUR.transpose(1, 0, 2)), 20) == COLOUR.transpose(1, 0, 2)[5:25].transpose(2, 0, 1)).all()
    flat = Image.new("L", (301, 77), 93)
    for size in (8, 200):
        assert framed(flat, size).shape == (1, size, size)
        assert (framed(flat, size) == 93).all()
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    means = ramp.reshape(16, 4, 16, 4).mean((1, 3))
    assert np.abs(framed(Image.fromarray(ramp), 16)[0] - means)[2:-2, 2:-2].max() <= 1.0


def test_work_on_threads_keeps_order():
    assert list(in_parallel(lambda i: i * i, range(500))) == [i * i for i in range(500)]
