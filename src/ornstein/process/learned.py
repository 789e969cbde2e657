# SPDX-License-Identifier: Apache-2.0
r"""A schedule that is learnt with the model (Kingma et al. 2021, arXiv 2107.00630, section 5 and appendix H).

In continuous time the bound depends on a schedule only through its ends, but the variance of its estimate does on all of it. Here
a base is walked at a learned pace: with u the share of the way from its cleanest to its noisiest time,

    alpha(t) = alpha_base(m(u)),    m(u) = (u + sum_k a_k g_k(u)) / (1 + sum_k a_k g_k(1)),    g_k(u) = S(b_k (u - c_k)) - S(-b_k c_k),

S the logistic function, a_k, b_k > 0: a network with one hidden layer and a linear path, strictly increasing with m(0) = 0 and m(1) = 1.
So the ends stay those of the base, as the bound asks, and the family (variance-preserving, straight, ...) too; log-SNR
between them is whatever lowers the variance. Beyond the base's cleanest and noisiest time the pace is the base's own.

The schedule is a module: a model counts its parameters to its weights, so that they are trained, averaged and saved with the network's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ornstein.process.schedule import Schedule
from ornstein.process.wrapped import Truncated


class Learned(Schedule, nn.Module):
    """A base schedule at a learned pace, which starts as the base's own.

    Differentiable in its parameters, but for `time_of`, whose derivative is that in log-SNR alone.

    Args:
        base: gives ends and family; smooth in t (no table), since the pace is learnt from the derivatives of its rates.
        units: hidden units k, >= 1.
    """

    def __init__(self, base: Schedule = Truncated(), units: int = 16) -> None:
        super().__init__()
        self.base, self.noisiest, self.cleanest = base, base.noisiest, base.cleanest
        self.height = nn.Parameter(torch.full((units,), -5.0))  # a through softplus: nearly nothing at first
        self.slope = nn.Parameter(torch.full((units,), math.log(math.expm1(4.0 + units))))  # b: each unit wide as its neighbours are far
        self.centre = nn.Parameter((torch.arange(units) + 0.5) / units)

    def alpha(self, t: Tensor) -> Tensor:
        """The base's, at the learned pace."""
        return self.base.alpha(self.pace(t)[0])

    def sigma(self, t: Tensor) -> Tensor:
        """The base's, at the learned pace."""
        return self.base.sigma(self.pace(t)[0])

    def log_snr(self, t: Tensor) -> Tensor:
        """The base's, at the learned pace."""
        return self.base.log_snr(self.pace(t)[0])

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The base's, times that of the pace."""
        time, rate = self.pace(t)
        alpha_rate, sigma_rate = self.base.rates(time)
        return alpha_rate * rate, sigma_rate * rate

    def size(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """That of the base's family."""
        return self.base.size(alpha, sigma)

    def pace(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The base's time at t and its derivative, float64 like t and on its device."""
        height, slope, centre = (
            number.to(t.device, torch.float64)
            for number in (functional.softplus(self.height), functional.softplus(self.slope), self.centre)
        )
        length = self.noisiest - self.cleanest
        u = ((t - self.cleanest) / length).clamp(0.0, 1.0)
        rise = torch.sigmoid(slope * (u[..., None] - centre))
        start, end = torch.sigmoid(-slope * centre), torch.sigmoid(slope * (1.0 - centre))
        whole = 1.0 + (height * (end - start)).sum()
        m = (u + (height * (rise - start)).sum(-1)) / whole
        rate = (1.0 + (height * slope * rise * (1.0 - rise)).sum(-1)) / whole
        inside = (t >= self.cleanest) & (t <= self.noisiest)
        return torch.where(inside, self.cleanest + length * m, t), torch.where(inside, rate, 1.0)
