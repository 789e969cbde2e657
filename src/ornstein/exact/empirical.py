# SPDX-License-Identifier: Apache-2.0
r"""The law of a finite data set, each example as likely as any other, and the denoiser that is optimal for it.

x_t given example x_i is N(alpha x_i, sigma^2 I), so E[x_0 | x_t] is the mean of the examples under

    softmax_i( (alpha <x_t, x_i> - alpha^2 |x_i|^2 / 2) / sigma^2 ),

where |x_t|^2 has cancelled (Karras et al. 2022, arXiv 2206.00364, appendix B.3). Its reverse process ends at training
examples: it is what a network that memorises perfectly would do.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.exact.world import World
from ornstein.process.level import CLEAN, Level, over


class Empirical(World):
    """A finite data set. It has a density only where sigma > 0, so no method takes the clean level.

    Args:
        x0: the examples, `(n, ...)`.
        label: class of each example, int64 `(n,)`, where classes are to be asked for.

    Raises:
        UsageError: an empty data set, or labels that do not fit it.
    """

    def __init__(self, x0: Tensor, label: Int[Tensor, " n"] | None = None) -> None:
        if len(x0) == 0 or (label is not None and label.shape != (len(x0),)):
            labels = 0 if label is None else len(label)
            what = f"A data set of {len(x0)} examples with {labels} labels has no law."
            raise UsageError(what, "Give examples, and one label for each or none.")
        self._points = x0.flatten(1).to(torch.float64)
        self._half_norms = 0.5 * self._points.square().sum(1)
        self._label = label

    def expectation(self, x: Tensor, level: Level, label: Int[Tensor, " batch"] | None = None) -> Tensor:
        """See `World`."""
        return (self._logits(x, level, label).softmax(1) @ self._points).reshape(x.shape).to(x)

    def log_prob(self, x: Tensor, level: Level = CLEAN, label: Int[Tensor, " batch"] | None = None) -> Float[Tensor, " batch"]:
        """See `World`."""
        points = x.flatten(1).to(self._points)
        sigma = over(level.sigma, points[:, 0])
        log_variance = torch.as_tensor(2.0 * math.pi * sigma**2, dtype=torch.float64).log()
        reference = -0.5 * points.square().sum(1) / sigma**2 - 0.5 * points.shape[1] * log_variance
        logits = self._logits(x, level, label)
        return (logits.logsumexp(1) - torch.isfinite(logits).sum(1).log() + reference).to(x)

    def score(self, x: Tensor, level: Level = CLEAN, label: Int[Tensor, " batch"] | None = None) -> Tensor:
        """(alpha E[x_0 | x_t] - x_t) / sigma^2; see `World`."""
        return (over(level.alpha, x) * self.expectation(x, level, label) - x) / over(level.sigma, x) ** 2

    def _logits(self, x: Tensor, level: Level, label: Tensor | None) -> Float[Tensor, "batch n"]:
        """Logarithm of each example's responsibility up to a constant; -inf for those of other classes."""
        points = x.flatten(1).to(self._points)
        alpha, variance = over(level.alpha, points), over(level.sigma, points) ** 2
        logits = (alpha * (points @ self._points.T) - alpha**2 * self._half_norms) / variance
        if label is None:
            return logits
        if self._label is None:
            raise UsageError("A class was asked of a data set without labels.", "Give labels with the data set.")
        asked = label.to(self._label.device)[:, None]
        return torch.where((asked < 0) | (asked == self._label), logits, -math.inf)
