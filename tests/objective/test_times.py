# SPDX-License-Identifier: Apache-2.0
"""Times follow their stated laws, belong to their draw number and stay on the schedule."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.base.registry import entry, load, names
from ornstein.objective.times import LogitNormal, LogNormalSigma, Stratified, TimeSampler, Uniform
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule

N = 4000
SCHEDULES: dict[str, Schedule] = {name: load(entry("schedule", name))() for name in names("schedule")}


def _make(name: str, schedule: Schedule) -> TimeSampler:
    part = entry("times", name)
    wired = {"schedule": schedule, "strata": 64}
    sampler: TimeSampler = load(part)(**{argument: wired[argument] for argument in part.wired})
    return sampler


def _distance(t: Tensor, cdf: Callable[[Tensor], Tensor]) -> float:
    """Kolmogorov-Smirnov distance of draws from a law, in units of its 1 % point."""
    ranks = cdf(t.sort().values)
    n = len(t)
    grid = torch.arange(n, dtype=torch.float64) / n
    return float(torch.maximum((ranks - grid).abs(), (ranks - grid - 1.0 / n).abs()).max()) * n**0.5 / 1.63


@pytest.mark.parametrize("name", names("times"))
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_every_sampler_stays_on_the_schedule_and_belongs_to_its_keys(name: str, schedule: Schedule) -> None:
    sampler = _make(name, schedule)
    t, weight = sampler(Keys.for_draws(0, 0, 256))
    assert t.shape == weight.shape == (256,)
    assert t.dtype == weight.dtype == torch.float64
    assert bool(((t > 0.0) & (t >= schedule.cleanest) & (t <= schedule.noisiest)).all())
    assert bool((weight == 1.0).all())
    # To the last digit but one: vectorised and single elements round differently.
    torch.testing.assert_close(sampler(Keys.for_draws(0, 100, 50))[0], t[100:150], rtol=1e-14, atol=0.0)
    assert not sampler(Keys.for_draws(1, 0, 256))[0].equal(t)
    level = schedule.at(t)
    assert all(bool(torch.isfinite(torch.as_tensor(number)).all()) for number in level)


@pytest.mark.parametrize("schedule", [Flow(), EDM(80.0)], ids=["flow", "edm"])
def test_uniform_is_uniform(schedule: Schedule) -> None:
    t, _ = Uniform(schedule, start=0.01)(Keys.for_draws(0, 0, N))
    assert _distance(t, lambda u: (u - 0.01) / (schedule.noisiest - 0.01)) < 1.0
    assert float(t.min()) > 0.01


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-1.0, 0.5)])
def test_logit_normal_is_logit_normal(mean: float, std: float) -> None:
    law = torch.distributions.Normal(mean, std)
    for schedule in (Flow(), EDM(4.0)):
        t, _ = LogitNormal(schedule, mean, std)(Keys.for_draws(0, 0, N))
        assert _distance(t, lambda u, end=schedule.noisiest: law.cdf(torch.logit(u / end))) < 1.0


@pytest.mark.parametrize("schedule", [LinearBeta(), Flow(), EDM(1e6)], ids=["linear-beta", "flow", "edm"])
def test_log_normal_sigma_is_log_normal_in_noise_to_signal(schedule: Schedule) -> None:
    t, _ = LogNormalSigma(schedule, -1.2, 1.2)(Keys.for_draws(0, 0, N))
    log_ratio = -torch.as_tensor(schedule.at(t).half_log_snr)
    assert _distance(log_ratio, torch.distributions.Normal(-1.2, 1.2).cdf) < 1.0


def test_log_normal_sigma_is_cut_at_the_noisiest_level() -> None:
    t, _ = LogNormalSigma(EDM(1.0), 0.0, 1.0)(Keys.for_draws(0, 0, 400))
    assert float(t.max()) == pytest.approx(0.5)
    assert 0.4 < float((t > 0.5 - 1e-9).double().mean()) < 0.6


def test_stratified_puts_one_draw_in_every_stratum_of_every_batch() -> None:
    strata, schedule = 50, EDM(80.0)
    for batch in range(3):
        t, _ = Stratified(schedule, strata, start=0.01)(Keys.for_draws(0, batch * strata, strata))
        place = (t - 0.01) / (schedule.noisiest - 0.01) * strata
        assert place.floor().tolist() == list(range(strata))


def test_stratified_is_the_same_however_a_batch_is_split() -> None:
    sampler = Stratified(Cosine(), 32)
    whole, _ = sampler(Keys.for_draws(0, 64, 32))
    parts = [sampler(Keys.for_draws(0, 64 + 8 * i, 8))[0] for i in range(4)]
    ranks = [sampler(Keys(tuple((0, 64 + i) for i in range(rank, 32, 2))))[0] for rank in range(2)]
    assert torch.cat(parts).equal(whole)
    assert torch.stack(ranks, 1).flatten().equal(whole)


def test_stratified_is_uniform_over_a_run_and_quieter_than_independent_draws() -> None:
    """Its mean of any function is unbiased; over a batch of n its error falls like n^-1.5 instead of n^-0.5."""
    strata, batches, schedule = 64, 60, Flow()
    stratified, uniform = Stratified(schedule, strata, 1e-9), Uniform(schedule, 1e-9)
    keys = Keys.for_draws(0, 0, strata * batches)
    assert _distance(stratified(keys)[0], lambda u: u) < 1.0

    def means(sampler: TimeSampler) -> Tensor:
        return (sampler(keys)[0] ** 2).reshape(batches, strata).mean(1)

    quiet, loud = means(stratified), means(uniform)
    assert abs(float(quiet.mean()) - 1.0 / 3.0) < 3.0 * float(quiet.std()) / batches**0.5
    assert abs(float(loud.mean()) - 1.0 / 3.0) < 3.0 * float(loud.std()) / batches**0.5
    assert float(quiet.std() / loud.std()) < 3.0 / strata
