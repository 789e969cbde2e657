# SPDX-License-Identifier: Apache-2.0
"""The cost of a step against its closed form, and against the bound's continuous limit."""

from __future__ import annotations

import math

import torch

from ornstein.base.keys import Keys
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import EDM, Cosine, Flow
from ornstein.process.steps import step_kl

X0, GUESS, X = (Keys.for_draws(seed, 0, 5).normal((3,), torch.float64) for seed in range(3))


def test_with_the_posterior_variance_it_is_half_the_fall_of_the_snr_times_the_error() -> None:
    """(SNR(s) - SNR(t)) |x_0 - x_0^|^2 / 2 (2107.00630, eq. 13), for any path."""
    for schedule in (Cosine(), Flow(), EDM()):
        t, s = schedule.at(torch.linspace(0.2, 0.9, 5, dtype=torch.float64)), schedule.at(torch.linspace(0.1, 0.85, 5, dtype=torch.float64))
        snr_t, snr_s = (torch.as_tensor(level.log_snr).exp() for level in (t, s))
        expected = 0.5 * (snr_s - snr_t) * (X0 - GUESS).square().sum(1)
        torch.testing.assert_close(step_kl(GaussianProcess(schedule), X0, Gaussian(GUESS), X, t, s), expected, rtol=1e-9, atol=0.0)


def test_a_wrong_variance_costs_what_two_normals_differ() -> None:
    process, t, s = GaussianProcess(Cosine()), Cosine().at(0.6), Cosine().at(0.5)
    forward = t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2
    ratio = t.sigma**2 / s.sigma**2  # forward over posterior variance
    assert forward > 0
    cost = step_kl(process, X0, Gaussian(X0, torch.ones_like(X0)), X, t, s)
    torch.testing.assert_close(
        cost, torch.full((5,), 1.5 * (math.log(ratio) + 1.0 / ratio - 1.0), dtype=torch.float64), rtol=1e-9, atol=0.0
    )
    assert step_kl(process, X0, Gaussian(X0), X, t, s).tolist() == [0.0] * 5
