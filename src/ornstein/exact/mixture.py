# SPDX-License-Identifier: Apache-2.0
r"""Mixtures of Gaussians, closed under corruption.

Let x_0 ~ sum_k w_k N(m_k, C_k) with C_k = U_k diag(v_k) U_k^T. Then x_t = alpha x_0 + sigma eps is again a mixture, of
N(alpha m_k, alpha^2 C_k + sigma^2 I), and in the coordinates z = U_k^T (x_t - alpha m_k) every component falls apart
into independent directions of variance  s = alpha^2 v_k + sigma^2:

    log N_k       = -1/2 sum (z^2 / s + log(2 pi s))
    score_k       = -U_k (z / s)
    E[x_0 | x, k] = m_k + alpha U_k (v_k z / s)

Mixing these with the responsibilities r_k ~ w_k N_k gives the answers for the whole. Nothing is assumed of the
schedule, and levels may differ from sample to sample: no covariance is factored again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys, generator_of
from ornstein.exact.world import World
from ornstein.process.level import CLEAN, Level, over


class Points(NamedTuple):
    """Draws from a mixture: float64 points `(n, d)`, and the component of each, int64 `(n,)`."""

    x0: Tensor
    label: Tensor


class GaussianMixture(World):
    """sum_k w_k N(m_k, C_k) over d dimensions; its classes are its components.

    Args:
        weights: k weights > 0, normalised here.
        means: `(k, d)`.
        covariances: `(k, d, d)`, symmetric and positive definite.

    Raises:
        UsageError: shapes that do not fit together, or a covariance or weight that is not positive.
    """

    def __init__(self, weights: Sequence[float] | Tensor, means: Tensor, covariances: Tensor) -> None:
        self.means, self.covariances = means.to(torch.float64), covariances.to(torch.float64)
        given = torch.as_tensor(weights, dtype=torch.float64)
        k, d = self.means.shape
        if given.shape != (k,) or self.covariances.shape != (k, d, d):
            shapes = f"weights {tuple(given.shape)}, means {(k, d)}, covariances {tuple(covariances.shape)}"
            what = f"The parts of a mixture do not fit together: {shapes}."
            raise UsageError(what, "Give (k,) weights, (k, d) means and (k, d, d) covariances.")
        self.weights = given / given.sum()
        self._variances, self._axes = torch.linalg.eigh(self.covariances)
        if not bool((self._variances > 0).all()) or not bool((given > 0).all()):
            raise UsageError("A mixture needs positive weights and positive definite covariances.", "Add a little to the diagonals.")

    def sample(self, keys: Keys) -> Points:
        """One point per key."""
        label = torch.searchsorted(self.weights.cumsum(0), keys.of("component").uniform()).clamp_max(len(self.weights) - 1)
        z = self._variances[label].sqrt() * keys.of("point").normal(self.means.shape[1:], torch.float64)
        return Points(self.means[label] + _turn(self._axes[label], z), label)

    def component(self, label: int) -> GaussianMixture:
        """The component as a world of its own."""
        return GaussianMixture([1.0], self.means[label : label + 1], self.covariances[label : label + 1])

    def moments(self, level: Level = CLEAN) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
        """Mean and covariance of x_t at a level of floats."""
        mean = self.weights @ self.means
        spread = self.means - mean
        covariance = torch.einsum("k,kij->ij", self.weights, self.covariances) + torch.einsum("k,ki,kj->ij", self.weights, spread, spread)
        return level.alpha * mean, level.alpha**2 * covariance + level.sigma**2 * torch.eye(len(mean), dtype=torch.float64)

    def expectation(self, x: Tensor, level: Level, label: Int[Tensor, " batch"] | None = None) -> Tensor:
        """See `World`."""
        parts = self._parts(x, level, label)
        towards = _turn(self._axes, self._variances * parts.z / parts.variance)
        clean = self.means + over(level.alpha, towards) * towards
        return _mix(parts.log_joint, clean, x)

    def log_prob(self, x: Tensor, level: Level = CLEAN, label: Int[Tensor, " batch"] | None = None) -> Float[Tensor, " batch"]:
        """See `World`."""
        return self._parts(x, level, label).log_joint.logsumexp(1).to(x)

    def score(self, x: Tensor, level: Level = CLEAN, label: Int[Tensor, " batch"] | None = None) -> Tensor:
        """See `World`."""
        parts = self._parts(x, level, label)
        return _mix(parts.log_joint, -_turn(self._axes, parts.z / parts.variance), x)

    def logits(self, x: Tensor, level: Level) -> Float[Tensor, "batch k"]:
        """The exact noisy classifier: log p(x_t, k) in nats, of which a softmax makes p(k | x_t)."""
        return self._parts(x, level, None).log_joint.to(x)

    def _parts(self, x: Tensor, level: Level, label: Tensor | None) -> _Parts:
        points = x.flatten(1).to(self.means)[:, None, :]
        offset = points - over(level.alpha, points) * self.means
        z = torch.einsum("bkd,kde->bke", offset, self._axes)
        variance = over(level.alpha, z) ** 2 * self._variances + over(level.sigma, z) ** 2
        log_normal = -0.5 * (z.square() / variance + (2.0 * math.pi * variance).log()).sum(-1)
        return _Parts(z, variance, log_normal + self._log_weights(label))

    def _log_weights(self, label: Tensor | None) -> Tensor:
        """log w_k, or for a sample that is of one class 0 there and -inf elsewhere; `(k,)` or `(batch, k)`."""
        every = self.weights.log()
        if label is None:
            return every
        asked = label.to(every.device)[:, None]
        alone = torch.where(asked == torch.arange(len(every)), 0.0, -math.inf)
        return torch.where(asked < 0, every, alone)


class _Parts(NamedTuple):
    """Per sample and component: coordinates along its axes, their variances, log of weight times density."""

    z: Tensor
    variance: Tensor
    log_joint: Tensor


def _turn(axes: Tensor, z: Tensor) -> Tensor:
    """U z for each component or sample."""
    return torch.einsum("...de,...e->...d", axes, z)


def _mix(log_joint: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """Mean of the components' values under their responsibilities, in the shape and dtype of x."""
    return torch.einsum("bk,bkd->bd", log_joint.softmax(1), values).reshape(x.shape).to(x)


def ring(modes: int = 8, radius: float = 1.5, std: float = 0.2) -> GaussianMixture:
    """Equal round components on a circle in the plane."""
    angle = torch.arange(modes, dtype=torch.float64) * (2.0 * math.pi / modes)
    means = radius * torch.stack([angle.cos(), angle.sin()], 1)
    return GaussianMixture([1.0] * modes, means, std**2 * torch.eye(2, dtype=torch.float64).expand(modes, 2, 2))


def smooth() -> GaussianMixture:
    """Three broad, tilted, overlapping components in the plane: all derivatives of its flow stay small."""
    means = torch.tensor([[-0.6, -0.3], [0.5, -0.4], [0.2, 0.7]])
    covariances = torch.tensor([[[0.50, 0.15], [0.15, 0.40]], [[0.45, -0.10], [-0.10, 0.55]], [[0.60, 0.05], [0.05, 0.35]]])
    return GaussianMixture([0.3, 0.3, 0.4], means, covariances)


def scattered(components: int, dim: int, seed: int = 0, condition: float = 10.0) -> GaussianMixture:
    """Random means of unit variance, random axes, variances log-uniform between 1/condition and 1, unequal weights."""
    generator = generator_of("scattered", components, dim, seed)
    means = torch.randn(components, dim, generator=generator, dtype=torch.float64)
    axes = torch.linalg.qr(torch.randn(components, dim, dim, generator=generator, dtype=torch.float64))[0]
    variances = condition ** -torch.rand(components, dim, generator=generator, dtype=torch.float64)
    weights = 0.5 + torch.rand(components, generator=generator, dtype=torch.float64)
    return GaussianMixture(weights, means, torch.einsum("kde,ke,kfe->kdf", axes, variances, axes))
