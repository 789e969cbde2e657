# SPDX-License-Identifier: Apache-2.0
"""Classifier-free guidance: a denoiser around a denoiser.

    x_0 = uncond + scale (cond - uncond)

Scale 1 is the conditional model alone, 0 the unconditional one. Ho & Salimans 2022 (arXiv 2207.12598, eq. 6) write
w = scale - 1. Because every prediction is affine in x_0 at a fixed x_t, guiding x_0, eps, v or the score is the same.
Guiding only between two noise levels costs less and keeps diversity (Kynkaanniemi et al. 2024, arXiv 2404.07724).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.estimate import Gaussian
from ornstein.process.level import Level, over


class ClassifierFree(Denoiser):
    """Guide a conditional denoiser away from its own unconditional answer; both are asked in one batched call.

    Args:
        denoiser: a denoiser trained with dropped conditions.
        scale: guidance scale, >= 0.
        interval: (low, high) times t in [0, 1] between which guidance acts; outside it the conditional answer is used
            and the network is called for it alone.
    """

    def __init__(self, denoiser: Denoiser, scale: float, interval: tuple[float, float] = (0.0, 1.0)) -> None:
        self.denoiser, self.scale, self.interval = denoiser, scale, interval
        self.process = denoiser.process

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Guided estimate; see `Denoiser`."""
        low, high = self.interval
        acts = (level.t >= low) & (level.t <= high) if isinstance(level.t, Tensor) else low <= level.t <= high
        anywhere = bool(acts.any()) if isinstance(acts, Tensor) else acts
        if cond is None or self.scale == 1.0 or not anywhere:
            alone: Gaussian = self.denoiser(x, level, cond, towards)
            return alone
        goal = None if towards is None else _twice(towards)
        told, untold = self.denoiser(torch.cat([x, x]), _twice(level), cond.concat(cond.null()), goal).x0.chunk(2)
        scale = over(acts.to(x.dtype) * (self.scale - 1.0) + 1.0, x) if isinstance(acts, Tensor) else self.scale
        return Gaussian(untold + scale * (told - untold))


def _twice(level: Level) -> Level:
    """A level for a batch that holds its samples twice; floats serve any batch."""
    return Level(*(torch.cat([value, value]) if isinstance(value, Tensor) and value.ndim else value for value in level))
