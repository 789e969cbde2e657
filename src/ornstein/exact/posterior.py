# SPDX-License-Identifier: Apache-2.0
r"""What a mixture becomes once a linear measurement of it is known: the answer that posterior sampling is after.

For x ~ sum_k w_k N(m_k, C_k) and y = A x + std n with n ~ N(0, I), each component stays normal (the Kalman update) and is
weighed by how well it explains y:

    S_k = A C_k A^T + std^2 I,    K_k = C_k A^T S_k^-1,
    m_k <- m_k + K_k (y - A m_k),    C_k <- (I - K_k A) C_k (I - K_k A)^T + std^2 K_k K_k^T,    w_k <- w_k N(y; A m_k, S_k).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.exact.mixture import GaussianMixture


def posterior(world: GaussianMixture, matrix: Float[Tensor, "m d"], y: Float[Tensor, " m"], std: float) -> GaussianMixture:
    """The law of x_0 given y = A x_0 + std n, as a world of its own; components that cannot have made y are left out.

    Args:
        world: the prior.
        matrix: A.
        y: the measurement.
        std: standard deviation of its noise, > 0.

    Raises:
        UsageError: no noise, which would leave a covariance that is not positive definite.
    """
    if std <= 0.0:
        raise UsageError(f"A measurement with noise {std:g} leaves a law without a density.", "Give a noise above 0.")
    a, told = matrix.to(torch.float64), y.to(torch.float64)
    c, m = world.covariances, world.means
    s = a @ c @ a.T + std**2 * torch.eye(len(a), dtype=torch.float64)
    gain = torch.linalg.solve(s, a @ c).mT  # S and C are symmetric, so this is C A^T S^-1
    offset = told - m @ a.T
    left = torch.eye(m.shape[1], dtype=torch.float64) - gain @ a
    covariances = left @ c @ left.mT + std**2 * gain @ gain.mT
    means = m + (gain @ offset[..., None])[..., 0]
    fit = (offset[:, None, :] @ torch.linalg.solve(s, offset[..., None]))[:, 0, 0]
    log_weights = world.weights.log() - 0.5 * (fit + torch.linalg.slogdet(s)[1] + len(a) * math.log(2.0 * math.pi))
    weights = log_weights.softmax(0)
    alive = weights > 0.0
    return GaussianMixture(weights[alive], means[alive], covariances[alive])
