# SPDX-License-Identifier: Apache-2.0
"""Every schedule of the registry: monotone, invertible, with true rates, and with the values its paper states."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ornstein.base.registry import entry, load, names
from ornstein.process.schedule import EDM, BetaTable, Cosine, Flow, LinearBeta, Schedule, ddpm

DOUBLE = torch.float64
SCHEDULES: dict[str, Schedule] = {name: load(entry("schedule", name))() for name in names("schedule")}
SCHEDULES |= {"cosine, cut short": Cosine(end=0.995), "linear-beta, steep": LinearBeta(0.01, 40.0), "ddpm, short": ddpm(20, 0.01, 0.4)}
KINKED = {name for name, schedule in SCHEDULES.items() if isinstance(schedule, BetaTable)}

every_schedule = pytest.mark.parametrize("name", SCHEDULES)
some_times = settings(max_examples=40, deadline=None, derandomize=True)


def _within(name: str, share: float) -> torch.Tensor:
    """A time at a share of the way to the noisiest, as a float64 scalar."""
    return torch.tensor(share * SCHEDULES[name].noisiest, dtype=DOUBLE)


@every_schedule
def test_log_snr_falls_strictly_and_agrees_with_alpha_and_sigma(name: str) -> None:
    schedule = SCHEDULES[name]
    t = torch.linspace(1e-6, 1.0, 2001, dtype=DOUBLE) * schedule.noisiest
    log_snr = schedule.log_snr(t)
    assert bool((log_snr.diff() < 0).all())
    expected = 2.0 * (schedule.alpha(t) / schedule.sigma(t)).log()
    torch.testing.assert_close(log_snr, expected, rtol=1e-9, atol=1e-9)
    assert bool((schedule.alpha(t).diff() <= 0).all())
    assert bool((schedule.sigma(t).diff() > 0).all())


@every_schedule
@some_times
@given(share=st.floats(1e-4, 0.999))
def test_time_of_inverts_log_snr(name: str, share: float) -> None:
    t = _within(name, share)
    found = SCHEDULES[name].time_of(SCHEDULES[name].log_snr(t))
    torch.testing.assert_close(found, t, rtol=1e-9, atol=1e-13)


@every_schedule
def test_time_of_has_the_derivative_of_an_inverse(name: str) -> None:
    schedule = SCHEDULES[name]
    t = torch.tensor([0.0133, 0.2513, 0.5007, 0.9333], dtype=DOUBLE) * schedule.noisiest
    log_snr = schedule.log_snr(t).requires_grad_()
    (found,) = torch.autograd.grad(schedule.time_of(log_snr).sum(), log_snr)
    forward = torch.func.jvp(schedule.time_of, (log_snr.detach(),), (torch.ones_like(t),))[1]
    true = 1.0 / torch.func.jvp(schedule.log_snr, (t,), (torch.ones_like(t),))[1]
    torch.testing.assert_close(found, true, rtol=1e-7, atol=0.0)
    torch.testing.assert_close(forward, true, rtol=1e-7, atol=0.0)


@every_schedule
def test_time_of_stays_inside_beyond_the_ends(name: str) -> None:
    found = SCHEDULES[name].time_of(torch.tensor([-math.inf, -500.0, 500.0], dtype=DOUBLE))
    assert bool(((found >= 0.0) & (found <= 1.0)).all())
    assert float(found[0]) == 1.0
    assert float(found[2]) < 1e-6


@every_schedule
@some_times
@given(share=st.floats(0.01, 0.99))
def test_rates_are_the_derivatives(name: str, share: float) -> None:
    schedule, t = SCHEDULES[name], _within(name, share)
    if name in KINKED:
        pieces = len(schedule.table) - 1  # type: ignore[attr-defined]
        t = ((t * pieces).floor() + 0.5) / pieces
    step = 1e-6
    for rate, curve in zip(schedule.rates(t), (schedule.alpha, schedule.sigma), strict=True):
        exact = torch.func.jvp(curve, (t,), (torch.ones_like(t),))[1]
        torch.testing.assert_close(rate, exact, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(rate, (curve(t + step) - curve(t - step)) / (2.0 * step), rtol=1e-6, atol=1e-7)


def test_a_schedule_of_two_methods_gets_everything_else() -> None:
    class Cubic(Schedule):
        def alpha(self, t: torch.Tensor) -> torch.Tensor:
            return 1.0 - t**3

        def sigma(self, t: torch.Tensor) -> torch.Tensor:
            return t * (2.0 - t)

    t = torch.tensor([0.1, 0.5, 0.9], dtype=DOUBLE)
    level = Cubic().at(t)
    torch.testing.assert_close(level.alpha_rate, -3.0 * t**2)
    torch.testing.assert_close(level.sigma_rate, 2.0 - 2.0 * t)
    torch.testing.assert_close(Cubic().time_of(torch.as_tensor(level.log_snr)), t, rtol=1e-12, atol=0.0)


@every_schedule
def test_at_gives_the_same_numbers_for_floats_tensors_and_log_snr(name: str) -> None:
    schedule = SCHEDULES[name]
    t = torch.tensor([0.1234, 0.5, 0.77], dtype=DOUBLE) * schedule.noisiest
    many = schedule.at(t)
    for one, whole in zip(many.unbind(), (schedule.at(float(u)) for u in t), strict=True):
        assert all(isinstance(number, float) for number in whole)
        assert one == pytest.approx(whole, rel=1e-12)
        assert schedule.at_log_snr(float(whole.log_snr))[:3] == pytest.approx(whole[:3], rel=1e-8)
    torch.testing.assert_close(schedule.at_log_snr(torch.as_tensor(many.log_snr)).t, t, rtol=1e-9, atol=0.0)


@every_schedule
def test_the_clean_end(name: str) -> None:
    clean = SCHEDULES[name].at(0.0)
    assert (clean.t, clean.alpha, clean.sigma) == (0.0, 1.0, 0.0)
    assert clean.is_clean
    zero = torch.zeros((), dtype=DOUBLE)
    assert float(SCHEDULES[name].alpha(zero)) == pytest.approx(1.0, abs=1e-15)
    assert float(SCHEDULES[name].sigma(zero)) == 0.0


def test_ddpm_table_is_met_exactly_at_its_entries() -> None:
    betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    schedule, kept = ddpm(), 1.0
    for k, beta in enumerate(betas, start=1):
        kept *= 1.0 - beta
        level = schedule.at(k / 1000)
        assert level.alpha == pytest.approx(math.sqrt(kept), rel=1e-12)
        assert level.sigma == pytest.approx(math.sqrt(1.0 - kept), rel=1e-12)
    assert kept == pytest.approx(4.0358e-5, rel=1e-4)  # the paper's terminal signal


def test_linear_beta_is_the_limit_of_long_ddpm_tables() -> None:
    """beta_k = beta(k/T)/T in the limit (2011.13456, appendix B)."""
    continuous, t = LinearBeta(), torch.tensor([0.1, 0.4, 0.7, 1.0], dtype=DOUBLE)
    errors = [float((ddpm(n, 0.1 / n, 20.0 / n).alpha(t) - continuous.alpha(t)).abs().max()) for n in (1000, 2000, 4000)]
    assert errors[0] < 5e-3
    assert errors[0] / errors[2] == pytest.approx(4.0, rel=0.05)


def test_linear_beta_is_variance_preserving_with_the_stated_beta() -> None:
    schedule, t = LinearBeta(0.1, 20.0), torch.tensor([0.0, 0.25, 1.0], dtype=DOUBLE)
    torch.testing.assert_close(-2.0 * schedule.log_alpha_rate(t), 0.1 + 19.9 * t)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), rtol=1e-15, atol=0.0)
    assert float(schedule.alpha(t)[2]) == pytest.approx(math.exp(-5.025), rel=1e-12)


@pytest.mark.parametrize(("offset", "end"), [(0.008, 1.0), (0.0, 1.0), (0.1, 0.9)])
def test_cosine_is_the_papers_formula(offset: float, end: float) -> None:
    schedule, t = Cosine(offset, end), torch.linspace(0.0, 1.0, 11, dtype=DOUBLE)
    expected = torch.cos((end * t + offset) / (1.0 + offset) * math.pi / 2.0) / math.cos(offset / (1.0 + offset) * math.pi / 2.0)
    torch.testing.assert_close(schedule.alpha(t), expected, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t), rtol=1e-13, atol=0.0)


def test_cosine_ends() -> None:
    last = Cosine().at(1.0)
    assert last.is_noise
    assert last.sigma == pytest.approx(1.0, abs=1e-15)
    assert Cosine(end=0.995).at(1.0).alpha == pytest.approx(0.0078, abs=1e-4)
    # sigma keeps its digits where 1 - alpha^2 would lose them all
    tiny = Cosine(offset=0.0).at(1e-9)
    assert tiny.sigma == pytest.approx(0.5 * math.pi * 1e-9, rel=1e-9)


def test_flow_and_edm_are_what_they_say() -> None:
    assert Flow().at(0.3)[1:] == pytest.approx((0.7, 0.3, -1.0, 1.0))
    assert Flow().at(1.0).is_noise
    assert EDM().at(0.75)[1:] == pytest.approx((1.0, 3.0, 0.0, 16.0))
    assert EDM().at(EDM().noisiest).sigma == pytest.approx(80.0)
    assert EDM(5.0).at(EDM(5.0).noisiest).sigma == pytest.approx(5.0)
