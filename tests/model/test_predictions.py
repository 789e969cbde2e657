# SPDX-License-Identifier: Apache-2.0
"""The six rows against their papers' formulas, their inverses and the factors between losses."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ornstein.base.errors import SingularPrediction
from ornstein.base.keys import Keys
from ornstein.base.registry import entry, load, names
from ornstein.model.prediction import X0, Edm, Eps, Prediction, Score, V, Velocity
from ornstein.process.level import Level, over
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule

PREDICTIONS: dict[str, Prediction] = {name: load(entry("prediction", name))() for name in names("prediction")}
SCHEDULES: dict[str, Schedule] = {name: load(entry("schedule", name))() for name in names("schedule")}
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def _numbers(n: int, purpose: str) -> Tensor:
    return Keys.for_draws(5, 0, n, purpose).normal((3,), torch.float64)


@every_prediction
@every_schedule
@settings(max_examples=15, deadline=None, derandomize=True)
@given(share=st.floats(0.01, 0.99))
def test_target_and_estimate_are_inverse(prediction: Prediction, schedule: Schedule, share: float) -> None:
    level = schedule.at(share * schedule.noisiest)
    x0, eps = _numbers(4, "x0"), _numbers(4, "eps")
    x = level.alpha * x0 + level.sigma * eps
    for at in (level, level.rows(4)):
        y = prediction.target(x0, eps, at)
        torch.testing.assert_close(prediction.to_x0(y, x, at), x0, rtol=1e-8, atol=1e-8 * (1.0 + level.noise_to_signal))
        torch.testing.assert_close(prediction.to_eps(y, x, at), eps, rtol=1e-8, atol=1e-8 * (1.0 + 1.0 / level.noise_to_signal))


@every_prediction
@every_schedule
def test_loss_scale_is_the_ratio_of_squared_errors_at_one_x(prediction: Prediction, schedule: Schedule) -> None:
    for share in (0.1, 0.5, 0.9):
        level = schedule.at(share * schedule.noisiest)
        x, y, other = _numbers(4, "x"), _numbers(4, "y"), _numbers(4, "other")
        in_target = (y - other).square().sum()
        in_x0 = (prediction.to_x0(y, x, level) - prediction.to_x0(other, x, level)).square().sum()
        assert float(in_target / in_x0) == pytest.approx(prediction.loss_scale(level), rel=1e-9)
        by_row = prediction.loss_scale(level.rows(2))
        assert isinstance(by_row, Tensor)
        assert by_row.tolist() == pytest.approx([prediction.loss_scale(level)] * 2)


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_loss_scales_of_the_papers(t: float) -> None:
    for schedule in (LinearBeta(), Cosine()):
        level = schedule.at(t)
        snr = math.exp(level.log_snr)
        assert X0().loss_scale(level) == pytest.approx(1.0)
        assert Eps().loss_scale(level) == pytest.approx(snr)
        assert V().loss_scale(level) == pytest.approx(snr + 1.0)
        assert Score().loss_scale(level) == pytest.approx(snr / level.sigma**2)
    flow = Flow().at(t)
    assert Velocity().loss_scale(flow) == pytest.approx(1.0 / t**2)
    edm = EDM().at(t)
    for sd in (0.5, 2.0):  # lambda(sigma) of 2206.00364, table 1
        assert Edm(sd).loss_scale(edm) == pytest.approx((edm.sigma**2 + sd**2) / (edm.sigma * sd) ** 2)


def test_rows_say_what_their_names_say() -> None:
    level = Cosine().at(0.3)
    x0, eps = _numbers(2, "x0"), _numbers(2, "eps")
    a, s = level.alpha, level.sigma
    assert PREDICTIONS["x0"].target(x0, eps, level).equal(x0)
    assert PREDICTIONS["eps"].target(x0, eps, level).equal(eps)
    torch.testing.assert_close(PREDICTIONS["v"].target(x0, eps, level), a * eps - s * x0)
    torch.testing.assert_close(PREDICTIONS["score"].target(x0, eps, level), -eps / s)
    step = 1e-6
    later, earlier = Cosine().at(0.3 + step), Cosine().at(0.3 - step)
    moved = (later.alpha - earlier.alpha) * x0 + (later.sigma - earlier.sigma) * eps
    torch.testing.assert_close(PREDICTIONS["velocity"].target(x0, eps, level), moved / (2.0 * step), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [0.01, 0.5, 0.98])
def test_edm_is_table_1_of_its_paper(t: float) -> None:
    sd, level = 0.7, EDM().at(t)
    sigma, total = level.sigma, math.hypot(level.sigma, sd)
    c_skip, c_out = sd**2 / total**2, sigma * sd / total
    x0, eps = _numbers(3, "x0"), _numbers(3, "eps")
    x, row = x0 + sigma * eps, Edm(sd)
    torch.testing.assert_close(row.target(x0, eps, level), (x0 - c_skip * x) / c_out)
    torch.testing.assert_close(row.to_x0(eps, x, level), c_skip * x + c_out * eps)
    assert row.input_scale(level) == pytest.approx(1.0 / total)
    assert row.feature(level) == pytest.approx(0.25 * math.log(sigma))
    assert row.feature(Cosine().at(1.0)) == pytest.approx(0.25 * math.log(1e4))


@every_schedule
def test_edm_input_and_target_have_unit_variance_on_any_schedule(schedule: Schedule) -> None:
    sd = 0.6
    row = Edm(sd)
    for share in (0.001, 0.3, 0.99, 1.0):
        level = schedule.at(share * schedule.noisiest)
        a, b = row.coefficients(level)
        assert a**2 * sd**2 + b**2 == pytest.approx(1.0)
        assert row.input_scale(level) ** 2 * ((level.alpha * sd) ** 2 + level.sigma**2) == pytest.approx(1.0)


@every_prediction
@every_schedule
def test_the_noise_feature_is_finite_and_rises_with_noise(prediction: Prediction, schedule: Schedule) -> None:
    t = torch.linspace(1e-4, 1.0, 50, dtype=torch.float64) * schedule.noisiest
    feature = torch.as_tensor(prediction.feature(schedule.at(t)))
    assert bool(torch.isfinite(feature).all())
    assert bool((feature.diff() >= 0).all())
    one_by_one = [prediction.feature(level) for level in schedule.at(t).unbind()]
    assert feature.tolist() == pytest.approx(one_by_one)


@pytest.mark.parametrize("name", ["eps", "score"])
@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=["cosine", "flow"])
def test_pure_noise_refuses_predictions_that_need_signal(name: str, schedule: Schedule) -> None:
    prediction, level, x = PREDICTIONS[name], schedule.at(1.0), _numbers(2, "x")
    for at in (level, level.rows(2), schedule.at(torch.tensor([0.5, 1.0], dtype=torch.float64))):
        for call in (partial(prediction.to_x0, x, x), partial(prediction.to_eps, x, x), prediction.loss_scale):
            with pytest.raises(SingularPrediction, match=r"says nothing about x_0 .* Predict v"):
                call(at)


@pytest.mark.parametrize("name", ["x0", "v", "velocity", "edm"])
@pytest.mark.parametrize("schedule", [Cosine(), Flow()], ids=["cosine", "flow"])
def test_the_other_rows_are_exact_at_pure_noise(name: str, schedule: Schedule) -> None:
    prediction, level = PREDICTIONS[name], schedule.at(1.0)
    x0, eps = _numbers(3, "x0"), _numbers(3, "eps")
    torch.testing.assert_close(prediction.to_x0(prediction.target(x0, eps, level), level.sigma * eps, level), x0)


def test_levels_of_tensors_mix_rows() -> None:
    level: Level = Cosine().at(torch.tensor([0.2, 0.8], dtype=torch.float64))
    x0, eps = _numbers(2, "x0"), _numbers(2, "eps")
    for prediction in PREDICTIONS.values():
        y = prediction.target(x0, eps, level)
        for i, one in enumerate(level.unbind()):
            torch.testing.assert_close(y[i], prediction.target(x0[i : i + 1], eps[i : i + 1], one)[0])
        torch.testing.assert_close(prediction.to_x0(y, over(level.alpha, x0) * x0 + over(level.sigma, x0) * eps, level), x0)
