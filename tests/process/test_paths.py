# SPDX-License-Identifier: Apache-2.0
"""Further paths against the formulas of their papers."""

from __future__ import annotations

import math

import pytest
import torch

from ornstein.process.paths import Geometric, Sigmoid, SubVP, scaled_linear
from ornstein.process.schedule import LinearBeta

DOUBLE = torch.float64
T = torch.linspace(0.0, 1.0, 21, dtype=DOUBLE)


def test_scaled_linear_is_stable_diffusions_table() -> None:
    betas = [(math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * i / 999) ** 2 for i in range(1000)]
    schedule, kept = scaled_linear(), 1.0
    for k, beta in enumerate(betas, start=1):
        kept *= 1.0 - beta
        assert schedule.at(k / 1000).alpha == pytest.approx(math.sqrt(kept), rel=1e-12)
    assert kept == pytest.approx(0.004660, rel=1e-3)  # its well-known leftover signal


@pytest.mark.parametrize(("start", "end", "tau"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.3), (-3.0, 3.0, 1.1)])
def test_sigmoid_is_the_papers_formula_lifted_by_its_floor(start: float, end: float, tau: float) -> None:
    def sigmoid(u: torch.Tensor | float) -> torch.Tensor:
        return 1.0 / (1.0 + torch.exp(-torch.as_tensor(u, dtype=DOUBLE)))

    first, last = sigmoid(start / tau), sigmoid(end / tau)
    gamma = (last - sigmoid((start + (end - start) * T) / tau)) / (last - first)
    for floor in (1e-4, 1e-9):
        schedule = Sigmoid(start, end, tau, floor)
        torch.testing.assert_close(schedule.alpha(T) ** 2, floor + (1.0 - floor) * gamma, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(schedule.alpha(T) ** 2 + schedule.sigma(T) ** 2, torch.ones_like(T), rtol=1e-13, atol=0.0)
    assert float(Sigmoid().sigma(torch.tensor(1e-12, dtype=DOUBLE))) == pytest.approx(5.4e-7, rel=0.1)  # digits kept next to data


def test_geometric_grows_in_equal_ratios_and_obeys_its_sde() -> None:
    """d sigma^2/dt = g^2 = 2 sigma_min^2 ratio^(2t) log ratio (2011.13456, eq. 30)."""
    schedule = Geometric(0.01, 50.0)
    level = schedule.at(T[1:])
    grown = 0.01 * 5000.0 ** T[1:]
    torch.testing.assert_close(torch.as_tensor(level.sigma) ** 2 + 0.01**2, grown**2, rtol=1e-12, atol=0.0)
    squared = 2.0 * 0.01**2 * 5000.0 ** (2.0 * T[1:]) * math.log(5000.0)
    torch.testing.assert_close(2.0 * torch.as_tensor(level.sigma) * level.sigma_rate, squared, rtol=1e-12, atol=0.0)
    assert bool((torch.as_tensor(level.alpha) == 1.0).all())
    assert schedule.at(1.0).sigma == pytest.approx(50.0, rel=1e-6)


def test_sub_vp_squares_the_noise_of_vp_and_obeys_its_sde() -> None:
    """g^2 = beta (1 - exp(-2 B)) with B the integral of beta, and d sigma^2/dt = g^2 - beta sigma^2 (2011.13456, eq. 28)."""
    schedule, preserving, t = SubVP(), LinearBeta(), T[1:]
    torch.testing.assert_close(schedule.sigma(t), preserving.sigma(t) ** 2, rtol=1e-12, atol=0.0)
    level, beta, total = schedule.at(t), 0.1 + 19.9 * t, 0.1 * t + 9.95 * t * t
    squared = beta * -torch.expm1(-2.0 * total)
    torch.testing.assert_close(2.0 * torch.as_tensor(level.sigma) * level.sigma_rate, squared - beta * torch.as_tensor(level.sigma) ** 2)
    norm = torch.as_tensor(level.alpha) ** 2 + torch.as_tensor(level.sigma) ** 2
    assert float(norm.min()) == pytest.approx(0.75, abs=0.02)  # at alpha^2 = 1/2
    assert schedule.at(1e-9).sigma == pytest.approx(1e-10, rel=1e-6)
