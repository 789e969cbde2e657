# SPDX-License-Identifier: Apache-2.0
"""Schedules made of others: what their papers say, and that each stays in the family of its base."""

from __future__ import annotations

import math

import pytest
import torch

from ornstein.base.errors import UsageError
from ornstein.process.paths import Geometric, Sigmoid, SubVP, scaled_linear
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule, ddpm
from ornstein.process.wrapped import Shifted, Truncated, ZeroTerminal

DOUBLE = torch.float64
T = torch.linspace(0.01, 0.99, 25, dtype=DOUBLE)
FAMILIES: dict[str, Schedule] = {
    **{"linear-beta": LinearBeta(), "ddpm": ddpm(), "scaled-linear": scaled_linear(), "cosine": Cosine(), "sigmoid": Sigmoid()},
    **{"flow": Flow(), "edm": EDM(), "geometric": Geometric(), "sub-vp": SubVP(), "twice": Shifted(SubVP(), 0.5)},
}
every_family = pytest.mark.parametrize("base", FAMILIES.values(), ids=FAMILIES)


@every_family
def test_the_size_of_a_schedules_own_pairs_is_one_and_grows_with_them(base: Schedule) -> None:
    alpha, sigma = base.alpha(T), base.sigma(T)
    torch.testing.assert_close(base.size(alpha, sigma), torch.ones_like(T), rtol=1e-12, atol=0.0)
    torch.testing.assert_close(base.size(3.0 * alpha, 3.0 * sigma), torch.full_like(T, 3.0), rtol=1e-12, atol=0.0)


@every_family
@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_shifting_multiplies_the_noise_to_signal_and_stays_in_the_family(base: Schedule, factor: float) -> None:
    shifted, level = Shifted(base, factor), base.at(T)
    moved = shifted.at(T)
    torch.testing.assert_close(
        torch.as_tensor(moved.noise_to_signal), factor * torch.as_tensor(level.noise_to_signal), rtol=1e-10, atol=0.0
    )
    torch.testing.assert_close(
        base.size(torch.as_tensor(moved.alpha), torch.as_tensor(moved.sigma)), torch.ones_like(T), rtol=1e-11, atol=0.0
    )
    torch.testing.assert_close(shifted.time_of(shifted.log_snr(T)), T, rtol=1e-9, atol=0.0)
    step = 1e-6
    if base is not FAMILIES["ddpm"] and base is not FAMILIES["scaled-linear"]:
        for rate, curve in zip((moved.alpha_rate, moved.sigma_rate), (shifted.alpha, shifted.sigma), strict=True):
            torch.testing.assert_close(rate, (curve(T + step) - curve(T - step)) / (2.0 * step), rtol=1e-5, atol=1e-6)


def test_on_the_straight_path_the_shift_is_that_of_sd3() -> None:
    torch.testing.assert_close(Shifted(Flow(), 3.0).sigma(T), 3.0 * T / (1.0 + 2.0 * T), rtol=1e-13, atol=0.0)
    torch.testing.assert_close(Shifted(Flow(), 3.0).alpha(T), 1.0 - 3.0 * T / (1.0 + 2.0 * T), rtol=1e-12, atol=0.0)
    assert Shifted(Flow(), 3.0).at(1.0).is_noise


def test_on_variance_preserving_paths_the_shift_is_that_of_simple_diffusion() -> None:
    """log-SNR moves by 2 log(64/256), and alpha^2 = sigmoid(log-SNR)."""
    log_snr = Cosine().log_snr(T) + 2.0 * math.log(64 / 256)
    torch.testing.assert_close(Shifted(Cosine(), 4.0).alpha(T) ** 2, torch.sigmoid(log_snr), rtol=1e-10, atol=0.0)


def test_zero_terminal_snr_is_algorithm_1_of_its_paper() -> None:
    """Table against table: they keep the first entry, which is 1 up to its beta."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=DOUBLE) ** 2
    root = (1.0 - betas).cumprod(0).sqrt()
    first, last = float(root[0]), float(root[-1])
    theirs = (root - last) * first / (first - last)
    schedule = ZeroTerminal(scaled_linear())
    ours = schedule.alpha(torch.arange(1, 1001, dtype=DOUBLE) / 1000)
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=4e-5)
    torch.testing.assert_close(ours, (root - last) / (1.0 - last), rtol=1e-9, atol=1e-15)
    assert schedule.at(1.0).is_noise
    assert schedule.at(1.0).sigma == 1.0
    torch.testing.assert_close(schedule.alpha(T) ** 2 + schedule.sigma(T) ** 2, torch.ones_like(T), rtol=1e-12, atol=0.0)
    assert schedule.at(1e-9).sigma == pytest.approx(LinearBetaLike(1e-9), rel=1e-3)


def LinearBetaLike(t: float) -> float:  # noqa: N802 - reads like the schedule it stands for
    """sigma of the rescaled table next to data: -2 log alpha grows by beta_1 per entry, stretched by 1/(1 - alpha(1))."""
    return math.sqrt(0.00085 * 1000 * t / (1.0 - math.sqrt(0.0046600)))


def test_zero_terminal_snr_of_a_schedule_that_has_it_changes_nothing() -> None:
    torch.testing.assert_close(ZeroTerminal(Cosine()).alpha(T), Cosine().alpha(T), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("base", [Flow(), EDM(), SubVP()], ids=["flow", "edm", "sub-vp"])
def test_zero_terminal_snr_refuses_what_is_not_variance_preserving(base: Schedule) -> None:
    with pytest.raises(UsageError, match="variance-preserving"):
        ZeroTerminal(base)


@every_family
def test_truncation_moves_the_ends_and_nothing_else(base: Schedule) -> None:
    cut = Truncated(base, -4.0, 3.0)
    assert cut.at(cut.noisiest).log_snr == pytest.approx(-4.0, abs=1e-6)
    assert cut.at(cut.cleanest).log_snr == pytest.approx(3.0, abs=1e-6)
    assert cut.at(0.3) == base.at(0.3)
    wide = Truncated(base, -300.0, 300.0)
    assert wide.noisiest == pytest.approx(base.noisiest)
    assert wide.cleanest < 1e-6
    assert (Truncated(cut, -5.0, 2.0).noisiest, Truncated(cut, -3.0, 4.0).cleanest) == pytest.approx((cut.noisiest, cut.cleanest))
