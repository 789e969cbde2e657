# SPDX-License-Identifier: Apache-2.0
"""The pixel coordinates in which images are compared: means over the cells of a small fixed grid, in [0, 1]."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

PIECE = 4096  # images averaged at once


def pooled(images: UInt8[Tensor, "n c h w"], grid: int) -> Float[Tensor, "n d"]:
    """Cell means as float64 `(n, c * rows * columns)` in [0, 1], rows = min(h, grid), columns = min(w, grid).

    Where the grid does not divide the image, neighbouring cells share pixels. Equal images get equal coordinates.
    """
    rows, columns = min(images.shape[2], grid), min(images.shape[3], grid)
    parts = [adaptive_avg_pool2d(part.double() / 255, (rows, columns)).flatten(1) for part in torch.split(images, PIECE)]
    return torch.cat(parts) if parts else torch.empty(0, images.shape[1] * rows * columns, dtype=torch.float64)
