# SPDX-License-Identifier: Apache-2.0
"""The exponential family: rules that are the same have the same rows, and rows equal the formulas of the papers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import ring
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule
from ornstein.sample import plans
from ornstein.sample.exponential import (
    Exponential,
    angular,
    data_multistep,
    deis,
    dpm_solver_2m,
    dpm_solver_2m_sde,
    dpm_solver_3m,
    dpm_solver_3m_sde,
    sa_solver,
    unipc,
)
from ornstein.sample.loop import sample
from ornstein.sample.multistep import Multistep, Row, Table, ipndm
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Solver
from ornstein.sample.singlestep import dpm_solver, dpm_solver_pp
from ornstein.sample.solvers import DDIM
from ornstein.sample.spaces import Angle, Data, Eps

N = 6
EPS = Keys.for_draws(0, 0, N).normal((2,), torch.float64)
UNEVEN = (0.97, 0.8, 0.55, 0.5, 0.3, 0.22)


def _run(solver: Solver, plan: tuple[Level, ...], schedule: Schedule) -> Tensor:
    model = ring().denoiser(GaussianProcess(schedule))
    *_, last = sample(model, solver, plan, plan[0].sigma * EPS, SampleNoise(range(N)))
    return last.x


def _levels(schedule: Schedule) -> tuple[Level, ...]:
    return schedule.at(schedule.noisiest * torch.tensor(UNEVEN, dtype=torch.float64)).unbind()


SAME: dict[str, tuple[Solver, Solver]] = {
    "one point on x_0 is DDIM": (data_multistep(1), DDIM()),
    "one point on eps is DDIM": (deis(1), DDIM()),
    "one point on eps in sigma is DDIM": (deis(1, "sigma"), DDIM()),
    "iPNDM of order 1 is DDIM": (ipndm(1), DDIM()),
    "UniPC of order 1 without corrector is DDIM": (unipc(1, corrector=False), DDIM()),
    "UniPC of order 2 without corrector is 2M": (unipc(2, corrector=False), dpm_solver_2m()),
    "UniPC of order 3 without corrector is 3M but for its second move": (unipc(3, corrector=False, moment="exact"), dpm_solver_3m()),
    "2M-SDE without noise is 2M": (dpm_solver_2m_sde(0.0), dpm_solver_2m()),
    "3M-SDE without noise is 3M": (dpm_solver_3m_sde(0.0), dpm_solver_3m()),
    "SA without noise is UniPC": (sa_solver(3, 0.0), unipc(3, moment="exact")),
    "SA without corrector is SDE-DPM-Solver++": (sa_solver(2, 1.0, corrector=False), data_multistep(2, 1.0)),
}


@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(), EDM()], ids=["linear-beta", "cosine", "edm"])
@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_the_same_rule_by_two_roads(pair: tuple[Solver, Solver], schedule: Schedule) -> None:
    plan = _levels(schedule)
    one, other = (_run(solver, plan, schedule) for solver in pair)
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_one_point_of_the_sde_form_is_ddpm() -> None:
    """SDE-DPM-Solver++ of first order is ancestral sampling (2211.01095, section 3.4)."""
    schedule = LinearBeta()
    torch.testing.assert_close(_run(data_multistep(1, 1.0), _levels(schedule), schedule), _run(DDIM(1.0), _levels(schedule), schedule))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_on_equal_steps_of_sigma_constants_and_integrals_agree(order: int) -> None:
    schedule = EDM()
    plan = schedule.at_log_snr(-2.0 * torch.linspace(3.0, 0.5, 8, dtype=torch.float64).log()).unbind()
    torch.testing.assert_close(_run(ipndm(order), plan, schedule), _run(deis(order, "sigma"), plan, schedule), rtol=1e-9, atol=1e-9)
    uneven = _levels(schedule)
    if order > 1:
        assert not _run(ipndm(order), uneven, schedule).allclose(_run(deis(order, "sigma"), uneven, schedule), rtol=1e-3)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_angle_lies_between_x_0_and_eps(order: int) -> None:
    """With a vanishing guess of the data's deviation F is x_0, with a huge one it is eps, up to a factor."""
    schedule = EDM()
    plan = _levels(schedule)
    for scale, space in ((1e-7, Data()), (1e7, Eps())):
        ends = [_run(Multistep(Exponential(where, order, "sigma"), order), plan, schedule) for where in (Angle(scale), space)]
        torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


def test_in_the_angle_a_gaussian_guess_is_solved_exactly() -> None:
    """F vanishes for data N(0, c^2), whatever the steps and from pure noise to clean data."""
    schedule, scale = Cosine(), 0.7
    rows = Exponential(Angle(scale), 2)(plans.uniform(schedule, 3))
    x, plan = EPS, plans.uniform(schedule, 3)
    for row, t in zip(rows, plan, strict=False):
        variance = t.sigma**2 + (scale * t.alpha) ** 2
        x0 = scale**2 * t.alpha / variance * x
        assert row.read is not None
        assert float((row.read[0] * x + row.read[1] * x0).abs().max()) < 1e-12
        x = row.keep * x
    torch.testing.assert_close(x, scale * EPS)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("rule", [Exponential(Data(), 4), Exponential(Data(0.6), 4), Exponential(Eps(), 4), Exponential(Eps(), 4, "sigma"),
                                  Exponential(Angle(0.4), 4)])  # fmt: skip
def test_rows_are_exact_for_polynomials(rule: Exponential, order: int) -> None:
    """A row of k points integrates polynomials of degree k - 1 in its variable: against a fine trapezoidal rule."""
    plan = _levels(LinearBeta())
    lam = torch.tensor([level.half_log_snr for level in plan], dtype=torch.float64)
    move = order - 1
    fine = torch.linspace(float(lam[move]), float(lam[move + 1]), 200_001, dtype=torch.float64)
    s = plan[move + 1]
    if isinstance(rule.space, Data):
        rate = 1.0 + rule.space.tau**2
        density = s.alpha * rate * torch.exp(-rate * (lam[move + 1] - fine))
    elif isinstance(rule.space, Eps):
        density = -s.alpha * torch.exp(-fine)
    else:
        c, u = rule.space.scale, torch.exp(-fine)
        density = math.hypot(s.sigma, c * s.alpha) * c * u / (u**2 + c**2)
    row = rule(plan)[move]
    assert len(row.weights) == order
    for degree in range(order):
        places = torch.as_tensor(rule.variable(lam.numpy()))
        value = torch.as_tensor(rule.variable(fine.numpy())) ** degree
        expected = float(torch.trapezoid(density * value, fine))
        found = sum(weight * float(places[move - k]) ** degree for k, weight in enumerate(row.weights))
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-9)


def _unipc_by_the_paper(plan: tuple[Level, ...], schedule: Schedule, order: int, moment: str) -> Tensor:
    """2302.04867, algorithms 5 to 8 on x_0: differences D_m / r_m, and R_p(h) a = phi_p(h) / B(h) solved anew each move."""
    model = ring().denoiser(GaussianProcess(schedule))
    lam = [float(level.half_log_snr) for level in plan]
    x, values, base = plan[0].sigma * EPS, [], None
    for i, (t, s) in enumerate(pairwise(plan)):
        values.append(model(x, t).x0)
        if i:
            x = _unipc_move(base, values[i - 1], plan[i - 1], t, [i, *range(i - 2, max(i - 1 - order, -1), -1)], i - 1, lam, values, moment)
        base = x
        x = _unipc_move(base, values[i], t, s, [*range(i - 1, max(i - order, -1), -1)], i, lam, values, moment)
    return x


def _unipc_move(x: Tensor, now: Tensor, t: Level, s: Level, others: list[int], at: int, lam: list[float], values: list[Tensor],
                moment: str) -> Tensor:  # fmt: skip
    h = lam[at + 1] - lam[at]
    b = h if moment == "b1" else math.expm1(-h) / -1.0
    phi, powers = -math.expm1(-h), []
    for k in range(1, len(others) + 1):  # integral of e^{-h(1-tau)} h tau^k
        phi = 1.0 - k * phi / h
        powers.append(phi)
    result = s.sigma / t.sigma * x - s.alpha * math.expm1(-h) * now
    if not others:
        return result
    r = torch.tensor([(lam[j] - lam[at]) / h for j in others], dtype=torch.float64)
    if len(others) == 1:
        shares = torch.tensor([0.5], dtype=torch.float64)
    else:
        matrix = torch.stack([r**k for k in range(len(others))])
        shares = torch.linalg.solve(matrix, torch.tensor(powers, dtype=torch.float64) / b)
    for share, ratio, j in zip(shares.tolist(), r.tolist(), others, strict=True):
        result = result + s.alpha * b * share * (values[j] - now) / ratio
    return result


@pytest.mark.parametrize("moment", ["b1", "b2"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_unipc_is_the_algorithm_of_its_paper(order: int, moment: str) -> None:
    schedule = LinearBeta()
    plan = _levels(schedule)
    expected = _unipc_by_the_paper(plan, schedule, order, moment)
    torch.testing.assert_close(_run(unipc(order, True, moment), plan, schedule), expected, rtol=1e-10, atol=1e-10)


def test_second_order_deis_has_the_closed_form_of_its_integral() -> None:
    """Linear in log sigma: int (log u - log b)/(log a - log b) du = [u (log u - log b - 1)]/(log a - log b)."""
    plan = _levels(EDM())
    b, a, to = (float(level.noise_to_signal) for level in plan[:3])

    def primitive(u: float, other: float) -> float:
        return u * (math.log(u) - math.log(other) - 1.0)

    weights = deis(2).init(plan).rows[1].weights
    assert weights[0] == pytest.approx((primitive(to, b) - primitive(a, b)) / (math.log(a) - math.log(b)))
    assert weights[1] == pytest.approx((primitive(to, a) - primitive(a, a)) / (math.log(b) - math.log(a)))


def test_the_sde_rows_are_the_published_ones() -> None:
    """2211.01095, SDE-DPM-Solver++(2M): sigma_s/sigma_t e^{-h} x + alpha_s (1 - e^{-2h}) (D + D_1/2) + sigma_s sqrt(1 - e^{-2h}) z."""
    plan = _levels(LinearBeta())
    first, t, s = plan[:3]
    h, before = s.half_log_snr - t.half_log_snr, t.half_log_snr - first.half_log_snr
    row = dpm_solver_2m_sde().init(plan).rows[1]
    whole = -s.alpha * math.expm1(-2.0 * h)
    assert row.keep == pytest.approx(s.sigma / t.sigma * math.exp(-h))
    assert row.weights == pytest.approx((whole * (1.0 + 0.5 * h / before), -whole * 0.5 * h / before))
    assert row.noise == pytest.approx(s.sigma * math.sqrt(-math.expm1(-2.0 * h)))


@pytest.mark.parametrize("rule", [dpm_solver_3m(), dpm_solver_2m_sde(0.7), unipc(3), deis(3), deis(2, "sigma"), ipndm(), sa_solver()])
def test_rows_keep_a_point_where_it_is(rule: Multistep) -> None:
    """Where the data is one point, x_0 stays in place and so does eps: the weights sum to what that takes."""
    plan = _levels(LinearBeta())
    for row, t, s in zip(rule.init(plan).rows, plan, plan[1:], strict=False):
        p, r = row.read if row.read is not None else (0.0, 1.0)
        assert abs(p * t.alpha + r) < 1e-12 or row.read is None
        if row.read is None:
            assert sum(row.weights) == pytest.approx(s.alpha - row.keep * t.alpha)
            assert not row.corrected or sum(row.corrected) == pytest.approx(s.alpha - row.keep * t.alpha)
        else:
            assert row.keep == pytest.approx(s.alpha / t.alpha)
            assert sum(row.weights) == pytest.approx(s.sigma - row.keep * t.sigma)


def test_single_step_rules_are_those_of_the_papers() -> None:
    """2206.00927, algorithm 1 and 2211.01095, algorithm 1 with r = 1/2."""
    schedule = LinearBeta()
    t, s = schedule.at(0.7), schedule.at(0.4)
    h = s.half_log_snr - t.half_log_snr
    middle = schedule.at_log_snr(t.log_snr + h)
    model = ring().denoiser(GaussianProcess(schedule))
    x0 = model(EPS, t).x0
    inner = middle.sigma / t.sigma * EPS - middle.alpha * math.expm1(-0.5 * h) * x0
    expected = s.sigma / t.sigma * EPS - s.alpha * math.expm1(-h) * model(inner, middle).x0
    [step] = sample(model, dpm_solver_pp(2), (t, s), EPS, SampleNoise(range(N)))
    torch.testing.assert_close(step.x, expected, rtol=1e-9, atol=1e-10)
    eps = (inner - middle.alpha * model(inner, middle).x0) / middle.sigma
    [step] = sample(model, dpm_solver(2), (t, s), EPS, SampleNoise(range(N)))
    torch.testing.assert_close(step.x, s.alpha / t.alpha * EPS - s.sigma * math.expm1(h) * eps, rtol=1e-9, atol=1e-10)


def test_the_default_makes_every_move_itself_from_noise_to_clean_data() -> None:
    schedule = Cosine()
    solver, plan = angular(), plans.angle(schedule, 12)
    assert solver.ends == {"noise", "clean"}
    rows = solver.init(plan).rows
    assert all(math.isfinite(number) for row in rows for number in (row.keep, *row.weights))
    assert [len(row.weights) for row in rows] == [1, 2, 3, *[4] * 9]
    x = EPS
    path = schedule.at_log_snr(torch.linspace(-9.0, 12.0, 400, dtype=torch.float64)).unbind()
    model = ring(std=0.5).denoiser(GaussianProcess(schedule))
    *_, fine = sample(model, dpm_solver_3m(), (plan[0], *path, plan[-1]), x, SampleNoise(range(N)))
    errors = []
    for moves in (6, 12, 24):
        *_, last = sample(model, solver, plans.angle(schedule, moves), x, SampleNoise(range(N)))
        errors.append(float((last.x - fine.x).square().mean().sqrt()))
    assert errors[0] < 0.1
    assert errors[0] > 3.0 * errors[1] > 9.0 * errors[2]


def test_a_single_move_into_clean_data_is_the_estimate() -> None:
    schedule = Flow()
    [step] = sample(ring().denoiser(GaussianProcess(schedule)), angular(), plans.angle(schedule, 1), EPS, SampleNoise(range(N)))
    assert step.x.equal(step.estimate.x0)


def test_a_table_stands_for_its_own_plan_only() -> None:
    schedule = Flow()
    plan = _levels(schedule)
    rows = dpm_solver_2m().init(plan).rows
    table = Multistep(Table([float(level.noise_to_signal) for level in plan], rows), 2)
    assert _run(table, plan, schedule).equal(_run(dpm_solver_2m(), plan, schedule))
    with pytest.raises(UsageError, match="noise levels of their own"):
        _run(table, (*plan[:2], *plan[3:]), schedule)
    with pytest.raises(UsageError, match="noise levels of their own"):
        _run(table, (schedule.at(0.96), *plan[1:]), schedule)


def test_a_row_can_read_weigh_and_correct_anything() -> None:
    """x -> 2 x + 3 h_i + 5 h_{i-1}, h = x + x_0, corrected to 2 x + 7 h_{i+1}: by hand on two moves."""
    schedule = Flow()
    plan = _levels(schedule)[:3]
    row = Row(2.0, (3.0, 5.0), (1.0, 1.0), corrected=(7.0,))
    model = ring().denoiser(GaussianProcess(schedule))
    first = EPS + model(EPS, plan[0]).x0
    predicted = 2.0 * EPS + 3.0 * first
    second = predicted + model(predicted, plan[1]).x0
    expected = 2.0 * (2.0 * EPS + 7.0 * second) + 3.0 * second + 5.0 * first
    *_, last = sample(model, Multistep(lambda plan: [row, row], 1), plan, EPS, SampleNoise(range(N)))
    torch.testing.assert_close(last.x, expected)


@pytest.mark.parametrize("make", [lambda: unipc(0), lambda: ipndm(5), lambda: dpm_solver(4), lambda: dpm_solver_pp(1)])
def test_orders_that_do_not_exist_are_refused(make: object) -> None:
    with pytest.raises(UsageError, match="order"):
        make()  # type: ignore[operator]
