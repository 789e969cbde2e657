# SPDX-License-Identifier: Apache-2.0
"""The reverse law against Bayes' rule worked out by hand, and against torch's own distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions

from ornstein.base.keys import Keys
from ornstein.base.registry import entry, load, names
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess, NormalLaw
from ornstein.process.level import CLEAN, Level
from ornstein.process.schedule import Cosine, Schedule

SCHEDULES: dict[str, Schedule] = {name: load(entry("schedule", name))() for name in names("schedule")}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


class OneNoise:
    """The same number everywhere; counts how often it is asked."""

    def __init__(self, value: float = 1.0) -> None:
        self.value, self.asked = value, 0

    def normal(self, like: Tensor, stage: int = 0) -> Tensor:
        self.asked += 1
        return torch.full_like(like, self.value)

    def uniform(self, like: Tensor, stage: int = 0) -> Tensor:
        raise AssertionError("a Gaussian law has no use for uniform numbers")


def _numbers(n: int, *words: str) -> Tensor:
    return Keys.for_draws(3, 0, n, "/".join(words)).normal((2,), torch.float64)


def _pair(schedule: Schedule) -> tuple[Level, Level]:
    return schedule.at(0.7 * schedule.noisiest), schedule.at(0.4 * schedule.noisiest)


@every_schedule
def test_posterior_is_bayes_rule(schedule: Schedule) -> None:
    """q(x_s | x_t, x_0) ~ q(x_t | x_s) q(x_s | x_0), both normal: precisions add up."""
    (t, s), process = _pair(schedule), GaussianProcess(schedule)
    x0, x = _numbers(6, "x0"), _numbers(6, "x")
    ratio = t.alpha / s.alpha
    forward = t.sigma**2 - (ratio * s.sigma) ** 2
    precision = 1.0 / s.sigma**2 + ratio**2 / forward
    mean = (s.alpha * x0 / s.sigma**2 + ratio * x / forward) / precision
    law = process.reverse_law(Gaussian(x0), x, t, s)
    torch.testing.assert_close(law.mean, mean, rtol=1e-12, atol=1e-13)
    assert law.std == pytest.approx(precision**-0.5, rel=1e-12)


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_every_eta_keeps_the_marginal_law_given_x0(schedule: Schedule, eta: float) -> None:
    """With x_t = alpha x_0 + sigma eps exactly, x_s has mean alpha_s x_0 and variance sigma_s^2 for any eta (2010.02502, lemma 1)."""
    (t, s), process = _pair(schedule), GaussianProcess(schedule)
    x0 = _numbers(4, "x0")
    at_mean = process.reverse_law(Gaussian(x0), t.alpha * x0, t, s, eta)
    torch.testing.assert_close(at_mean.mean, s.alpha * x0, rtol=1e-11, atol=1e-12)
    slope = process.reverse_law(Gaussian(x0), t.alpha * x0 + 1.0, t, s, eta).mean - at_mean.mean
    variance = (slope * t.sigma) ** 2 + at_mean.std**2
    torch.testing.assert_close(variance, torch.full_like(x0, s.sigma**2), rtol=1e-10, atol=1e-12)


@every_schedule
def test_ancestral_moves_of_gaussian_data_compose_exactly(schedule: Schedule) -> None:
    """Bayes for Gaussian data N(m, v): mixing the law over q(x_0 | x_t) gives q(x_s | x_t), whose moments are known."""
    (t, s), process = _pair(schedule), GaussianProcess(schedule)
    mean, variance, x = 0.7, 0.3, _numbers(5, "x")
    total = t.alpha**2 * variance + t.sigma**2
    told = mean + t.alpha * variance / total * (x - t.alpha * mean)
    left = variance * t.sigma**2 / total
    law = process.reverse_law(Gaussian(told), x, t, s)
    slope = process.reverse_law(Gaussian(told + 1.0), x, t, s).mean - law.mean
    # Directly: Cov(x_s, x_t) = (alpha_t/alpha_s) Var(x_s).
    at_s = s.alpha**2 * variance + s.sigma**2
    covariance = t.alpha / s.alpha * at_s
    expected = s.alpha * mean + covariance / total * (x - t.alpha * mean)
    torch.testing.assert_close(law.mean, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(slope**2 * left + law.std**2, torch.full_like(x, at_s - covariance**2 / total), rtol=1e-10, atol=1e-12)


def test_spread_moves_the_log_variance_between_posterior_and_forward() -> None:
    schedule = Cosine()
    t, s = schedule.at(0.8), schedule.at(0.5)
    process, x = GaussianProcess(schedule), _numbers(3, "x")
    forward = t.sigma**2 - (t.alpha / s.alpha * s.sigma) ** 2
    posterior = forward * s.sigma**2 / t.sigma**2
    plain = process.reverse_law(Gaussian(x), x, t, s)
    for spread, variance in ((0.0, posterior), (1.0, forward), (0.5, math.sqrt(forward * posterior))):
        for told in (spread, torch.full_like(x, spread)):
            law = process.reverse_law(Gaussian(x, told), x, t, s)
            std = torch.as_tensor(law.std, dtype=x.dtype).expand_as(x)
            torch.testing.assert_close(std, torch.full_like(x, variance**0.5), rtol=1e-12, atol=0.0)
            torch.testing.assert_close(law.mean, plain.mean)
        per_sample = process.reverse_law(Gaussian(x, torch.full_like(x, spread)), x, t.rows(3), s.rows(3))
        torch.testing.assert_close(torch.as_tensor(per_sample.std), torch.full_like(x, variance**0.5), rtol=1e-12, atol=0.0)


def test_the_deterministic_move_asks_for_no_noise_whatever_the_denoiser_says_of_variance() -> None:
    schedule, noise = Cosine(), OneNoise()
    x = _numbers(3, "x")
    law = GaussianProcess(schedule).reverse_law(Gaussian(0.5 * x, 0.3), x, schedule.at(0.8), schedule.at(0.5), eta=0.0)
    torch.testing.assert_close(law.draw(noise), law.mean)
    assert noise.asked == 0


def test_moves_at_the_ends() -> None:
    schedule = Cosine()
    process, x, x0 = GaussianProcess(schedule), _numbers(3, "x"), _numbers(3, "x0")
    into_clean = process.reverse_law(Gaussian(x0), x, schedule.at(0.1), CLEAN)
    assert into_clean.draw(OneNoise()) is x0
    s = schedule.at(0.9)
    out_of_noise = process.reverse_law(Gaussian(x0), x, schedule.at(1.0), s)
    torch.testing.assert_close(out_of_noise.mean, s.alpha * x0)
    assert out_of_noise.std == pytest.approx(s.sigma)
    straight = process.reverse_law(Gaussian(x0), x, schedule.at(1.0), s, eta=0.0)
    torch.testing.assert_close(straight.mean, s.alpha * x0 + s.sigma * x)


def test_per_sample_levels_equal_one_level_at_a_time() -> None:
    schedule = Cosine()
    process, x, x0 = GaussianProcess(schedule), _numbers(3, "x"), _numbers(3, "x0")
    t, s = (schedule.at(torch.tensor(times, dtype=torch.float64)) for times in ([0.9, 0.7, 0.5], [0.6, 0.65, 0.1]))
    law = process.reverse_law(Gaussian(x0), x, t, s, 0.5)
    for i, (start, end) in enumerate(zip(t.unbind(), s.unbind(), strict=True)):
        one = process.reverse_law(Gaussian(x0[i : i + 1]), x[i : i + 1], start, end, 0.5)
        torch.testing.assert_close(law.mean[i : i + 1], one.mean)
        torch.testing.assert_close(law.std[i], torch.tensor(one.std, dtype=torch.float64))  # type: ignore[index]


@every_schedule
def test_renoise_carries_the_marginal_law_upwards(schedule: Schedule) -> None:
    (t, s), process = _pair(schedule), GaussianProcess(schedule)
    x0, eps = _numbers(4, "x0"), _numbers(4, "eps")
    quiet = process.renoise(process.corrupt(x0, eps, s), s, t, OneNoise(0.0))
    torch.testing.assert_close(quiet, t.alpha * x0 + t.alpha / s.alpha * s.sigma * eps, rtol=1e-12, atol=1e-13)
    added = process.renoise(process.corrupt(x0, eps, s), s, t, OneNoise()) - quiet
    torch.testing.assert_close(added**2 + (t.alpha / s.alpha * s.sigma) ** 2, torch.full_like(x0, t.sigma**2), rtol=1e-11, atol=0.0)
    ones = torch.ones_like(x0)
    torch.testing.assert_close(process.renoise(x0, CLEAN, t, OneNoise()), process.corrupt(x0, ones, t), rtol=1e-12, atol=1e-13)


def test_prior_has_the_standard_deviation_of_the_noisiest_level() -> None:
    schedule = SCHEDULES["edm"]
    process, keys = GaussianProcess(schedule), Keys.for_draws(0, 0, 2000)
    x = process.prior((4,), keys)
    torch.testing.assert_close(x, 80.0 * process.draw((4,), keys))
    assert float(x.std()) == pytest.approx(80.0, rel=0.02)


@pytest.mark.parametrize("std", [0.7, torch.tensor([0.3, 0.5, 2.0], dtype=torch.float64)], ids=["one", "per sample"])
def test_density_and_divergence_agree_with_torch(std: float | Tensor) -> None:
    mean, x = _numbers(3, "mean"), _numbers(3, "x")
    law, other = NormalLaw(mean, std), NormalLaw(x, 1.3)
    spread = torch.as_tensor(std, dtype=torch.float64).reshape(-1, 1).expand_as(mean)
    peer = distributions.Normal(mean, spread)
    torch.testing.assert_close(law.log_prob(x), peer.log_prob(x).sum(1), rtol=1e-12, atol=0.0)
    expected = distributions.kl_divergence(peer, distributions.Normal(x, torch.tensor(1.3, dtype=torch.float64))).sum(1)
    torch.testing.assert_close(law.kl(other), expected, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(law.draw(OneNoise(2.0)), mean + 2.0 * spread)
