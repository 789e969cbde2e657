# SPDX-License-Identifier: Apache-2.0
"""How far from the exact flow solvers end at few evaluations: our default setting against diffusers and k-diffusion.

    .venv/bin/python benchmarks/solvers.py [--quick] [--json FILE]

Worlds are Gaussian mixtures of 2 to 64 dimensions whose denoiser is exact. Everybody gets the same x at sigma = 80 and
evaluates the same denoiser in float64 (their schedulers compute in float32); the reference is the exact flow of that x to
clean data. Error: root mean square over samples and dimensions, over the data's standard deviation; over worlds, the
geometric mean. Sliced Wasserstein distances are to fresh data, beside those of the exact flow's own ends.

Rivals: every deterministic scheduler below, at orders 2 and 3, with every spacing it offers and four lowest noise levels
(0.002, theirs of 0.01, 0.03, 0.1). diffusers' beta tables are those linear ones whose last sigma is 80 and whose first is the
lowest level asked for. A scheduler whose last step does nothing ends in the clean data of its last evaluation. A two-stage
rule takes as many steps as the budget allows. "As it comes" leaves each its own lowest level: 0.01, and 0.002 for EDM-DPM and
k-diffusion. Ours is one setting: solver and plan `default`, which know the number of
evaluations and nothing of the world.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from _peers import in_bench_environment, k_diffusion_sampling

BUDGETS = (3, 5, 8, 10, 20)
DEMANDED, GOALS = {5: 0.8, 10: 0.8, 20: 1.0}, {5: 0.5, 10: 0.5, 20: 0.5}
"""Our error over that of the best single setting of any rival as it comes; the demand holds for all of them."""
LOWEST = (0.002, 0.01, 0.03, 0.1)
SIGMA = 80.0


class Case(NamedTuple):
    """A world with its samples' start, exact end, and standard deviation."""

    world: Any
    start: Any
    end: Any
    data: Any
    std: float


def worlds() -> dict[str, Any]:
    """Smooth, clustered, thin and near-delta laws; none of them was looked at when the default setting was chosen."""
    import torch

    from ornstein.data.digits import stored
    from ornstein.exact.mixture import GaussianMixture, ring, scattered, smooth

    ink = torch.as_tensor(stored().ink).flatten(1).double() / 8.0 - 1.0
    label = torch.as_tensor(stored().labels)
    groups = [ink[label == k] for k in range(10)]
    covariances = torch.stack([torch.cov(group.T) + 0.05**2 * torch.eye(64, dtype=torch.float64) for group in groups])
    generator = torch.Generator().manual_seed(5)
    atoms = torch.randn(20, 2, generator=generator, dtype=torch.float64)
    return {
        "smooth, d=2": smooth(),
        "ring, d=2": ring(),
        "scattered, d=8": scattered(5, 8, seed=7),
        "scattered, d=32": scattered(6, 32, seed=8),
        "thin, d=16": scattered(4, 16, seed=9, condition=1e4),
        "digits, d=64": GaussianMixture([len(group) for group in groups], torch.stack([group.mean(0) for group in groups]), covariances),
        "near-delta, d=2": GaussianMixture([1.0] * 20, atoms, 0.02**2 * torch.eye(2, dtype=torch.float64).expand(20, 2, 2)),
        "near-delta digits, d=64": _smoothed(ink[::6], 0.1),
    }


def _smoothed(points: Any, std: float) -> Any:
    """Equal round components about points: an empirical law seen at a little more noise."""
    from ornstein.exact.empirical import Empirical
    from ornstein.exact.world import World
    from ornstein.process.level import CLEAN, Level

    class Smoothed(World):
        inner = Empirical(points)

        def _raised(self, level: Any) -> Any:
            return Level(level.t, level.alpha, math.hypot(level.sigma, level.alpha * std))

        def expectation(self, x: Any, level: Any, label: Any = None) -> Any:
            raised = self._raised(level)
            share = level.alpha * std**2 / raised.sigma**2
            return (level.sigma / raised.sigma) ** 2 * self.inner.expectation(x, raised) + share * x

        def log_prob(self, x: Any, level: Any = CLEAN, label: Any = None) -> Any:
            return self.inner.log_prob(x, self._raised(level))

        def score(self, x: Any, level: Any = CLEAN, label: Any = None) -> Any:
            return self.inner.score(x, self._raised(level))

        def sample(self, keys: Any) -> Any:
            from ornstein.exact.mixture import Points

            chosen = (keys.of("component").uniform() * len(points)).long()
            return Points(points[chosen] + std * keys.of("point").normal(points.shape[1:], points.dtype), chosen)

    return Smoothed()


def cases(samples: int, moves: int) -> dict[str, Case]:
    import torch

    from ornstein.base.keys import Keys
    from ornstein.process.gaussian import GaussianProcess
    from ornstein.process.schedule import EDM
    from ornstein.sample.convergence import flow

    schedule, found = EDM(SIGMA), {}
    low = schedule.at_log_snr(-2.0 * math.log(5e-4))
    for i, (name, world) in enumerate(worlds().items()):
        data = world.sample(Keys.for_draws(100 + i, 0, 4 * samples)).x0
        start = SIGMA * Keys.for_draws(i, 0, samples).normal(data.shape[1:], torch.float64)
        end = flow(world.denoiser(GaussianProcess(schedule)), start, schedule.at(schedule.noisiest), low, moves)
        found[name] = Case(world, start, world.expectation(end, low), data, float(data.var(0).mean().sqrt()))
    return found


Run = Callable[[Case, int], Any]
"""A case and a budget of evaluations -> the ends."""


def rivals(quick: bool) -> Iterator[tuple[str, Run]]:
    """(family and setting, how it is run)."""
    import warnings

    import diffusers as d

    warnings.filterwarnings("ignore", module="diffusers")
    d.logging.set_verbosity_error()
    spaced = {
        "linspace": {"timestep_spacing": "linspace"},
        "trailing": {"timestep_spacing": "trailing"},
        "karras": {"use_karras_sigmas": True},
        "exponential": {"use_exponential_sigmas": True},
    }
    multistep = {
        "DPM-Solver++ M": d.DPMSolverMultistepScheduler,
        "DPM-Solver++ S": d.DPMSolverSinglestepScheduler,
        "UniPC": d.UniPCMultistepScheduler,
        "DEIS": d.DEISMultistepScheduler,
    }
    lowest = LOWEST[:2] if quick else LOWEST
    for low in lowest:
        betas = _betas(low)
        for spacing, words in spaced.items():
            end = f"{spacing}, from {low}"
            for order in (2, 3):
                common = {"trained_betas": betas, "prediction_type": "sample", **words}
                for name, kind in multistep.items():
                    if name.endswith(" S") and "timestep_spacing" in words:
                        continue  # it has the one spacing of its table, which is no better than these
                    yield f"{name} {order}, {end}", _scheduler(kind, common | {"solver_order": order})
            plain = {"trained_betas": betas, "prediction_type": "sample"} | words
            yield f"Heun, {end}", _scheduler(d.HeunDiscreteScheduler, plain, stages=2)
            yield f"LMS, {end}", _scheduler(d.LMSDiscreteScheduler, plain)
            yield f"Euler, {end}", _scheduler(d.EulerDiscreteScheduler, plain)
        log_snr = {"trained_betas": betas, "prediction_type": "sample", "use_lu_lambdas": True}
        for order in (2, 3):
            words = log_snr | {"solver_order": order}
            yield f"DPM-Solver++ M {order}, log-SNR, from {low}", _scheduler(d.DPMSolverMultistepScheduler, words)
        for spacing in ("karras", "exponential"):
            for order in (2, 3):
                words = {"sigma_schedule": spacing, "sigma_min": low, "sigma_max": SIGMA, "solver_order": order}
                yield f"EDM-DPM {order}, {spacing}, from {low}", _scheduler(d.EDMDPMSolverMultistepScheduler, words)
            for name, stages in {"euler": 1, "heun": 2, "dpm_2": 2, "lms": 1, "dpmpp_2m": 1, "dpmpp_2s_ancestral": 2}.items():
                yield f"k-diffusion {name}, {spacing}, from {low}", _k_diffusion(name, spacing, low, stages)


def _betas(low: float) -> Any:
    """The linear table of 1000 steps whose first sigma is `low` and whose last is 80."""
    import numpy as np

    first = low**2 / (1.0 + low**2)
    below, above = first, 0.5
    for _ in range(80):
        last = 0.5 * (below + above)
        log_alpha = 0.5 * np.log1p(-np.linspace(first, last, 1000)).sum()
        below, above = (last, above) if math.sqrt(math.expm1(-2.0 * log_alpha)) < SIGMA else (below, last)
    return np.linspace(first, last, 1000)


def _scheduler(kind: Any, words: dict[str, Any], stages: int = 1) -> Run:
    """A scheduler of diffusers, evaluated at its own sigmas."""
    scaled = kind.__name__.startswith(("DPM", "UniPC", "DEIS"))  # x = alpha (x_0 + sigma eps), where the others have alpha = 1
    edm = kind.__name__.startswith("EDM")

    def run(case: Case, budget: int) -> Any:
        from ornstein.process.level import Level

        def clean(x: Any, sigma: float) -> Any:
            alpha = (1.0 + sigma**2) ** -0.5 if scaled else 1.0
            return case.world.expectation(x, Level(0.5, alpha, sigma * alpha))

        scheduler = kind(**words)
        scheduler.set_timesteps((budget + stages - 1) // stages)
        x, sigmas = case.start, scheduler.sigmas.tolist()
        if sigmas[0] < SIGMA * (1.0 - 1e-3):  # it starts lower: x is carried down by one move that counts
            scheduler.set_timesteps((budget + stages - 2) // stages)
            sigmas = scheduler.sigmas.tolist()
            x0 = case.world.expectation(x, Level(0.5, 1.0, SIGMA))
            x = x0 + sigmas[0] / SIGMA * (x - x0)
        x = x * (1.0 + sigmas[0] ** 2) ** -0.5 if scaled else x
        for i, t in enumerate(scheduler.timesteps):
            answer = x0 = clean(x, sigmas[i])
            if edm:
                data, total = scheduler.config.sigma_data, math.hypot(sigmas[i], scheduler.config.sigma_data)
                answer = (x0 - data**2 / total**2 * x) / (sigmas[i] * data / total)
            moved = scheduler.step(answer, t, x).prev_sample.double()
            x = x0 if i + 1 == len(scheduler.timesteps) and sigmas[i + 1] == sigmas[i] else moved
        return x

    return run


def _k_diffusion(name: str, spacing: str, low: float, stages: int) -> Run:
    """A sampler of k-diffusion, on its own spacings."""

    def run(case: Case, budget: int) -> Any:
        from ornstein.process.level import Level

        k = k_diffusion_sampling()
        steps = (budget + stages - 1) // stages
        sigmas = (k.get_sigmas_karras if spacing == "karras" else k.get_sigmas_exponential)(steps, low, SIGMA).double()

        def model(x: Any, sigma: Any, **_: Any) -> Any:
            return case.world.expectation(x, Level(0.5, 1.0, float(sigma[0])))

        words = {"eta": 0.0} if "ancestral" in name else {}
        return getattr(k, f"sample_{name}")(model, case.start, sigmas, disable=True, **words)

    return run


def ours() -> dict[str, Run]:
    """Our default setting, and the plain rules that it is to be compared with."""
    from ornstein.base.registry import entry, load
    from ornstein.process.gaussian import GaussianProcess
    from ornstein.process.schedule import EDM
    from ornstein.sample.loop import sample
    from ornstein.sample.noise import SampleNoise

    def setting(solver: str, plan: str) -> Run:
        def run(case: Case, budget: int) -> Any:
            schedule = EDM(SIGMA)
            levels = load(entry("plan", plan))(schedule, budget)
            model = case.world.denoiser(GaussianProcess(schedule))
            *_, last = sample(model, load(entry("solver", solver))(), levels, case.start, SampleNoise(range(len(case.start))))
            assert last.evaluations == budget
            return last.x

        return run

    plain = {f"{solver}, {plan}": setting(solver, plan) for solver in ("ipndm", "dpm++2m", "unipc") for plan in ("karras", "default")}
    return {"default": setting("default", "default"), **plain}


def scores(run: Run, cases: dict[str, Case], budget: int) -> list[float]:
    """Its error on every world; infinite where it gives no numbers or refuses so few evaluations."""
    found = []
    for case in cases.values():
        try:
            error = float((run(case, budget) - case.end).square().mean().sqrt()) / case.std
        except Exception as refusal:  # theirs may be anything; so it is shown
            print(f"  refused {budget} evaluations: {refusal!r}"[:130])
            return [math.inf] * len(cases)
        found.append(error if math.isfinite(error) else math.inf)
    return found


def _as_it_comes(name: str) -> bool:
    """Whether a setting keeps the lowest noise level of its library."""
    return name.endswith("from 0.002" if name.startswith(("EDM", "k-")) else "from 0.01")


def mean(errors: list[float]) -> float:
    """Geometric mean."""
    return math.exp(sum(map(math.log, errors)) / len(errors))


def distances(run: Run, cases: dict[str, Case], budget: int) -> list[float]:
    from ornstein.evaluate.distances import sliced_wasserstein

    return [sliced_wasserstein(run(case, budget), case.data) / case.std for case in cases.values()]


def main() -> int:
    parser = argparse.ArgumentParser(description="Error at few evaluations against the exact flow, beside diffusers and k-diffusion.")
    parser.add_argument("--quick", action="store_true", help="fewer samples and one lowest noise level")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    words = parser.parse_args()
    in_bench_environment("diffusers", "k_diffusion")

    import torch

    from ornstein.base.files import write_json

    torch.set_num_threads(1)
    begun = time.process_time()
    samples = 32 if words.quick else 128
    given = cases(samples, 256 if words.quick else 512)
    report: dict[str, Any] = {"benchmark": "solvers", "torch": torch.__version__, "samples": samples, "worlds": list(given)}
    own, field = ours(), dict(rivals(words.quick))
    print(f"{samples} samples a world, {len(field)} settings of rivals, {len(given)} worlds: {', '.join(given)}")
    report["settings"], report["budgets"], failed = {}, {}, []
    exact = [float(case.std) for case in given.values()]
    floor = distances(lambda case, _: case.end, given, 0)
    print("sliced Wasserstein of the exact flow: " + " ".join(f"{value:.3f}" for value in floor))
    for budget in BUDGETS:
        mine = {name: scores(run, given, budget) for name, run in own.items()}
        theirs = {name: scores(run, given, budget) for name, run in field.items()}
        print(f"  {sum(not math.isfinite(mean(row)) for row in theirs.values())} of {len(theirs)} settings gave no numbers")
        ranked = sorted(theirs, key=lambda name: mean(theirs[name]))
        best, plain = ranked[0], next(name for name in ranked if _as_it_comes(name))
        hindsight = [min(row[i] for row in theirs.values()) for i in range(len(given))]
        ratio, milder = (mean(mine["default"]) / mean(theirs[name]) for name in (best, plain))
        aim = f" (goal {GOALS[budget]})" if budget in GOALS else ""
        print(f"\n{budget} evaluations: {milder:.2f} times the error of the best rival as it comes{aim}, {ratio:.2f} of the best setting")
        rows = {"ours, default": mine["default"], plain: theirs[plain], **{name: theirs[name] for name in ranked[:3]}}
        rows["best of all per world"] = hindsight
        rows |= {f"ours, {name}": row for name, row in mine.items() if name != "default"}
        for name, row in rows.items():
            print(f"  {name:48} {mean(row):.4f}   " + " ".join(f"{error:.3f}" for error in row))
        sliced = {"ours, default": distances(own["default"], given, budget), best: distances(field[best], given, budget)}
        for name, row in sliced.items():
            print(f"  sliced Wasserstein, {name:28} {mean(row):.4f}   " + " ".join(f"{value:.3f}" for value in row), flush=True)
        found = {"ratio": milder, "ratio_to_all": ratio, "best": plain, "best_of_all": best, "ours": mine, "hindsight": hindsight}
        report["budgets"][budget] = found | {"sliced": sliced}
        report["settings"][budget] = {name: row for name, row in theirs.items() if math.isfinite(mean(row))}
        if ratio > DEMANDED.get(budget, math.inf):
            failed.append(f"{budget} evaluations: {ratio:.2f} times the error of {best}, {DEMANDED[budget]} at most were asked for")
    target = min(mean(row) for row in report["settings"][20].values())
    path = {n: mean(scores(own["default"], given, n)) for n in range(1, 21)}
    enough = next((n for n in path if all(path[m] <= target for m in range(n, 21))), None)
    report["default_by_evaluations"] = path
    report |= {"evaluations_for_their_20": enough, "floor": floor, "std": exact, "failed": failed}
    report["cpu_seconds"] = round(time.process_time() - begun)
    print(f"\nWe need {enough} evaluations for the error the best rival has at 20 ({target:.4f}). {report['cpu_seconds']} CPU seconds.")
    if words.json:
        write_json(words.json, report)
    print("\n".join(f"NOT MET: {line}" for line in failed) or "Every demand is met.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
