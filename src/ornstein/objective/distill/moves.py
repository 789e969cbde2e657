# SPDX-License-Identifier: Apache-2.0
r"""The algebra of deterministic moves in terms of x_0, which every distillation here is written in.

The DDIM move from t to s with an estimate D is  x_s = (sigma_s/sigma_t) x_t + c_ts D,  c_ts = alpha_s - alpha_t sigma_s/sigma_t.
Two moves, t to r with D and r to s with D', are one with

    D'' = w D + (1 - w) D',        w = (sigma_s/sigma_r) c_tr / c_ts,

a weight in [0, 1]: c_ts = (sigma_s/sigma_r) c_tr + c_rs. No division by a small step is left, and s = clean gives w = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ornstein.model.denoiser import Model
from ornstein.objective.weighting import Weighting
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level, over


def moved(process: GaussianProcess, x: Tensor, x0: Tensor, t: Level, s: Level) -> Tensor:
    """The DDIM move of x from t to s with the estimate x0."""
    return process.reverse_law(Gaussian(x0), x, t, s, eta=0.0).mean


def reach(t: Level, s: Level) -> Tensor:
    """c_ts, the weight of x_0 in the move from t to s; float64 `(batch,)`."""
    return torch.as_tensor(s.alpha - t.alpha * s.sigma / t.sigma)


def joined(first: Tensor, then: Tensor, t: Level, r: Level, s: Level) -> Tensor:
    """The estimate whose one move from t to s is the moves t to r with `first` and r to s with `then`, for s <= r < t, r not clean."""
    weight = torch.as_tensor(s.sigma / r.sigma * reach(t, r) / reach(t, s))
    share = over(weight, first)
    return share * first + (1.0 - share) * then


def spread(rows: Tensor, x: Tensor) -> Tensor:
    """A mark per sample `(batch,)`, shaped to choose between tensors like x."""
    return rows.to(x.device).reshape(-1, *(1,) * (x.ndim - 1))


def where(rows: Tensor, one: Level, other: Level) -> Level:
    """The level `one` in the rows marked, `other` elsewhere; both of tensors `(batch,)`."""
    return Level(*(torch.where(rows, torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(one, other, strict=True)))


def output_for(model: Model, x0: Tensor, x: Tensor, level: Level) -> Tensor:
    """What the network would have to put out at x for the model to answer x0."""
    eps = (x - over(level.alpha, x) * x0) / over(level.sigma, x)
    return model.prediction.target(x0, eps, level)


def factor(model: Model, weighting: Weighting, level: Level, importance: Tensor, x: Tensor) -> Tensor:
    """Factor on the squared error of the network's output that makes it `weighting` on that of x_0; `(batch,)` in x's dtype."""
    return (importance * weighting(level) / model.prediction.loss_scale(level)).to(x)
