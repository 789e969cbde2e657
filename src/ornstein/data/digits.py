# SPDX-License-Identifier: Apache-2.0
"""The embedded default: 1,797 handwritten digits of 8 x 8 cells with ink 0..16, with a split fixed for ever.

Source: the test part of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998, doi:10.24432/C50P49, CC BY 4.0 (`assets/LICENCE-digits.md`).

Larger images are a modification of ours: the smooth picture whose cell means are the original. With U bicubic
enlargement, M cell means and y the ink, x starts at U y, repeats  x <- clip(x + U(y - M x), 0, 16),  and ends with the
Euclidean projection onto {x : M x = y, 0 <= x <= 16}. That projection works cell by cell, as clip(x + s) with the shift s
at which the mean is y, found by bisection. Rounded to uint8 (255 = ink 16), every pixel moves by at most half a level
of 16/255, so the cell means still round to the ink they came from.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ornstein.data.dataset import Dataset, ScanReport, Split, require

SIDE, FULL = 8, 16.0
NAMES = tuple("0123456789")
_SMOOTHINGS, _HALVINGS = 8, 40


class Ink(NamedTuple):
    """The stored asset: ink uint8 `(1797, 8, 8)` in 0..16, labels int64 `(1797,)`, and the training images' indices."""

    ink: Tensor
    labels: Tensor
    train: Tensor


@cache
def stored() -> Ink:
    """The digits as they were published, and the split: 900 indices to train on, the other 897 to test."""
    with (files("ornstein.data") / "assets" / "digits.npz").open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
        ink, labels, train = (torch.from_numpy(arrays[name]) for name in ("ink", "labels", "train"))
    return Ink(ink, labels.to(torch.int64), train.to(torch.int64))


def split(size: int = 16) -> Split:
    """The digits at a size in pixels, a multiple of 8 up to 64, one channel. Raises UsageError for another size."""
    require(size % SIDE == 0 and SIDE <= size <= 64, "size", size, "a multiple of 8 from 8 to 64")
    ink, labels, train = stored()
    whole = Dataset(enlarged(ink, size), labels, NAMES, "image")
    held_out = torch.ones(len(labels), dtype=torch.bool)
    held_out[train] = False
    return Split(whole.select(train), whole.select(held_out.nonzero()[:, 0]), ScanReport(read=1))


def enlarged(ink: UInt8[Tensor, "n 8 8"], size: int) -> UInt8[Tensor, "n 1 size size"]:
    """Smooth images, 255 = ink 16, whose cell means round to `ink`."""
    factor, cells = size // SIDE, ink[:, None].double()
    smooth = _bicubic(cells, factor)
    for _ in range(_SMOOTHINGS):
        smooth = (smooth + _bicubic(cells - avg_pool2d(smooth, factor), factor)).clamp(0.0, FULL)
    levels = _with_means(smooth, cells, factor) * (255.0 / FULL)
    # Flat cells of odd ink end on exact halves; the small push rounds them up whatever the last bit of the sums is.
    return (levels + (0.5 + 1e-6)).floor().to(torch.uint8)


def block_means(images: Tensor) -> Float[Tensor, "n 64"]:
    """Ink of each of the 8 x 8 cells, in 0..16, not rounded.

    Args:
        images: `(n, 1, s, s)` with s a multiple of 8 and 255 = ink 16, uint8 or float.
    """
    cell = images.shape[-1] // SIDE
    return avg_pool2d(images.float(), cell).flatten(1) * (FULL / 255.0)


def _bicubic(cells: Tensor, factor: int) -> Tensor:
    return interpolate(cells, scale_factor=factor, mode="bicubic", align_corners=False) if factor > 1 else cells


def _with_means(image: Tensor, cells: Tensor, factor: int) -> Tensor:
    """The nearest images in [0, 16] whose cell means are `cells`."""
    blocks = image.unfold(2, factor, factor).unfold(3, factor, factor).contiguous()
    low, high = torch.full_like(cells, -FULL), torch.full_like(cells, FULL)
    for _ in range(_HALVINGS):
        shift = (low + high) / 2
        short = (blocks + shift[..., None, None]).clamp(0.0, FULL).mean((4, 5)) < cells
        low, high = torch.where(short, shift, low), torch.where(short, high, shift)
    fitted = (blocks + high[..., None, None]).clamp(0.0, FULL)
    return fitted.permute(0, 1, 2, 4, 3, 5).reshape(image.shape)
