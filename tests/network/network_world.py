# SPDX-License-Identifier: Apache-2.0
"""Small networks with no parameter at its zero start, and a condition record, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ornstein.network.unet import UNet

CLASSES = 4


@dataclass(frozen=True)
class Given:
    label: Tensor | None = None
    vector: Tensor | None = None


def shaken(build: Callable[[], nn.Module]) -> nn.Module:
    """The network, the same at every call, with all parameters moved off their start, so that no branch is silent."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = build()
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return network


def small_unet(**changes: object) -> UNet:
    settings = {"channels": (16, 32), "blocks": 1, "head_width": 8, "groups": 8, "classes": CLASSES, **changes}
    network = shaken(lambda: UNet(3, 3, **settings))
    assert isinstance(network, UNet)
    return network


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def levels(batch: int, seed: int = 2) -> Tensor:
    return torch.rand(batch, 1, generator=torch.Generator().manual_seed(seed))


def labels(batch: int) -> Given:
    return Given(torch.arange(batch) % CLASSES)
