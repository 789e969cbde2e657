# SPDX-License-Identifier: Apache-2.0
"""Noise of moves as increments of one Brownian motion: the exact law, sums that add up, and pictures that stay."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from solver_cases import PLANS, SCHEDULES
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.exact.mixture import smooth
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule
from ornstein.sample import plans
from ornstein.sample.brownian import DEPTH, Path, clock, place, rows
from ornstein.sample.convergence import observed_order, rms
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise, Stretch
from ornstein.sample.protocol import Plan, Renoise
from ornstein.sample.solvers import DDIM, Ancestral

ZEROS = torch.zeros(6, 5, dtype=torch.float64)


def _places(schedule: Schedule, plan: str, moves: int) -> tuple[float, ...]:
    return tuple(place(level) for level in PLANS[plan](schedule, moves))


@pytest.mark.parametrize("moves", [1, 7, 50, 400])
@pytest.mark.parametrize("plan", ["uniform", "karras"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_moves_of_any_plan_get_independent_standard_normal_numbers(schedule: str, plan: str, moves: int) -> None:
    """The rows are orthonormal: no statistics needed."""
    combinations = rows(_places(SCHEDULES[schedule], plan, moves))
    cells = {cell: k for k, cell in enumerate(sorted({cell for row in combinations for cell in row}))}
    table = torch.zeros(moves, len(cells), dtype=torch.float64)
    for k, row in enumerate(combinations):
        for cell, value in row.items():
            table[k, cells[cell]] = value
    torch.testing.assert_close(table @ table.T, torch.eye(moves, dtype=torch.float64), rtol=0.0, atol=1e-6)


def test_clock_and_place_are_signal_to_noise() -> None:
    for schedule in (LinearBeta(), EDM(), Flow()):
        for t in (0.9, 0.5, 0.01):
            level = schedule.at(t)
            assert clock(place(level)) == pytest.approx((level.alpha / level.sigma) ** 2)
    assert place(Flow().at(1.0)) == 0.0
    assert place(Flow().at(0.0)) == 1.0
    assert (clock(0.0), clock(1.0)) == (0.0, float("inf"))


def _length(t: Level, s: Level) -> float:
    return (clock(place(s)) - clock(place(t))) ** 0.5


@pytest.mark.parametrize("schedule", [LinearBeta(), Flow(), EDM()], ids=["linear-beta", "flow", "edm"])
def test_increments_of_a_finer_plan_add_up_to_those_of_a_coarser_one(schedule: Schedule) -> None:
    fine = schedule.at_log_snr(torch.linspace(-8.0, 9.0, 33, dtype=torch.float64)).unbind()
    assert len({int(place(level) * 2**DEPTH) for level in fine}) == 33
    small, sum_ = Path(range(6), 0, fine), torch.zeros_like(ZEROS)
    for step in (2, 4, 32):
        coarse = fine[::step]
        large = Path(range(6), 0, coarse)
        for k, (t, s) in enumerate(pairwise(coarse)):
            parts = zip(fine[k * step :], fine[k * step + 1 : (k + 1) * step + 1], strict=False)
            sum_ = torch.stack([_length(a, b) * small.increment(a, b, ZEROS) for a, b in parts]).sum(0)
            torch.testing.assert_close(_length(t, s) * large.increment(t, s, ZEROS), sum_, rtol=1e-9, atol=1e-9 * _length(t, s))
            torch.testing.assert_close(small.increment(t, s, ZEROS), large.increment(t, s, ZEROS), rtol=1e-9, atol=1e-9)
    assert float(sum_.abs().min()) > 0.0


def test_levels_beside_the_plan_lie_on_the_same_path() -> None:
    schedule = LinearBeta()
    levels = plans.log_snr(schedule, 12, sigma_min=0.05)
    path = Path(range(6), 0, levels)
    t, m, s = levels[3], schedule.at_log_snr(0.5 * (levels[3].log_snr + levels[4].log_snr)), levels[4]
    total = _length(t, m) * path.increment(t, m, ZEROS) + _length(m, s) * path.increment(m, s, ZEROS)
    torch.testing.assert_close(total, _length(t, s) * path.increment(t, s, ZEROS), rtol=1e-9, atol=1e-9)


def test_plans_too_fine_for_the_cells_agree_with_coarse_ones_at_their_borders() -> None:
    schedule = Flow()
    borders = [((1.0 - c) / c) ** 2 for c in (0.25, 0.5, 0.75)]  # sigma/alpha where c is a border of cells of every level
    at = schedule.at_log_snr(-2.0 * torch.tensor(borders, dtype=torch.float64).log()).unbind()
    fine = sorted({*plans.uniform(schedule, 900), *at}, key=lambda level: -float(level.t))
    dense, bare = Path(range(6), 0, fine), Path(range(6), 0, at)
    for t, s in pairwise(at):
        torch.testing.assert_close(dense.increment(t, s, ZEROS), bare.increment(t, s, ZEROS), rtol=1e-6, atol=1e-6)


def test_noise_depends_on_seed_stretch_and_interval_alone() -> None:
    levels = plans.uniform(LinearBeta(), 10)
    path, big = Path(range(6), 0, levels), torch.zeros(6, 3, 40, 40)
    first = [path.increment(t, s, big) for t, s in pairwise(levels)]
    again = [Path(range(6), 0, levels).increment(t, s, big) for t, s in pairwise(levels)]
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    for k in (7, 2, 2, 9):  # in any order
        assert path.increment(levels[k], levels[k + 1], big).equal(first[k])
    alone = Path([4], 0, levels)
    for k in range(10):
        torch.testing.assert_close(alone.increment(levels[k], levels[k + 1], big[:1])[0], first[k][4], rtol=1e-5, atol=1e-6)
        exact = path.increment(levels[k], levels[k + 1], big.double())
        torch.testing.assert_close(first[k].double(), exact, rtol=1e-5, atol=1e-6)
    others = (Path(range(6), 1, levels), Path(range(1, 7), 0, levels))
    for other in others:
        correlation = (other.increment(levels[2], levels[3], big) * first[2]).mean()
        assert abs(float(correlation)) < 4 / big.numel() ** 0.5


def test_statistics_of_the_increments_over_many_seeds() -> None:
    """Variance, correlation between moves, and of a coarse with a fine increment: sqrt(share of the interval)."""
    n, schedule = 20_000, Flow()
    fine = schedule.at_log_snr(torch.linspace(-4.0, 6.0, 9, dtype=torch.float64)).unbind()
    like = torch.zeros(n, 1)
    path, coarse = Path(range(n), 0, fine), Path(range(n), 0, fine[::4])
    x = torch.cat([path.increment(t, s, like) for t, s in pairwise(fine)], 1).double()
    torch.testing.assert_close(x.T @ x / n, torch.eye(8, dtype=torch.float64), rtol=0.0, atol=4.5 / n**0.5)
    for k in range(8):
        ranks = torch.distributions.Normal(0.0, 1.0).cdf(x[:, k].sort().values)
        assert float((ranks - (torch.arange(n) + 0.5) / n).abs().max()) < 1.8 / n**0.5
    t, s = fine[4], fine[8]
    whole = coarse.increment(t, s, like).double()
    share = torch.tensor([_length(a, b) / _length(t, s) for a, b in pairwise(fine[4:])], dtype=torch.float64)
    torch.testing.assert_close((whole * x[:, 4:]).mean(0), share, rtol=0.0, atol=4 / n**0.5)


class Constant(Denoiser):
    """Says the same clean data everywhere."""

    def __init__(self, schedule: Schedule) -> None:
        self.process = GaussianProcess(schedule)

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        return Gaussian(torch.full_like(x, 0.3))


@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(), EDM()], ids=["linear-beta", "cosine", "edm"])
def test_where_the_estimate_holds_still_ancestral_sampling_does_not_depend_on_the_steps(schedule: Schedule) -> None:
    """The observation process of the module's docstring, exactly."""
    fine = (schedule.at(schedule.noisiest), *schedule.at_log_snr(torch.linspace(-7.0, 7.0, 25, dtype=torch.float64)).unbind())
    x = fine[0].sigma * Keys.for_draws(0, 0, 6).normal((5,), torch.float64)
    ends = []
    for plan in (fine, (fine[0], *fine[1::4]), (fine[0], fine[13], fine[25])):
        *_, last = sample(Constant(schedule), Ancestral(), plan, x, SampleNoise(range(6)))
        ends.append(last.x)
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0], rtol=1e-9, atol=1e-9)


def _ends(moves: int, seed: int = 0) -> Tensor:
    schedule, n = LinearBeta(), 200
    levels = schedule.at_log_snr(torch.linspace(-5.0, 7.0, moves + 1, dtype=torch.float64)).unbind()
    x = Keys.for_draws(3, 0, n).normal((2,), torch.float64)
    *_, last = sample(smooth().denoiser(GaussianProcess(schedule)), Ancestral(), levels, x, SampleNoise(range(seed, seed + n)))
    return last.x


def test_a_seed_keeps_its_point_when_the_step_count_changes() -> None:
    """Ancestral sampling converges along each path, with strong order one; with other noise it would not converge at all."""
    moves = (8, 16, 32)
    ends = [_ends(count) for count in (*moves, 64)]
    errors = [rms(coarse - fine) for coarse, fine in pairwise(ends)]
    assert observed_order(moves, errors) == pytest.approx(1.0, abs=0.25)
    assert errors[-1] < 0.08
    assert rms(ends[-1] - _ends(64, seed=1000)) > 0.5


def test_stretches_between_renoises_have_motions_of_their_own() -> None:
    schedule = LinearBeta()
    high, low = schedule.at(0.6), schedule.at(0.3)
    plan: Plan = (high, low, Renoise(high), low)
    steps = list(sample(Constant(schedule), Ancestral(), plan, ZEROS, SampleNoise(range(6))))
    law = GaussianProcess(schedule).reverse_law(Gaussian(torch.full_like(ZEROS, 0.3)), ZEROS, high, low)
    first = (steps[0].x - law.mean) / law.std
    law = GaussianProcess(schedule).reverse_law(Gaussian(torch.full_like(ZEROS, 0.3)), steps[1].x, high, low)
    second = (steps[2].x - law.mean) / law.std
    torch.testing.assert_close(first, SampleNoise(range(6)).stretch(0, (high, low)).move(9, high, low).normal(ZEROS))
    torch.testing.assert_close(second, SampleNoise(range(6)).stretch(1, (high, low)).move(9, high, low).normal(ZEROS))
    assert float((first - second).abs().min()) > 1e-4


def test_what_has_no_interval_is_keyed_by_the_move() -> None:
    schedule, noise = LinearBeta(), SampleNoise(range(6))
    high, low = schedule.at(0.6), schedule.at(0.3)
    move = noise.stretch(0, (high, low)).move(4, high, low)
    assert move.normal(ZEROS, 1).equal(noise.move(4).normal(ZEROS, 1))
    assert move.uniform(ZEROS).equal(noise.move(4).uniform(ZEROS))
    assert not move.normal(ZEROS).allclose(noise.move(4).normal(ZEROS))
    own = noise.stretch(0, (high, low)).move(4, high.rows(6), low.rows(6))
    assert own.normal(ZEROS).equal(noise.move(4).normal(ZEROS))


def test_a_deterministic_solver_asks_for_none() -> None:
    class Silent(SampleNoise):
        def stretch(self, number: int, levels: tuple[Level, ...]) -> Stretch:
            self.asked = super().stretch(number, levels)
            return self.asked

    schedule, noise = LinearBeta(), Silent(range(6))
    list(sample(Constant(schedule), DDIM(), plans.uniform(schedule, 3), ZEROS, noise))
    assert "path" not in vars(noise.asked)
    list(sample(Constant(schedule), DDIM(0.5), plans.uniform(schedule, 3), ZEROS, noise))
    assert "path" in vars(noise.asked)
