# SPDX-License-Identifier: Apache-2.0
"""Bring stored images of one shape to a square of the asked size."""

from __future__ import annotations

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate, pad

_PIECE = 4096  # images shrunk at once


def framed(images: UInt8[Tensor, "n c h w"], size: int) -> UInt8[Tensor, "n c size size"]:
    """Images centred in a square: a black border where they are smaller than `size`, area-weighted shrinking where larger."""
    height, width = images.shape[2:]
    side = max(height, width, size)
    down, across = side - height, side - width
    square = pad(images, (across // 2, across - across // 2, down // 2, down - down // 2)) if down or across else images
    if side == size:
        return square
    pieces = (interpolate(piece.float(), size=(size, size), mode="bilinear", antialias=True) for piece in torch.split(square, _PIECE))
    return torch.cat([piece.round().clamp(0, 255).to(torch.uint8) for piece in pieces])
