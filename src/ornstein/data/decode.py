# SPDX-License-Identifier: Apache-2.0
"""One image file as pixels, or the reason why not. Every kind of file has one stated fate:

| file | what happens |
|---|---|
| PNG, JPEG, WebP, BMP, GIF, TIFF, PPM/PGM, told by content and not by name | decoded |
| zero bytes; another format or no image (nothing else is tried, so no PostScript is run); not a regular file | bad |
| truncated, or anything else the decoder stumbles over | bad |
| several frames or pages (GIF, WebP, APNG, TIFF) | bad: "animated, N frames", "N pages" |
| several pictures in a camera's JPEG (MPO) | the first, which is the photograph |
| more than 2^26 pixels, by the size in its header (a decompression bomb) | bad, refused before any pixel is decoded |
| EXIF orientation | turned upright |
| CMYK, YCbCr, Lab, palette, bilevel | converted to RGB; embedded colour profiles are not applied |
| 16-bit grey | value / 257, rounded to 8 bits |
| 16-bit colour | high byte (at most one level from value / 257) |
| 32-bit integer grey | as 16-bit grey where every value fits, else bad |
| floating point, 16-bit grey with a transparent value | bad: no agreed conversion to 8 bits |
| transparency (alpha channel, transparent colour) | laid over white |
| colour where one channel is asked for | luma, ITU-R BT.601 |
| grey where three channels are asked for | repeated |
| not square | centre square |
| larger or smaller than the asked size | Lanczos resampling, after all of the above |

A JPEG whose inside is damaged but whose length is right decodes with visible faults: the format holds no checksum.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 1 << 26
_THREADS = 4

T = TypeVar("T")
R = TypeVar("R")


class BadImage(Exception):  # noqa: N818 - caught inside this room, never shown as an error
    """Why a file cannot be used, as half a sentence."""


class Picture(NamedTuple):
    """An upright 8-bit image (mode "L" or "RGB"), and the mode in which the file holds it."""

    image: Image.Image
    stored_mode: str


def decode(path: Path, channels: int) -> Picture:
    """The whole picture in a file at its own size, with 1 or 3 channels. Raises BadImage, and nothing else."""
    try:
        return _decode(path, channels)
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage(f"more than {MAX_PIXELS} pixels, refused before decoding") from error
    except UnidentifiedImageError as error:
        raise BadImage(f"not an image in a known format ({', '.join(FORMATS)}), or damaged where it begins") from error
    except Exception as error:  # a decoder fed hostile bytes may raise anything; each is this file's fault, not the run's
        raise BadImage(f"damaged or unreadable ({_one_line(error)})") from error


def framed(image: Image.Image, size: int) -> np.ndarray:
    """The centre square at a size in pixels, uint8 `(channels, size, size)`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    pixels = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side)))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def in_parallel(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in the items' order, on a few threads (decoders release the interpreter), without Pillow's warnings."""
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as pool:
        warnings.simplefilter("ignore")
        yield from pool.map(work, items)


def _decode(path: Path, channels: int) -> Picture:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BadImage("not a regular file")
    if status.st_size == 0:
        raise BadImage("zero bytes")
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise BadImage(f"{image.width} x {image.height} is more than {MAX_PIXELS} pixels, refused before decoding")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise BadImage(f"{frames} pages" if image.format == "TIFF" else f"animated, {frames} frames")
        stored_mode = image.mode
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return Picture(_converted(image, "RGB" if channels == 3 else "L"), stored_mode)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.new("RGB", above.size, "white")
        image.paste(above, mask=above.getchannel("A"))
    return image.convert("RGB").convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or "transparency" in image.info or values.min() < 0 or values.max() > 65535:
        raise BadImage(f"pixels of mode {image.mode} have no agreed conversion to 8 bits")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]
