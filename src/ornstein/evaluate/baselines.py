# SPDX-License-Identifier: Apache-2.0
"""Generators that are no generators, measured beside the model: what a figure is worth that they reach too.

`class_gaussians` knows only means and covariances; `noisy_copies` are good in every distance and new in nothing, which
the memorisation check must tell.
"""

from __future__ import annotations

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from ornstein.base.keys import generator_of
from ornstein.evaluate.pixels import pooled

SHRINKAGE = 0.01


def class_gaussians(
    images: UInt8[Tensor, "n c h w"], labels: Int[Tensor, " n"], wanted: Int[Tensor, " m"], seed: int, grid: int = 8
) -> UInt8[Tensor, "m c h w"]:
    """Images of the classes `wanted`, each drawn from a Gaussian fitted to the grid means of that class.

    The covariance S is full, shrunk to (1 - s) S + s (tr S / dim) I with s = SHRINKAGE, so that few images per class suffice. Draws are cut
    to the pixel range and enlarged to the size of the images by repeating pixels. Data without classes pass zeros.
    A class of one image repeats it.
    """
    pixels, (channels, height, width) = pooled(images, grid), images.shape[1:]
    noise = torch.randn(len(wanted), pixels.shape[1], dtype=torch.float64, generator=generator_of(seed, "class gaussians"))
    drawn = torch.empty_like(noise)
    for name in torch.unique(wanted):
        members, places = pixels[labels == name], wanted == name
        covariance = torch.cov(members.T, correction=min(1, len(members) - 1))
        values, vectors = torch.linalg.eigh((1 - SHRINKAGE) * covariance)
        root = vectors * (values.clamp_min(0) + SHRINKAGE * covariance.trace() / len(covariance)).sqrt()
        drawn[places] = members.mean(0) + noise[places] @ root.T
    small = drawn.mul(255).round().clamp(0, 255).view(-1, channels, min(height, grid), min(width, grid))
    return interpolate(small, (height, width), mode="nearest").to(torch.uint8)


def noisy_copies(images: UInt8[Tensor, "n c h w"], seed: int, amount: float = 0.05) -> UInt8[Tensor, "n c h w"]:
    """The images with Gaussian noise of standard deviation `amount` (of the pixel range) on every pixel, cut to the range."""
    noise = torch.randn(images.shape, generator=generator_of(seed, "noisy copies"))
    return (images + 255 * amount * noise).round().clamp(0, 255).to(torch.uint8)
