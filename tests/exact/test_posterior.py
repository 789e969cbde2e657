# SPDX-License-Identifier: Apache-2.0
"""A measured mixture: Bayes' rule holds point by point, at any noise level."""

from __future__ import annotations

import pytest
import torch

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import GaussianMixture, scattered
from ornstein.exact.posterior import posterior

WORLD = scattered(3, 4, seed=2)
A = torch.tensor([[1.0, 0.5, 0.0, -0.3], [0.0, 1.0, 1.0, 0.2]], dtype=torch.float64)
Y = torch.tensor([0.4, -0.7], dtype=torch.float64)
X = Keys.for_draws(0, 0, 40).normal((4,), torch.float64)


def log_likelihood(x: torch.Tensor, std: float) -> torch.Tensor:
    return -0.5 * ((Y - x @ A.T) / std).square().sum(1)


@pytest.mark.parametrize("std", [0.3, 1.0])
def test_density_is_prior_times_likelihood(std: float) -> None:
    """log p(x | y) - log p(x) - log p(y | x) is one number, whatever x."""
    difference = posterior(WORLD, A, Y, std).log_prob(X) - WORLD.log_prob(X) - log_likelihood(X, std)
    torch.testing.assert_close(difference, difference.mean().expand(40), rtol=0.0, atol=1e-9)


def test_no_information_changes_nothing_and_much_information_fixes_the_measured_part() -> None:
    free = posterior(WORLD, A, Y, 1e6)
    torch.testing.assert_close(free.log_prob(X), WORLD.log_prob(X), rtol=0.0, atol=1e-8)
    mean, covariance = posterior(WORLD, A, Y, 1e-4).moments()
    torch.testing.assert_close(A @ mean, Y, rtol=0.0, atol=1e-4)
    assert float((A @ covariance @ A.T).diagonal().max()) < 1e-6


def test_conditioning_a_gaussian_on_a_coordinate_is_the_textbook_formula() -> None:
    c = torch.tensor([[[1.0, 0.6], [0.6, 2.0]]], dtype=torch.float64)
    m = torch.tensor([[0.2, -0.1]], dtype=torch.float64)
    found = posterior(GaussianMixture([1.0], m, c), torch.tensor([[1.0, 0.0]]), torch.tensor([1.2], dtype=torch.float64), 1e-5)
    assert float(found.means[0, 1]) == pytest.approx(-0.1 + 0.6 * (1.2 - 0.2), abs=1e-8)
    assert float(found.covariances[0, 1, 1]) == pytest.approx(2.0 - 0.6**2, abs=1e-8)


def test_noise_free_measurements_are_refused() -> None:
    with pytest.raises(UsageError, match="without a density"):
        posterior(WORLD, A, Y, 0.0)
