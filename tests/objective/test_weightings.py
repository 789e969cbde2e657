# SPDX-License-Identifier: Apache-2.0
"""Weights against their papers' formulas, each on the loss its paper writes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ornstein.base.registry import entry, load, names
from ornstein.model.prediction import Edm, Eps, V
from ornstein.objective.weighting import EdmWeight, Elbo, MinSnr, Sigmoid, Simple, Weighting
from ornstein.process.level import Level
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule

SCHEDULES: dict[str, Schedule] = {name: load(entry("schedule", name))() for name in names("schedule")}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def _level(schedule: Schedule, n: int = 41) -> Level:
    return schedule.at(torch.linspace(0.02134, 0.98737, n, dtype=torch.float64) * schedule.noisiest)


def _snr(level: Level) -> Tensor:
    return torch.as_tensor(level.log_snr).exp()


@every_schedule
def test_simple_and_min_snr(schedule: Schedule) -> None:
    level = _level(schedule)
    torch.testing.assert_close(Simple()(level), _snr(level), rtol=1e-9, atol=0.0)
    torch.testing.assert_close(MinSnr(5.0)(level), _snr(level).clamp_max(5.0), rtol=1e-9, atol=0.0)
    assert float(MinSnr(0.5)(level).max()) == 0.5


@every_schedule
def test_elbo_is_half_the_fall_of_the_snr(schedule: Schedule) -> None:
    level, step = _level(schedule), 1e-7
    t = torch.as_tensor(level.t)
    fall = (schedule.log_snr(t - step).exp() - schedule.log_snr(t + step).exp()) / (2.0 * step)
    torch.testing.assert_close(Elbo()(level), 0.5 * fall, rtol=1e-5, atol=1e-12)


@every_schedule
def test_sigmoid_fades_the_bound_out_above_its_bias(schedule: Schedule) -> None:
    level = _level(schedule)
    for bias in (-2.0, 0.0, 1.5):
        share = 1.0 / (1.0 + (torch.as_tensor(level.log_snr) - bias).exp())
        torch.testing.assert_close(Sigmoid(bias)(level), share * Elbo()(level), rtol=1e-9, atol=0.0)
    at_bias = schedule.at_log_snr(torch.tensor([1.5], dtype=torch.float64))
    torch.testing.assert_close(Sigmoid(1.5)(at_bias), 0.5 * Elbo()(at_bias), rtol=1e-7, atol=0.0)


@every_schedule
def test_weights_are_one_on_the_loss_they_are_named_for(schedule: Schedule) -> None:
    level, one = _level(schedule), torch.ones(41, dtype=torch.float64)
    torch.testing.assert_close(Simple()(level) / Eps().loss_scale(level), one, rtol=1e-9, atol=0.0)
    torch.testing.assert_close(EdmWeight(0.7)(level) / Edm(0.7).loss_scale(level), one, rtol=1e-9, atol=0.0)


def test_edm_weight_is_lambda_of_its_paper() -> None:
    level, sd = _level(EDM()), 0.6
    sigma = torch.as_tensor(level.sigma)
    torch.testing.assert_close(EdmWeight(sd)(level), (sigma**2 + sd**2) / (sigma * sd) ** 2)


def test_min_snr_on_v_is_the_papers_form() -> None:
    """min(SNR, gamma) / (SNR + 1) on the error of v (2303.09556, section 3.4)."""
    level = _level(Cosine())
    torch.testing.assert_close(MinSnr(5.0)(level) / V().loss_scale(level), _snr(level).clamp_max(5.0) / (_snr(level) + 1.0))


@pytest.mark.parametrize("weighting", [Elbo(), Sigmoid(0.5)], ids=["elbo", "sigmoid"])
def test_bounds_do_not_depend_on_the_schedule(weighting: Weighting) -> None:
    """For Gaussian data the loss is known at every level; between equal log-SNRs every path has the same integral (VDM, section 5.1)."""
    variance, integrals = 0.3, []
    for schedule in (LinearBeta(), Cosine(), Flow(), EDM()):
        ends = schedule.time_of(torch.tensor([4.0, -4.0], dtype=torch.float64))
        t = torch.linspace(float(ends[0]), float(ends[1]), 20001, dtype=torch.float64)
        level = schedule.at(t)
        left = variance / (1.0 + variance * _snr(level))
        integrals.append(float(torch.trapezoid(weighting(level) * left, t)))
    assert integrals[1:] == pytest.approx([integrals[0]] * 3, rel=1e-5)
    if isinstance(weighting, Elbo):  # 1/2 integral of v/(1 + v SNR) d SNR
        assert integrals[0] == pytest.approx(0.5 * math.log((1.0 + variance * math.exp(4.0)) / (1.0 + variance * math.exp(-4.0))), rel=1e-5)


@pytest.mark.parametrize("name", names("weighting"))
@every_schedule
def test_every_weight_is_finite_and_positive_up_to_pure_noise(name: str, schedule: Schedule) -> None:
    weight = load(entry("weighting", name))()(schedule.at(torch.tensor([1e-5, 0.5, 1.0], dtype=torch.float64) * schedule.noisiest))
    assert weight.shape == (3,)
    assert weight.dtype == torch.float64
    assert bool(torch.isfinite(weight).all())
    assert bool((weight >= 0.0).all())
    assert bool((weight[:2] > 0.0).all())
