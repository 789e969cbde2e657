# SPDX-License-Identifier: Apache-2.0
"""Estimates and reconstructions by noise level, on worlds whose answers are known."""

from __future__ import annotations

import torch

from ornstein.base.keys import Keys, generator_of
from ornstein.evaluate.curves import estimates, middles, reconstructions
from ornstein.evaluate.information import remaining
from ornstein.exact.empirical import Empirical
from ornstein.exact.mixture import GaussianMixture
from ornstein.model.condition import Cond
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import Flow
from ornstein.sample import plans
from ornstein.sample.solvers import DDIM

SCHEDULE = Flow()


def test_levels_are_the_middles_of_equal_parts_of_time() -> None:
    assert [round(float(level.t), 9) for level in middles(SCHEDULE, 4)] == [0.125, 0.375, 0.625, 0.875]


def test_the_error_of_exact_estimates_is_what_remains_of_the_variance() -> None:
    variances = torch.tensor([0.3, 2.0], dtype=torch.float64)
    world = GaussianMixture([1.0], torch.zeros(1, 2), variances.diag()[None])
    x0 = torch.randn(3000, 2, generator=generator_of("curves"), dtype=torch.float64) * variances.sqrt()
    levels = middles(SCHEDULE, 3)
    found = list(estimates(world.denoiser(GaussianProcess(SCHEDULE)), x0, None, Keys.for_draws(0, 0, 3000), levels, 700))
    errors = torch.stack([(ends - x0).square().mean() for ends in found])
    wanted = remaining(torch.tensor([float(level.log_snr) for level in levels]), variances)
    torch.testing.assert_close(errors, wanted, rtol=0.06, atol=0)


def test_sampling_on_gives_a_point_back_from_little_noise_and_any_point_from_much() -> None:
    x0 = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.5]], dtype=torch.float64).repeat(8, 1)
    labels = torch.arange(3).repeat(8)
    world = Empirical(x0[:3], torch.arange(3)).denoiser(GaussianProcess(SCHEDULE))
    plan, levels = plans.uniform(SCHEDULE, 40), middles(SCHEDULE, 10)
    chosen = (levels[0], levels[-1])
    near, far = reconstructions(world, DDIM(), plan, x0, None, range(24), chosen, rows=10)
    torch.testing.assert_close(near, x0, atol=1e-6, rtol=0)
    apart = torch.cdist(far, x0[:3])
    assert float(apart.amin(1).max()) < 1e-3  # it ends in the data, but elsewhere
    assert 0.1 < float((apart.argmin(1) == labels).double().mean()) < 0.9
    _, told = reconstructions(world, DDIM(), plan, x0, Cond(label=labels), range(24), chosen, rows=10)
    torch.testing.assert_close(told, x0, atol=1e-6, rtol=0)
    again = list(reconstructions(world, DDIM(), plan, x0, None, range(24), chosen, rows=24))
    torch.testing.assert_close(again[1], far)  # whatever the batches
