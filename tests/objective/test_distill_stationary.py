# SPDX-License-Identifier: Apache-2.0
"""The exact flow map, and nothing near it, is where every distillation comes to rest: its loss is zero there, in float64."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import pytest
import torch
from distill_world import MEAN, VARIANCE, WORLD, ExactDrift, batch, clean_of, mapped, student
from torch import Tensor, nn

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.base.keys import Keys
from ornstein.exact.mixture import ring
from ornstein.exact.world import Oracle
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Model
from ornstein.model.guidance import ClassifierFree
from ornstein.model.prediction import Edm, Eps, Prediction, V, Velocity
from ornstein.model.telling import OneTime, TimeAndScale
from ornstein.objective.distill.consistency import Consistency
from ornstein.objective.distill.continuous import ContinuousConsistency, bounded
from ornstein.objective.distill.drift import FromData, FromTeacher
from ornstein.objective.distill.guidance import GuidanceDistillation
from ornstein.objective.distill.identity import correction
from ornstein.objective.distill.mean_flow import MeanFlow
from ornstein.objective.distill.moves import joined, moved
from ornstein.objective.distill.progressive import Progressive
from ornstein.objective.distill.reflow import Pairs, Reflow
from ornstein.objective.distill.spans import Anywhere, Clean, Gap, Grid, Halving, Moves, levels
from ornstein.objective.record import Batch, Objective
from ornstein.objective.times import Uniform
from ornstein.objective.weighting import EdmWeight
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import over
from ornstein.process.schedule import EDM, Cosine, Flow, LinearBeta, Schedule
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.plans import uniform
from ornstein.sample.solvers import DDIM

N = 64
KEYS = Keys.for_draws(1, 0, N)
SETUPS: dict[str, tuple[Schedule, Prediction]] = {
    "edm": (EDM(), Edm(0.5)),
    "flow": (Flow(), Velocity()),
    "vp": (LinearBeta(), Eps()),
    "cosine": (Cosine(), V()),
}
setups = pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)


def times(schedule: Schedule) -> Uniform:
    return Uniform(schedule, 0.02)


def loss_of(objective: Objective, model: Model, progress: float = 0.5, data: Batch | None = None) -> Tensor:
    record, _ = objective(model, data or batch(N), KEYS, progress, objective.init())
    return record.losses["model"]


def comes_to_rest(make: Callable[[Schedule], Objective], setup: tuple[Schedule, Prediction], at_most: float = 1e-16) -> None:
    """Zero loss and gradient at the exact map; not so a little beside it."""
    schedule, prediction = setup
    model = student(schedule, prediction)
    loss = loss_of(make(schedule), model)
    loss.backward()
    assert loss.item() < at_most
    assert abs(float(model.network.off.grad)) < at_most**0.5  # type: ignore[arg-type,union-attr]
    beside = student(schedule, prediction, off=0.1)
    off = loss_of(make(schedule), beside)
    off.backward()
    assert off.item() > 1e-5
    assert float(beside.network.off.grad.abs()) > 1e-4  # type: ignore[arg-type,union-attr]


@setups
def test_two_moves_are_one_with_the_joined_estimate(setup: tuple[Schedule, Prediction]) -> None:
    process = GaussianProcess(setup[0])
    x, first, then = KEYS.normal((3, 2), torch.float64).unbind(1)
    u = KEYS.of("u").uniform((3,)).sort(1).values
    t, r, s = levels(process.schedule, *(u * process.schedule.noisiest).flip(1).unbind(1))
    twice = moved(process, moved(process, x, first, t, r), then, r, s)
    torch.testing.assert_close(moved(process, x, joined(first, then, t, r, s), t, s), twice)


@setups
@pytest.mark.parametrize("moves", [1, 2, 4])
def test_ddim_lands_on_the_map_in_any_number_of_moves(setup: tuple[Schedule, Prediction], moves: int) -> None:
    model = student(*setup)
    plan = uniform(setup[0], moves)
    x = float(plan[0].sigma) * KEYS.normal((2,), torch.float64)
    [last] = deque(sample(model, DDIM(), plan, x, SampleNoise(range(N))), maxlen=1)
    torch.testing.assert_close(last.x, mapped(x, plan[0], plan[-1]), rtol=1e-6, atol=1e-6)


@setups
@pytest.mark.parametrize("gap", [Halving(4), Grid(6)], ids=["halving", "grid"])
@pytest.mark.parametrize("goal", [Clean(), Anywhere()], ids=["clean", "anywhere"])
def test_consistency_rests_at_the_map(setup: tuple[Schedule, Prediction], gap: Gap, goal: Clean | Anywhere) -> None:
    comes_to_rest(lambda schedule: Consistency(times(schedule), EdmWeight(), ExactDrift(), gap, goal), setup)


@setups
@pytest.mark.parametrize("goal", [Clean(), Anywhere()], ids=["clean", "anywhere"])
def test_continuous_objectives_rest_at_the_map(setup: tuple[Schedule, Prediction], goal: Clean | Anywhere) -> None:
    exact = student(*setup)
    drift = FromTeacher(WORLD.denoiser(exact.process))
    comes_to_rest(lambda schedule: MeanFlow(times(schedule), EdmWeight(), drift, goal, power=0.0), setup, 1e-14)
    comes_to_rest(lambda schedule: ContinuousConsistency(times(schedule), EdmWeight(), drift, goal, warmup=0.0), setup, 1e-12)


@setups
def test_progressive_rests_at_the_map_of_its_teacher(setup: tuple[Schedule, Prediction]) -> None:
    if isinstance(setup[1], Eps):
        setup = (setup[0], V())
    teacher = student(*setup)
    comes_to_rest(lambda _: Progressive(EdmWeight(), teacher, first=4, last=4), setup)


@pytest.mark.parametrize("weighting", [EdmWeight()])
def test_reflow_rests_where_pairs_are_joined_by_straight_lines(weighting: EdmWeight) -> None:
    """Pairs of a Gaussian lie on x_0 = m + sqrt(v) eps, so that every x_t tells its pair."""

    class Straight(nn.Module):
        def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
            t = Flow().at(features[:, 0])
            noise = (x - over(t.alpha, x) * MEAN) / (over(t.alpha, x) * VARIANCE.sqrt() + over(t.sigma, x))
            return noise - (MEAN + VARIANCE.sqrt() * noise)

    noise = Keys.for_draws(3, 0, 40).normal((2,), torch.float64)
    pairs = Pairs(noise, MEAN + VARIANCE.sqrt() * noise, Cond())
    model = Model(Straight(), GaussianProcess(Flow()), Velocity())
    objective = Reflow(times(Flow()), weighting, pairs)
    assert loss_of(objective, model).item() < 1e-25
    crossed = Reflow(times(Flow()), weighting, Pairs(noise, pairs.x0.flip(0), Cond()))
    assert loss_of(crossed, model).item() > 0.01
    model.network.eval()
    seen = {tuple(row) for row in objective._chosen(KEYS, False, noise).noise.tolist()}
    trained = {tuple(row) for row in objective._chosen(KEYS, True, noise).noise.tolist()}
    assert seen == {tuple(row) for row in noise[-4:].tolist()}
    assert not seen & trained


def test_guidance_rests_at_the_guided_estimate() -> None:
    world, process = ring(3), GaussianProcess(EDM())
    teacher = world.denoiser(process)

    class Guided(nn.Module):
        def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
            level = process.schedule.at(process.schedule.time_of(-8.0 * features[:, 0]))
            told, untold = (
                Oracle(world, Edm(0.5), lambda _: level)(x, features, condition) for condition in (cond, Cond(torch.full((len(x),), -1)))
            )
            out: Tensor = untold + 10.0 * features[:, 1:] * (told - untold)
            return out

    model = Model(Guided(), process, Edm(0.5), telling=TimeAndScale(1.0))
    points = world.sample(Keys.for_draws(5, 0, N))
    objective = GuidanceDistillation(times(process.schedule), EdmWeight(), teacher, 1.0, 5.0)
    assert loss_of(objective, model, data=Batch(points.x0, Cond(points.label))).item() < 1e-20
    with pytest.raises(UsageError, match="without classes"):
        loss_of(objective, model, data=batch(N))
    x, level, cond = points.x0, process.schedule.at(0.6), Cond(points.label)
    asked = model.replaced(telling=TimeAndScale(3.0))(x, level, cond).x0
    torch.testing.assert_close(asked, ClassifierFree(teacher, 3.0)(x, level, cond).x0)


@setups
def test_the_correction_is_affine_in_the_drift(setup: tuple[Schedule, Prediction]) -> None:
    """So that the data may stand for the denoiser: what is right in the mean of D is right for the mean."""
    model = student(*setup, off=0.1)
    t, s = levels(setup[0], *(torch.full((N,), share, dtype=torch.float64) * setup[0].noisiest for share in (0.7, 0.4)))
    x, one, other = KEYS.normal((3, 2), torch.float64).unbind(1)
    added = [correction(model, x, t, s, drift, Cond())[1] for drift in (one, other, 0.5 * (one + other))]
    torch.testing.assert_close(added[2], 0.5 * (added[0] + added[1]))
    assert not torch.allclose(added[0], added[1])


@setups
def test_the_discrete_correction_becomes_the_continuous_one(setup: tuple[Schedule, Prediction]) -> None:
    """Consistency over a vanishing gap h: (target - x_0) c_ts / (k h) tends to the identity's left side over the pace."""
    model, schedule = student(*setup, off=0.1), setup[0]
    n = schedule.noisiest
    t, s = (torch.full((N,), share * n, dtype=torch.float64) for share in (0.6, 0.3))
    level, goal = levels(schedule, t, s)
    x = KEYS.normal((2,), torch.float64)
    drift = WORLD.expectation(x, level)
    x0, added = correction(model, x, level, goal, drift, Cond())

    def discrete(h: float) -> Tensor:
        [near] = levels(schedule, t - h)
        then = model(moved(model.process, x, drift, level, near), near, Cond(), goal).x0
        k = over(level.alpha_rate - level.alpha * level.sigma_rate / level.sigma, x)
        c = over(torch.as_tensor(goal.alpha - level.alpha * goal.sigma / level.sigma), x)
        return (joined(drift, then, level, near, goal) - x0) * c / (-k * h)

    errors = [(discrete(h) - added).abs().max().item() for h in (2e-3, 1e-3)]
    assert errors[1] < 0.6 * errors[0] < 0.05 * added.abs().max().item()


def test_the_teachers_move_is_of_second_order() -> None:
    teacher = FromTeacher(WORLD.denoiser(GaussianProcess(EDM())))
    x, process = batch(N).x0 * 2.0, GaussianProcess(EDM())

    def error(sigma: float) -> float:
        t, r = levels(EDM(), *(torch.full((N,), value / (1.0 + value), dtype=torch.float64) for value in (1.0, sigma)))
        return float((moved(process, x, teacher.between(x, x, t, r, Cond()), t, r) - mapped(x, t, r)).abs().max())

    assert error(0.9) / error(0.95) == pytest.approx(8.0, rel=0.15)  # local error of order 3
    def over_moves(moves: int) -> float:
        following = FromTeacher(WORLD.denoiser(GaussianProcess(EDM())), moves)
        t, r = levels(EDM(), *(torch.full((N,), value, dtype=torch.float64) for value in (0.8, 0.3)))
        return float((moved(process, x, following.between(x, x, t, r, Cond()), t, r) - mapped(x, t, r)).abs().max())

    assert over_moves(16) / over_moves(32) == pytest.approx(4.0, rel=0.15)
    t, clean = levels(EDM(), torch.tensor([0.5], dtype=torch.float64), torch.tensor([0.0], dtype=torch.float64))
    assert teacher.between(x[:1], x[:1], t, clean, Cond()).equal(WORLD.expectation(x[:1], t))


def test_data_as_drift_makes_the_pair_of_the_paper() -> None:
    """x_r = alpha_r x_0 + sigma_r eps with the eps of x_t."""
    process, data = GaussianProcess(Cosine()), batch(N)
    noise = KEYS.normal((2,), torch.float64)
    t, r = levels(Cosine(), *(torch.full((N,), share, dtype=torch.float64) for share in (0.7, 0.5)))
    x = process.corrupt(data.x0, noise, t)
    towards = FromData().between(data.x0, x, t, r, Cond())
    torch.testing.assert_close(moved(process, x, towards, t, r), process.corrupt(data.x0, noise, r))


def test_gaps() -> None:
    t = torch.linspace(0.05, 0.98, 20, dtype=torch.float64)
    wide, _ = Halving(4)(EDM(), t, 0.0)[1], None
    assert not wide[:10].any()  # k = 8: at low noise the first gap reaches clean data
    narrow = Halving(4)(EDM(), t, 1.0)[1]
    assert bool(((narrow >= wide) & (narrow < t)).all())
    sigma = t / (1.0 - t)
    expected = sigma * (1.0 - (1.0 + 8.0 / (1.0 + sigma.exp())) / 16.0)
    torch.testing.assert_close(narrow / (1.0 - narrow), expected.clamp_min(0.0))
    nodes, before = Grid(5, 0.1, 10.0, 1.0)(EDM(), t, 0.0)
    ratios = sorted({round(float(v), 9) for v in nodes / (1.0 - nodes)})
    assert set(ratios) <= {0.1, 2.575, 5.05, 7.525, 10.0}
    assert bool((before[nodes / (1.0 - nodes) < 0.11] == 0.0).all())
    assert bool((before < nodes).all())
    start, end = Moves(4)(Flow(), torch.tensor([0.01, 0.25, 0.26, 1.0], dtype=torch.float64), 0.0)
    assert start.tolist() == [0.25, 0.25, 0.5, 1.0]
    assert end.tolist() == [0.0, 0.0, 0.25, 0.75]


def test_goals() -> None:
    keys, latest = Keys.for_draws(2, 0, 4000), torch.full((4000,), 0.6, dtype=torch.float64)
    assert not Clean()(latest, keys).any()
    s = Anywhere(clean=0.2, nearest=0.3)(latest, keys)
    assert float((s == 0.0).double().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((s == 0.6).double().mean()) == pytest.approx(0.3, abs=0.03)
    inner = s[(s > 0.0) & (s < 0.6)]
    assert float(inner.mean()) == pytest.approx(0.3, abs=0.02)


def test_bounded_tangents_keep_their_direction() -> None:
    g = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    size = (12.5) ** 0.5
    torch.testing.assert_close(bounded(g), g / torch.tensor([[size + 0.1], [1.0]]))


class Line(nn.Module):
    """One weight, so that a target's movement can be read off."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, x: Tensor, features: Tensor, cond: Cond) -> Tensor:
        return self.weight * x


def run(objective: Objective, model: Model, progress: Sequence[float], weights: Sequence[float]) -> list[dict[str, object]]:
    """States after calls at the given progress, the weight set before each."""
    states, state = [], objective.init()
    for share, weight in zip(progress, weights, strict=True):
        model.network.weight.data.fill_(weight)  # type: ignore[union-attr,operator]
        _, state = objective(model, batch(N), KEYS, share, state)
        states.append(state)
    return states


def test_the_target_follows_once_per_update_and_only_in_training() -> None:
    model = Model(Line(), GaussianProcess(EDM()), Edm(), telling=OneTime(flow_map=True))
    objective = Consistency(times(EDM()), EdmWeight(), FromData(), Halving(), Clean(), target_decay=0.5)
    states = run(objective, model, [0.0, 0.0, 0.1, 0.2], [1.0, 2.0, 3.0, 5.0])
    assert [float(state["target/weight"]) for state in states] == [1.0, 1.0, 2.0, 3.5]  # type: ignore[arg-type]
    model.network.eval()
    assert objective(model, batch(N), KEYS, 0.3, states[-1])[1] is states[-1]
    with pytest.raises(CheckpointError, match="target/weight"):
        objective(model, batch(N), KEYS, 0.3, {"seen": 0.2})


def test_progressive_halves_and_its_average_becomes_the_teacher() -> None:
    model = Model(Line(), GaussianProcess(EDM()), Edm())
    objective = Progressive(EdmWeight(), WORLD.denoiser(model.process), first=8, last=2, decay=0.5)
    states = run(objective, model, [0.0, 0.2, 0.4, 0.5, 0.9], [1.0, 3.0, 5.0, 5.0, 5.0])
    assert [state["stage"] for state in states] == [0, 0, 1, 1, 2]
    assert "teacher/weight" not in states[1]
    assert [float(state["teacher/weight"]) for state in states[2:]] == [3.5, 3.5, 4.625]  # type: ignore[arg-type]
    record, _ = objective(model, batch(N), KEYS, 0.9, states[-1])
    assert record.parts["moves"] == 2.0
    assert set((record.t / EDM().noisiest).tolist()) == {0.5, 1.0}


def test_clean_of_is_the_denoiser_where_the_map_does_not_move() -> None:
    x, level = batch(4).x0, EDM().at(torch.full((4,), 0.5, dtype=torch.float64))
    near = EDM().at(torch.full((4,), 0.5 - 1e-6, dtype=torch.float64))
    torch.testing.assert_close(clean_of(x, level, level), clean_of(x, level, near), rtol=1e-4, atol=1e-4)
