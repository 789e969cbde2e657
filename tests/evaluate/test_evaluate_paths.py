# SPDX-License-Identifier: Apache-2.0
"""Straightness of paths and cost of steps, against worlds whose flow is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ornstein.base.keys import Keys, generator_of
from ornstein.evaluate.discretisation import Cost, Start, errors, order
from ornstein.evaluate.straightness import flow_levels, gaussian_path, path, place, straightness
from ornstein.exact.empirical import Empirical
from ornstein.exact.mixture import GaussianMixture, smooth
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.schedule import EDM, Flow, LinearBeta, Schedule
from ornstein.sample import plans
from ornstein.sample.noise import SampleNoise
from ornstein.sample.runge_kutta import heun
from ornstein.sample.solvers import DDIM, DPMSolverMultistep

MEAN, VARIANCES = torch.tensor([0.4, -1.0, 0.0], dtype=torch.float64), torch.tensor([0.2, 1.5, 4.0], dtype=torch.float64)


def stacked(nodes: list[tuple[float, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.tensor([u for u, _ in nodes], dtype=torch.float64), torch.stack([z for _, z in nodes])


@pytest.mark.parametrize("schedule", [EDM(), LinearBeta()], ids=["edm", "linear"])
def test_paths_of_gaussian_data_are_those_of_the_closed_form(schedule: Schedule) -> None:
    world = GaussianMixture([1.0], MEAN[None], VARIANCES.diag()[None])
    end = torch.randn(5, 3, dtype=torch.float64, generator=generator_of("ends"))
    plan = flow_levels(schedule, 120)
    first = torch.tensor([place(plan[0])], dtype=torch.float64)
    x = gaussian_path(first, MEAN, VARIANCES, end)[0] * (float(plan[0].alpha) + float(plan[0].sigma))
    u, z = stacked(list(path(world.denoiser(GaussianProcess(schedule)), heun(), plan, x, SampleNoise(range(5)))))
    assert u.tolist() == pytest.approx([float(first) * (1 - i / 120) for i in range(121)], abs=1e-9)
    exact = gaussian_path(u, MEAN, VARIANCES, end)
    assert float((z - exact).abs().max()) < 4e-3
    found, wanted = straightness(u, z), straightness(u, exact)
    for name in ("stretch", "defect", "turning"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=0.02, atol=1e-3)


def test_one_point_of_data_has_straight_paths() -> None:
    world = Empirical(torch.tensor([[1.0, -2.0]]))
    x = torch.randn(4, 2, dtype=torch.float64, generator=generator_of("start"))
    u, z = stacked(list(path(world.denoiser(GaussianProcess(Flow())), heun(), flow_levels(Flow(), 10), x, SampleNoise(range(4)))))
    found = straightness(u, z)
    torch.testing.assert_close(found.stretch, torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(found.defect, torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.turning, torch.zeros(4, dtype=torch.float64), atol=1e-6, rtol=0)


def test_straightness_of_round_gaussian_data_in_closed_form() -> None:
    """Round data of variance v about 0 move on rays at the radius r(u) = sqrt((1-u)^2 v + u^2), which has its least at v/(1+v)."""
    v, u = 4.0, torch.linspace(1, 0, 4001, dtype=torch.float64)
    end = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    found = straightness(u, gaussian_path(u, torch.zeros(2), torch.full((2,), v), end))
    least = math.sqrt(v / (1 + v))
    assert float(found.stretch) == pytest.approx((1 - least + math.sqrt(v) - least) / (math.sqrt(v) - 1), rel=1e-6)
    assert float(found.turning) == pytest.approx(math.pi, rel=1e-6)  # it turns back once
    speed = ((1 + v) * u - v).square() / ((1 - u).square() * v + u.square())  # (dr/du)^2
    wanted = float(-torch.trapezoid(speed, u)) / (math.sqrt(v) - 1) ** 2 - 1
    assert float(found.defect) == pytest.approx(wanted, rel=1e-5)


def test_a_quarter_circle() -> None:
    angle = torch.linspace(0, math.pi / 2, 2001, dtype=torch.float64)
    z = torch.stack([angle.cos(), angle.sin()], 1)[:, None]
    found = straightness(torch.linspace(1, 0, 2001, dtype=torch.float64), z)
    assert float(found.stretch) == pytest.approx(math.pi / 2 / math.sqrt(2), rel=1e-6)
    assert float(found.turning) == pytest.approx(math.pi / 2, rel=1e-3)
    assert float(found.defect) == pytest.approx((math.pi / 2) ** 2 / 2 - 1, rel=1e-5)  # even speed pi/2 against a chord of sqrt 2


def test_errors_fall_with_the_order_of_the_solver() -> None:
    schedule = EDM(sigma_max=3.0)
    model = smooth().denoiser(GaussianProcess(schedule))
    noise = SampleNoise(range(24))
    x = 3.0 * Keys.for_seeds(noise.seeds, 0, "x").normal((2,), torch.float64)
    solvers = {"ddim": DDIM(), "dpm++2m": DPMSolverMultistep(), "heun": heun("log-snr")}
    asked: list[str] = []
    found = errors(
        Start(model, x, noise), solvers, lambda n: plans.log_snr(schedule, n, 0.02), (16, 32, 64), heun("log-snr"), 320, 0.9, asked.append
    )
    assert asked == ["reference", *solvers]
    assert found.floor < 1e-4
    for name, solver in solvers.items():
        slope = order(found.costs[name], found.floor)
        assert slope is not None
        assert slope == pytest.approx(solver.order, abs=0.3)
    assert [cost.evaluations for cost in found.costs["heun"]] == [31, 63, 127]  # the last move, into clean data, takes one
    assert [cost.evaluations for cost in found.costs["ddim"]] == [16, 32, 64]


def test_errors_are_in_standard_deviations_of_the_data() -> None:
    schedule = EDM(sigma_max=3.0)
    start = Start(smooth().denoiser(GaussianProcess(schedule)), torch.ones(2, 2, dtype=torch.float64), SampleNoise(range(2)))
    one, two = (
        errors(start, {"ddim": DDIM()}, lambda n: plans.log_snr(schedule, n, 0.02), (4,), DDIM(), 40, std).costs["ddim"][0].error
        for std in (1.0, 2.0)
    )
    assert one == pytest.approx(2 * two)


def test_an_order_needs_three_errors_above_what_the_reference_can_tell() -> None:
    costs = [Cost(moves, moves, error) for moves, error in ((2, 1.0), (4, 0.25), (8, 0.0625), (16, 1e-5))]
    assert order(costs, floor=0.01) == pytest.approx(2)
    assert order(costs, floor=0.1) is None
