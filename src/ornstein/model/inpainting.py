# SPDX-License-Identifier: Apache-2.0
r"""Filling in by replacement: where the clean data is known, the estimate says so.

    x_0 <- known where it is known, the denoiser's answer elsewhere

The known part then walks back along x_s = alpha_s known + sigma_s eps on its own: under a deterministic rule with the noise
it started from, under an ancestral one along the exact posterior chain. This is the replacement of Song et al. 2021 (arXiv
2011.13456, appendix I.2) for every solver at once. What is filled in sees the known part only through x_t, so the law is not
exactly the conditional one; walking the same stretch several times brings them together (RePaint: Lugmayr et al. 2022,
arXiv 2201.09865), by a plan with renoise nodes.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.estimate import Gaussian
from ornstein.process.level import Level


class Replaced(Denoiser):
    """A denoiser that knows part of the clean data.

    Args:
        denoiser: guided or not.
        clean: the clean data of one sample, without batch; read only where it is known.
        known: True where it is known, of a shape that broadcasts to one sample.
    """

    def __init__(self, denoiser: Denoiser, clean: Tensor, known: Bool[Tensor, "..."]) -> None:
        self.denoiser, self.clean, self.known, self.process = denoiser, clean, known, denoiser.process
        self.flow_map = denoiser.flow_map

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """The estimate with what is known put in; see `Denoiser`."""
        estimate: Gaussian = self.denoiser(x, level, cond, towards)
        return estimate._replace(x0=torch.where(self.known.to(x.device), self.clean.to(x), estimate.x0))
