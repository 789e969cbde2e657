# SPDX-License-Identifier: Apache-2.0
"""Pictures of samples: a grid, a strip of film that shows them come out of the noise, and PNG files that say how they were made.

Images are uint8 arrays `(n, height, width)` or `(n, height, width, channels)` with 1 or 3 channels. They are enlarged
by whole numbers without smoothing, as a picture of 16 pixels is otherwise a blur on a screen. A film strip shrinks what is larger than a
frame of 64 pixels.

A PNG file carries two `tEXt` chunks: `ornstein`, a JSON object of everything known about the picture, and
`parameters`, the one line of `Name: value` pairs that image browsers for generated pictures read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ornstein.base.errors import DataError
from ornstein.base.files import write_bytes

Images = NDArray[np.uint8]

PAPER, INK, MUTED = 255, 26, 105  # grey levels of background, text and lesser text
MARGIN, GAP = 12, 2
_SMALL, _LARGE = 14, 16  # font sizes in pixels
_FRAME = 64  # longer side of a frame of film in pixels, at most

_LINE = {
    "steps": "Steps",
    "solver": "Sampler",
    "plan": "Schedule type",
    "guidance": "CFG scale",
    "seed": "Seed",
    "size": "Size",
    "model_hash": "Model hash",
    "model": "Model",
    "label": "Class",
    "version": "Version",
}


def enlargement(side: int, wanted: int = 64) -> int:
    """The whole number that brings an image of `side` pixels closest to `wanted` from below; at least 1."""
    return max(1, wanted // side)


def grid(images: Images, columns: int, scale: int, headings: Sequence[str] = (), margin: int = MARGIN) -> Image.Image:
    """Images in rows of `columns`, each enlarged `scale` times, with headings (if any) over the columns.

    One image with scale 1 and margin 0 comes back as it is, pixel for pixel. Raises ValueError for no images, a shape or
    type that is not of images, or headings that are not one per column.
    """
    images = _checked(images)
    if columns < 1 or scale < 1 or (headings and len(headings) != columns):
        raise ValueError("columns and scale must be at least 1, and headings, where given, one per column.")
    cells = _enlarged(images, scale)
    top = margin + (_LARGE + 8 if headings else 0)
    rows = -(-len(cells) // columns)
    height, width = cells.shape[1:3]
    canvas = _canvas(cells, top + rows * (height + GAP) - GAP + margin, 2 * margin + columns * (width + GAP) - GAP)
    _paste(canvas, cells, columns, margin, top)
    for column, heading in enumerate(headings):
        _centred(canvas, heading, margin + column * (width + GAP) + width / 2, top - 8, _LARGE, width)
    return canvas


def film(x: Images, x0: Images, times: Sequence[float], columns: int = 12) -> Image.Image:
    """A film strip of k samples: rows of x_t over rows of the estimate of x_0, one column per move, t under each column.

    Args:
        x: `(moves, k, height, width[, channels])`, the samples on their way, the noisiest first.
        x0: the estimates of clean data made at those points, same shape.
        times: t of each move, in [0, 1].
        columns: of more moves than this an evenly spaced choice is shown, the first and last among them.

    Raises ValueError for shapes that do not agree.
    """
    if x.shape != x0.shape or x.ndim not in (4, 5) or len(times) != len(x) or columns < 2:
        raise ValueError(
            "x and x0 must have one shape (moves, k, height, width[, channels]), with one time per move and at least 2 columns."
        )
    shown = np.unique(np.linspace(0, len(x) - 1, min(columns, len(x))).round().astype(int))
    count = x.shape[1]
    blocks = [_framed(_checked(part[shown].swapaxes(0, 1).reshape(-1, *part.shape[2:]))) for part in (x, x0)]
    height, width = blocks[0].shape[1:3]
    block, title = count * (height + GAP) - GAP, _LARGE + 10
    bottom = MARGIN + 2 * (title + block) + MARGIN
    canvas = _canvas(blocks[0], bottom + _SMALL + MARGIN + 4, 2 * MARGIN + len(shown) * (width + GAP) - GAP)
    captions = (("x", "t", "on its way"), ("x", "0", "as the network estimates it"))
    for row, (cells, caption) in enumerate(zip(blocks, captions, strict=True)):
        top = MARGIN + row * (title + block + MARGIN)
        _caption(canvas, *caption, top + title - 9)
        _paste(canvas, cells, len(shown), MARGIN, top + title)
    for column, move in enumerate(shown):
        middle = MARGIN + column * (width + GAP) + width / 2
        _centred(canvas, f"{'t = ' if column == 0 else ''}{times[move]:.2f}", middle, bottom + _SMALL + 4, _SMALL, width + GAP)
    return canvas


def parameters_line(metadata: Mapping[str, Any]) -> str:
    """`Steps: 10, Sampler: dpm++2m, CFG scale: 2.0, ...` from those keys of `metadata` that are known and not None.

    Known are steps, solver, plan, guidance, seed, size ("WIDTHxHEIGHT"), model_hash, model, label and version.
    A value with a comma, colon, quote or control character in it is written as a JSON string.
    """
    return ", ".join(f"{name}: {_quoted(str(metadata[key]))}" for key, name in _LINE.items() if metadata.get(key) is not None)


def save_png(path: Path, image: Image.Image, metadata: Mapping[str, Any]) -> None:
    """Write a PNG with its metadata, atomically; equal input gives equal bytes. Raises StorageError; ValueError for NaN in `metadata`."""
    write_bytes(path, png_bytes(image, metadata))


def png_bytes(image: Image.Image, metadata: Mapping[str, Any]) -> bytes:
    """The file that `save_png` writes."""
    text = PngInfo()
    text.add_text("ornstein", json.dumps(metadata, allow_nan=False))
    text.add_text("parameters", parameters_line({"size": f"{image.width}x{image.height}", **metadata}))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", pnginfo=text, optimize=False)
    return buffer.getvalue()


def read_metadata(path: Path) -> dict[str, Any]:
    """What `save_png` was given. Raises DataError for a file that is missing, no sound PNG, or not from Ornstein."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            value = json.loads(image.info["ornstein"])
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable PNG file ({error}).", "Give a picture that Ornstein wrote.", path) from error
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path} does not say how it was made.", "Give a picture that Ornstein wrote and no other program has saved since.", path
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"{path} does not say how it was made.", "Give a picture that Ornstein wrote and no other program has saved since.", path
        )
    return value


def _checked(images: Images) -> Images:
    """`(n, height, width)` or `(n, height, width, 3)`."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size or (images.ndim == 4 and images.shape[3] != 3):
        raise ValueError(f"Images must be uint8 (n, height, width[, 1 or 3]) and not empty, not {images.dtype} {images.shape}.")
    return images


def _enlarged(images: Images, scale: int) -> Images:
    return images.repeat(scale, axis=1).repeat(scale, axis=2)


def _framed(images: Images) -> Images:
    """Images whose longer side is a frame's, or the next below that whole enlargement gives."""
    height, width = images.shape[1:3]
    side = max(height, width)
    if side <= _FRAME:
        return _enlarged(images, enlargement(side, _FRAME))
    size = (max(1, round(width * _FRAME / side)), max(1, round(height * _FRAME / side)))
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in images])


def _canvas(cells: Images, height: int, width: int) -> Image.Image:
    """White paper, grey or in colour as the images are."""
    return Image.fromarray(np.full((height, width, *cells.shape[3:]), PAPER, np.uint8))


def _paste(canvas: Image.Image, cells: Images, columns: int, left: int, top: int) -> None:
    height, width = cells.shape[1:3]
    for i, cell in enumerate(cells):
        row, column = divmod(i, columns)
        canvas.paste(Image.fromarray(cell), (left + column * (width + GAP), top + row * (height + GAP)))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _tone(canvas: Image.Image, grey: int) -> int | tuple[int, int, int]:
    return grey if canvas.mode == "L" else (grey, grey, grey)


def _centred(canvas: Image.Image, text: str, middle: float, baseline: int, size: int, room: int) -> None:
    """Text around `middle`, made smaller and then cut until it fits into `room` pixels."""
    draw = ImageDraw.Draw(canvas)
    while size > 9 and draw.textlength(text, _font(size)) > room:
        size -= 1
    while len(text) > 1 and draw.textlength(text, _font(size)) > room:
        text = text[:-2] + "…"
    draw.text((middle, baseline), text, fill=_tone(canvas, INK), font=_font(size), anchor="ms")


def _caption(canvas: Image.Image, symbol: str, index: str, words: str, baseline: int) -> None:
    """A symbol with an index, and what it stands for."""
    draw = ImageDraw.Draw(canvas)
    x = float(MARGIN)
    for text, size, drop, grey in ((symbol, _LARGE, 0, INK), (index, 11, 4, INK), (words, _SMALL, 0, MUTED)):
        draw.text((x, baseline + drop), text, fill=_tone(canvas, grey), font=_font(size), anchor="ls")
        x += draw.textlength(text, _font(size)) + (1 if text == symbol else 8)


def _quoted(text: str) -> str:
    plain = text.isprintable() and not set(text) & set(',:"') and text == text.strip()
    return text if plain else json.dumps(text)
