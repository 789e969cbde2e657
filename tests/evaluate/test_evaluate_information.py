# SPDX-License-Identifier: Apache-2.0
"""Information of levels and moves: against Monte Carlo, the law of its derivative, and sums in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from ornstein.base.keys import generator_of
from ornstein.evaluate.information import dealt, information, remaining, spectrum
from ornstein.process.schedule import EDM, Cosine, LinearBeta, Schedule
from ornstein.sample import plans

VARIANCES = torch.tensor([0.0, 0.04, 0.5, 3.0], dtype=torch.float64)


def test_information_of_one_variance_is_the_capacity_of_the_channel() -> None:
    log_snr = torch.tensor([-math.inf, -3.0, 0.0, 4.0], dtype=torch.float64)
    wanted = [0.5 * math.log(1 + 0.25 * math.exp(value)) for value in (-math.inf, -3.0, 0.0, 4.0)]
    assert information(log_snr, torch.tensor([0.25])).tolist() == pytest.approx(wanted)


def test_what_remains_is_the_error_of_the_best_estimate() -> None:
    generator, variance, snr = generator_of("remaining"), 0.7, 2.5
    x0 = math.sqrt(variance) * torch.randn(400_000, generator=generator, dtype=torch.float64)
    x = math.sqrt(snr) * x0 + torch.randn(400_000, generator=generator, dtype=torch.float64)
    best = x * (x @ x0) / (x @ x)  # least squares finds it without the formula
    found = remaining(torch.tensor([math.log(snr)]), torch.tensor([variance]))
    assert float(found) == pytest.approx(float((x0 - best).square().mean()), rel=0.01)


def test_information_grows_by_half_of_what_remains() -> None:
    log_snr = torch.linspace(-6, 6, 13, dtype=torch.float64).requires_grad_()
    [slope] = torch.autograd.grad(information(log_snr, VARIANCES[1:]).sum(), log_snr)
    torch.testing.assert_close(slope, 0.5 * log_snr.exp() * remaining(log_snr, VARIANCES[1:]))


@pytest.mark.parametrize("schedule", [EDM(), LinearBeta(), Cosine()], ids=["edm", "linear", "cosine"])
def test_moves_add_up_to_the_closed_form_and_waste_ever_less(schedule: Schedule) -> None:
    wasted = []
    for moves in (20, 40, 80):
        plan = plans.log_snr(schedule, moves, 0.02)
        parts = dealt(plan, VARIANCES)
        start = 0.0 if plan[0].is_noise else float(plan[0].log_snr)
        ends = [0.0 if plan[0].is_noise else information_of(start), information_of(float(plan[-2].log_snr))]
        assert float(parts.gained.sum()) == pytest.approx(ends[1] - ends[0])
        assert bool((parts.cost >= parts.gained).all())
        wasted.append(float((parts.cost - parts.gained).sum()))
    assert wasted[0] / wasted[1] == pytest.approx(2, rel=0.25)
    assert wasted[1] / wasted[2] == pytest.approx(2, rel=0.15)


def information_of(log_snr: float) -> float:
    return sum(0.5 * math.log(1 + float(v) * math.exp(log_snr)) for v in VARIANCES) / len(VARIANCES)


def test_the_spectrum_is_that_of_the_covariance() -> None:
    generator = generator_of("spectrum")
    axes = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    x = torch.randn(20_000, 3, generator=generator, dtype=torch.float64) * torch.tensor([0.1, 1.0, 2.0]) @ axes.T + 5
    assert spectrum(x.view(-1, 3, 1)).tolist() == pytest.approx([0.01, 1, 4], rel=0.05)
    assert spectrum(x, most=2).tolist() == pytest.approx(x.var(0).sort().values.tolist())
    assert spectrum(x[:, :1]).tolist() == pytest.approx([float(x[:, 0].var())])
