# SPDX-License-Identifier: Apache-2.0
r"""Loss weights, all in one space: the factor on the squared error of x_0, under the sampler's own measure of t.

With SNR = alpha^2/sigma^2 and R = -(1/2) d SNR/dt, the weight that makes the loss over uniform t the diffusion part of
the variational bound (Kingma et al. 2021, arXiv 2107.00630, eq. 17):

| weighting | weight on |x_0 error|^2 | source |
|---|---|---|
| simple | SNR, which is 1 on the error of eps | Ho et al. 2020, arXiv 2006.11239, eq. 14 |
| elbo | R | Kingma et al. 2021 |
| min-snr | min(SNR, gamma) | Hang et al. 2023, arXiv 2303.09556 |
| truncated-snr | max(SNR, 1) | Salimans & Ho 2022, arXiv 2202.00512, section 4 |
| p2 | SNR / (k + SNR)^gamma | Choi et al. 2022, arXiv 2204.00227, eq. 8 |
| edm | (sigma^2 + (alpha sd)^2)/(sigma sd)^2, 1 on the error of EDM's F | Karras et al. 2022, arXiv 2206.00364 |
| sigmoid | R sigmoid(bias - log SNR) | Kingma & Gao 2023, arXiv 2303.00848 |
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ornstein.process.level import Level


class Weighting(ABC):
    """Level -> factor on the squared error of x_0."""

    @abstractmethod
    def __call__(self, level: Level) -> Tensor:
        """Weight per example, float64 `(batch,)`, >= 0; `level` holds tensors with their rates."""


def _snr(level: Level) -> Tensor:
    return torch.as_tensor((level.alpha / level.sigma) ** 2)


def _bound_rate(level: Level) -> Tensor:
    """-(1/2) d SNR/dt, written without dividing by alpha so that it stays finite where alpha = 0."""
    ratio = level.alpha / level.sigma
    return torch.as_tensor(ratio * (ratio * level.sigma_rate - level.alpha_rate) / level.sigma)


class Simple(Weighting):
    """Equal weight on the error of eps at every level."""

    def __call__(self, level: Level) -> Tensor:
        """SNR."""
        return _snr(level)


class Elbo(Weighting):
    """The variational bound's own weight (for uniform t)."""

    def __call__(self, level: Level) -> Tensor:
        """-(1/2) d SNR/dt."""
        return _bound_rate(level)


class MinSnr(Weighting):
    """SNR, cut off so that nearly clean levels do not dominate.

    Args:
        gamma: the cut, > 0.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        self.gamma = gamma

    def __call__(self, level: Level) -> Tensor:
        """min(SNR, gamma)."""
        return _snr(level).clamp_max(self.gamma)


class TruncatedSnr(Weighting):
    """SNR, but never less than 1: the larger of the errors of x_0 and eps, so that noisy levels are not forgotten."""

    def __call__(self, level: Level) -> Tensor:
        """max(SNR, 1)."""
        return _snr(level).clamp_min(1.0)


class P2(Weighting):
    """Less weight on nearly clean levels, where only imperceptible detail is left to learn.

    Args:
        k: SNR from which on weight is taken away, > 0.
        gamma: how fast, >= 0; 0 is `Simple`.
    """

    def __init__(self, k: float = 1.0, gamma: float = 1.0) -> None:
        self.k, self.gamma = k, gamma

    def __call__(self, level: Level) -> Tensor:
        """SNR / (k + SNR)^gamma."""
        snr = _snr(level)
        return snr / (self.k + snr) ** self.gamma


class EdmWeight(Weighting):
    """Equal weight on the error of EDM's network output.

    Args:
        sigma_data: standard deviation of the data, > 0.
    """

    def __init__(self, sigma_data: float = 0.5) -> None:
        self.sigma_data = sigma_data

    def __call__(self, level: Level) -> Tensor:
        """1 / c_out^2 for any alpha."""
        return 1.0 / self.sigma_data**2 + _snr(level)


class Sigmoid(Weighting):
    """The bound's weight, faded out where log-SNR exceeds `bias`.

    Args:
        bias: log-SNR at which the weight has fallen to half of the bound's.
    """

    def __init__(self, bias: float = 0.0) -> None:
        self.bias = bias

    def __call__(self, level: Level) -> Tensor:
        """-(1/2) d SNR/dt sigmoid(bias - log SNR)."""
        return _bound_rate(level) * torch.sigmoid(self.bias - torch.as_tensor(level.log_snr))
