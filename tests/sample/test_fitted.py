# SPDX-License-Identifier: Apache-2.0
"""Tables, fixed rules as tables, and rules fitted to exact worlds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import GaussianMixture, ring, scattered, smooth
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.estimate import Gaussian
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule
from ornstein.sample import plans
from ornstein.sample.convergence import flow, rms
from ornstein.sample.draw import Sampler
from ornstein.sample.exponential import angular, deis, dpm_solver_2m, dpm_solver_3m
from ornstein.sample.fitted import fit, lessons
from ornstein.sample.least_squares import Lesson, error
from ornstein.sample.loop import sample
from ornstein.sample.multistep import ipndm
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Plan, Solver
from ornstein.sample.rules import Rule, fixed_rules, rule_of
from ornstein.sample.solvers import DDIM
from ornstein.sample.tabled import DDIM_ROW, Shares, tabled

SCHEDULES: dict[str, Schedule] = {"edm": EDM(80.0), "linear-beta": LinearBeta(), "flow": Flow(), "cosine": Cosine()}


class Frozen(Denoiser):
    """A model whose estimate never changes."""

    def __init__(self, clean: Tensor, process: GaussianProcess) -> None:
        self.clean, self.process = clean, process

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        return Gaussian(self.clean.expand_as(x))


def end(model: Denoiser, solver: Solver, plan: Plan, x: Tensor) -> Tensor:
    *_, last = sample(model, solver, plan, x, SampleNoise(range(len(x))))
    return last.x


def lesson(world: GaussianMixture, seed: int, count: int = 128, schedule: Schedule | None = None) -> Lesson:
    """Starts at sigma 80 and the exact flow of each to 0."""
    model = world.denoiser(GaussianProcess(schedule or EDM(80.0)))
    first = model.process.schedule.at(model.process.schedule.noisiest)
    x = Keys.for_draws(seed, 0, count).normal(world.means.shape[1:], torch.float64) * first.sigma
    near = model.process.schedule.at_log_snr(-2.0 * math.log(1e-4))
    return Lesson(model, x, model(flow(model, x, first, near, 96), near).x0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_table_is_exact_where_the_estimate_stands_still(name: str) -> None:
    schedule = SCHEDULES[name]
    clean = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    rule = Rule((5.0, 0.7, 0.05), tuple(Shares(0.0, p) for p in ((1.0,), (1.7, -0.7), (0.2, 0.5, 0.3), (2.0, -3.0, 1.0, 1.0))))
    plan, eps = rule.plan(schedule), Keys.for_draws(0, 0, 4).normal((2,), torch.float64)
    x = plan[0].alpha * clean + plan[0].sigma * eps
    steps = list(sample(Frozen(clean, GaussianProcess(schedule)), rule.solver, plan, x, SampleNoise(range(4))))
    assert [step.evaluations for step in steps] == [1, 2, 3, 4]
    for step in steps:
        torch.testing.assert_close(step.x, step.at.alpha * clean + step.at.sigma * eps, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_share_is_ddim(name: str) -> None:
    schedule, world = SCHEDULES[name], smooth()
    model = world.denoiser(GaussianProcess(schedule))
    plan = plans.karras(schedule, 6, sigma_min=0.02)
    x = Keys.for_draws(1, 0, 8).normal((2,), torch.float64) * plan[0].sigma
    torch.testing.assert_close(end(model, tabled([DDIM_ROW] * 6), plan, x), end(model, DDIM(), plan, x))


MULTISTEP = {"2m": dpm_solver_2m(), "3m": dpm_solver_3m(), "ipndm": ipndm(), "deis": deis(), "default": angular()}


@pytest.mark.parametrize("name", MULTISTEP)
@pytest.mark.parametrize("on", SCHEDULES)
def test_every_multistep_rule_is_one_in_shares(name: str, on: str) -> None:
    schedule = SCHEDULES[on]
    model = smooth().denoiser(GaussianProcess(schedule))
    for plan in (plans.karras(schedule, 7, sigma_min=0.02), plans.angle(schedule, 4), plans.angle(schedule, 1)):
        x = Keys.for_draws(1, 0, 8).normal((2,), torch.float64) * plan[0].sigma
        rule = rule_of(MULTISTEP[name], plan)
        torch.testing.assert_close(end(model, rule.solver, rule.plan(schedule), x), end(model, MULTISTEP[name], plan, x))


def test_fixed_rules_are_rules() -> None:
    for family in fixed_rules(Flow(), 4):
        assert len(family) > 3
        for rule in family:
            assert len(rule.ratios) == 3
            assert all(before > after > 0.0 for before, after in pairwise(rule.ratios))


@pytest.mark.parametrize("row", [Shares(0.0, (1.0, 0.0, 0.0)), Shares(0.0, ()), Shares(0.0, (math.nan,)), Shares(math.inf, (1.0,))])
def test_tables_that_are_no_rules_are_refused(row: Shares) -> None:
    with pytest.raises(UsageError, match="no rule"):
        tabled([DDIM_ROW, row])


def test_a_table_wants_a_plan_of_its_length() -> None:
    with pytest.raises(UsageError, match="2 moves, and the plan 3"):
        tabled([DDIM_ROW] * 2).init(plans.karras(EDM(80.0), 3))


START = rule_of(ipndm(), plans.karras(EDM(80.0), 4, sigma_min=0.1))
START3 = rule_of(ipndm(), plans.karras(EDM(80.0), 3, sigma_min=0.1))
WORLDS = {"ring": ring(), "smooth": smooth()}


@pytest.mark.parametrize("name", WORLDS)
def test_five_fitted_evaluations_beat_ten_on_noises_that_were_not_fitted(name: str) -> None:
    taught, unseen = lesson(WORLDS[name], 1), lesson(WORLDS[name], 2)
    fitted = fit([taught], 5, seconds=60.0)
    assert fitted.after < fitted.before
    assert fitted.after == pytest.approx(error(fitted.rule, [taught]), rel=1e-9)
    spread = float((unseen.end - unseen.end.mean(0)).square().mean().sqrt())
    ways = [(angular(), plans.angle(EDM(80.0), 10)), (dpm_solver_2m(), plans.karras(EDM(80.0), 10, sigma_min=0.02))]
    others = [rms(end(unseen.model, solver, plan, unseen.start) - unseen.end) / spread for solver, plan in ways]
    assert error(fitted.rule, [unseen]) < min(others)


def test_the_error_is_that_of_the_sampling_loop() -> None:
    taught = lesson(ring(), 3, 16, LinearBeta())
    rule = fit([taught], 3, seconds=60.0, rounds=2).rule
    found = end(taught.model, rule.solver, rule.plan(taught.model.process.schedule), taught.start)
    spread = float((taught.end - taught.end.mean(0)).square().mean().sqrt())
    assert error(rule, [taught]) == pytest.approx(rms(found - taught.end) / spread, rel=1e-9)


def test_a_rule_is_the_same_on_every_schedule() -> None:
    rule = fit([lesson(ring(), 1, 64)], 4, seconds=60.0, rounds=5).rule
    exploding = lesson(ring(), 2, 32)
    preserving = LinearBeta()
    model = ring().denoiser(GaussianProcess(preserving))
    # The same path on another schedule begins where its sigma/alpha is 80, which is not where that schedule itself begins.
    first = preserving.at_log_snr(-2.0 * math.log(80.0))
    plan = (first, *rule.plan(preserving)[1:])
    found = end(model, rule.solver, plan, exploding.start * first.alpha)
    torch.testing.assert_close(found, end(exploding.model, rule.solver, rule.plan(EDM(80.0)), exploding.start), rtol=1e-6, atol=1e-8)


def test_fitting_starts_from_a_rule_and_lowers_its_error_on_every_round() -> None:
    taught, start = [lesson(scattered(4, 3), 1, 64)], START
    errors = [fit(taught, 4, begin=start, rounds=rounds).after for rounds in (0, 1, 2, 4)]
    assert errors[0] == pytest.approx(error(start, taught))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * errors[0]


def test_several_models_are_fitted_together() -> None:
    worlds = [ring(), scattered(6, 8)]
    both = [lesson(world, 1, 64) for world in worlds]
    together = fit(both, 3, seconds=60.0).rule
    alone = fit(both[:1], 3, seconds=60.0).rule
    assert error(together, both) < error(alone, both)
    assert error(alone, both[:1]) < error(together, both[:1])


def test_time_is_kept() -> None:
    now = iter(range(0, 10_000, 10))
    taught = [lesson(ring(), 1, 32)]
    stopped = fit(taught, 4, begin=START, seconds=35.0, clock=lambda: float(next(now)))
    assert (stopped.stopped, stopped.rounds) == ("time", 1)


def test_lessons_are_the_starts_and_ends_of_a_sampler() -> None:
    process = GaussianProcess(Flow())

    def condition(seeds: Sequence[int]) -> Cond:
        return Cond(label=torch.tensor([seed % 8 for seed in seeds]))

    teacher = Sampler(ring().denoiser(process), dpm_solver_2m(), plans.karras(process.schedule, 12), (2,), condition, 8)
    given = list(lessons(teacher, range(16, 40)))
    assert [len(one.start) for one in given] == [8, 8, 8]
    drawn = torch.cat(list(teacher.draw(range(16, 40))))
    assert torch.cat([one.end for one in given]).equal(drawn)
    assert given[1].start.equal(teacher.start(range(24, 32)))
    assert fit(given, 3, seconds=60.0, rounds=3).after < 0.5


@pytest.mark.parametrize("wrong", [{"evaluations": 0}, {"history": 0}, {"given": []}])
def test_what_cannot_be_fitted_is_refused(wrong: dict) -> None:
    words = {"given": [lesson(ring(), 1, 4)], "evaluations": 2, "history": 2} | wrong
    with pytest.raises(UsageError, match="cannot be fitted"):
        fit(words["given"], words["evaluations"], history=words["history"])


def test_one_evaluation_learns_the_best_line_through_the_only_estimate() -> None:
    """From one Gaussian at sigma 80 the estimate is affine in x, and so is the flow: the end is a x + b x_0 exactly, about a mean of 0."""
    world = GaussianMixture([1.0], torch.zeros(1, 2), 0.49 * torch.eye(2)[None])
    only = fit([lesson(world, 1, 64)], 1, seconds=60.0)
    assert only.rule.ratios == ()
    assert only.after < 1e-6


def test_far_off_samples_are_weighed_down() -> None:
    taught = lesson(scattered(4, 3), 1, 64)
    spoiled = taught._replace(end=torch.cat([taught.end[:60], taught.end[60:] + 4.0]))
    sound = [taught._replace(start=taught.start[:60], end=taught.end[:60])]
    plain, robust = (fit([spoiled], 3, robust=way, begin=START3).rule for way in (False, True))
    assert error(robust, sound) < 0.5 * error(plain, sound)


def test_numbers_that_are_not_finite_are_named() -> None:
    broken = lesson(ring(), 1, 8)._replace(model=Frozen(torch.tensor(math.nan), GaussianProcess(EDM(80.0))))
    with pytest.raises(UsageError, match="finite"):
        fit([broken], 3)
