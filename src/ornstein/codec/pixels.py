# SPDX-License-Identifier: Apache-2.0
"""Codecs without parameters: how raw data becomes x_0 and comes back.

A codec maps raw data to the model's range and is the only place that knows that range. Images are uint8 outside and
float32 in [-1, 1] inside; coordinates are float32 on both sides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, UInt8
from torch import Tensor


class Codec(ABC):
    """raw <-> x_0."""

    @abstractmethod
    def encode(self, raw: Tensor) -> Tensor:
        """x_0 of raw data, float32 `(batch, ...)`."""

    @abstractmethod
    def decode(self, x0: Tensor) -> Tensor:
        """Raw data of x_0, on the CPU."""


class Pixels(Codec):
    """uint8 images 0..255 <-> [-1, 1]; decoding rounds to the nearest level and cuts what lies outside."""

    def encode(self, raw: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """raw / 127.5 - 1."""
        return raw.to(torch.float32) / 127.5 - 1.0

    def decode(self, x0: Float[Tensor, "batch channels height width"]) -> UInt8[Tensor, "batch channels height width"]:
        """The inverse of `encode`."""
        return ((x0.detach().cpu().float() + 1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8)


class Coordinates(Codec):
    """Points, as they are."""

    def encode(self, raw: Tensor) -> Tensor:
        """The coordinates as float32."""
        return raw.to(torch.float32)

    def decode(self, x0: Tensor) -> Tensor:
        """The coordinates as float32 on the CPU."""
        return x0.detach().cpu().float()
