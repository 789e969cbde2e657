# SPDX-License-Identifier: Apache-2.0
"""What a sampling step costs outside the network: Ornstein's loop against diffusers' schedulers.

    .venv/bin/python benchmarks/sampler_overhead.py [--quick] [--json FILE]

The network costs nothing: it hands back its input. Contestants take turns, one trajectory each, in one process on one
thread; times are CPU microseconds per step and a ratio is the other's time over ours of the same round, given as median
and range. "handed x_0": the network's output is the estimate itself, so only loop and rule are measured. "from eps": the
output is noise, and its conversion (ours with everything else `Model` does) is measured too. Working out the plan is not
measured on their side (`set_timesteps`); ours (`Solver.init`) is. Guards: with an exact denoiser, in float64 and on equal
sigmas, DPM-Solver++(2M) and DDIM end where theirs do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from _peers import in_bench_environment

SHAPE, BATCHES = (3, 16, 16), (1, 256)
TOLERANCE = 2e-6
"""Their multistep scheduler computes every update in float32."""
GOALS = {("DPM++ 2M", "diffusers DPM++ 2M"): (11.0, 4.8), ("DPM++ 2M", "diffusers UniPC"): (28.0, 15.0)}
"""Ratios aimed at for batch 1 and 256; a floor of 1 is demanded everywhere."""


def peers(prediction: str, moves: int) -> dict[str, Any]:
    """Schedulers of diffusers at their defaults, on as many steps as we take."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler

    shared = {"prediction_type": prediction, "timestep_spacing": "trailing"}
    made = {
        "diffusers DPM++ 2M": DPMSolverMultistepScheduler(**shared),
        "diffusers UniPC": UniPCMultistepScheduler(**shared),
        "diffusers DDIM": DDIMScheduler(clip_sample=False, **shared),
    }
    for scheduler in made.values():
        scheduler.set_timesteps(moves)
    return made


def plan_of(sigmas: list[float]) -> Any:
    """The variance-preserving levels of diffusers' sigmas (noise over signal), the last of which is 0."""
    from ornstein.process.level import CLEAN, Level

    return (*(Level(s / (1.0 + s), (1.0 + s * s) ** -0.5, s * (1.0 + s * s) ** -0.5) for s in sigmas[:-1]), CLEAN)


def guard(moves: int) -> dict[str, float]:
    """Largest difference of our endpoints from theirs on equal sigmas, in standard deviations of the data."""
    import torch

    from ornstein.base.keys import Keys
    from ornstein.exact.mixture import smooth
    from ornstein.process.gaussian import GaussianProcess
    from ornstein.process.schedule import ddpm
    from ornstein.sample.loop import sample
    from ornstein.sample.noise import SampleNoise
    from ornstein.sample.solvers import DDIM, DPMSolverMultistep

    world, differences = smooth(), {}
    start = Keys.for_draws(0, 0, 64).normal((2,), torch.float64)
    schedulers = peers("epsilon", moves)
    for name, solver in (("DPM++ 2M", DPMSolverMultistep()), ("DDIM", DDIM())):
        scheduler = schedulers[f"diffusers {name}"]
        if name == "DDIM":
            scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
            kept = scheduler.alphas_cumprod[scheduler.timesteps]
            sigmas = [*((1.0 - kept) / kept).sqrt().tolist(), 0.0]
        else:
            scheduler.sigmas = scheduler.sigmas.double()
            sigmas = scheduler.sigmas.tolist()
        plan, x = plan_of(sigmas), start
        for t, level in zip(scheduler.timesteps, plan, strict=False):
            eps = (x - level.alpha * world.expectation(x, level)) / level.sigma
            x = scheduler.step(eps, t, x).prev_sample
        *_, ours = sample(world.denoiser(GaussianProcess(ddpm())), solver, plan, start, SampleNoise(range(64)))
        differences[name] = float((ours.x - x).abs().max()) / float(world.moments()[1].diagonal().max()) ** 0.5
    return differences


class Contestant(NamedTuple):
    """What runs one trajectory, and what sets it back before, untimed."""

    run: Callable[[], None]
    rewind: Callable[[], None] = lambda: None


def contestants(handed: bool, batch: int, moves: int) -> dict[str, Contestant]:
    """Everybody by name, for trajectories of that many steps."""
    import torch

    from ornstein.base.keys import Keys
    from ornstein.model.denoiser import Denoiser, Model
    from ornstein.model.prediction import Eps
    from ornstein.process.estimate import Gaussian
    from ornstein.process.gaussian import GaussianProcess
    from ornstein.process.schedule import ddpm
    from ornstein.sample import plans
    from ornstein.sample.loop import sample
    from ornstein.sample.noise import SampleNoise
    from ornstein.sample.solvers import DDIM, DPMSolverMultistep

    class Same(torch.nn.Module):
        def forward(self, x: Any, features: Any, cond: Any) -> Any:
            return x

    class Handed(Denoiser):
        process = GaussianProcess(ddpm())

        def __call__(self, x: Any, level: Any, cond: Any = None, towards: Any = None) -> Gaussian:
            return Gaussian(x)

    model: Denoiser = Handed() if handed else Model(Same(), Handed.process, Eps())
    x, noise, plan = Keys.for_draws(0, 0, batch).normal(SHAPE), SampleNoise(range(batch)), plans.trailing(Handed.process.schedule, moves)

    def ours(solver: Any) -> Callable[[], None]:
        def run() -> None:
            for _ in sample(model, solver, plan, x, noise):
                pass

        return run

    def theirs(scheduler: Any) -> Callable[[], None]:
        def run() -> None:
            now = x
            with torch.no_grad():
                for t in scheduler.timesteps:
                    now = scheduler.step(scheduler.scale_model_input(now, t), t, now).prev_sample

        return run

    field = {"DPM++ 2M": Contestant(ours(DPMSolverMultistep())), "DDIM": Contestant(ours(DDIM()))}
    for name, scheduler in peers("sample" if handed else "epsilon", moves).items():
        field[name] = Contestant(theirs(scheduler), partial(scheduler.set_timesteps, moves))
    return field


def race(handed: bool, batch: int, moves: int, rounds: int) -> dict[str, Any]:
    """Microseconds per step of everybody, and the ratios of each of ours to its rivals."""
    field = contestants(handed, batch, moves)
    times: dict[str, list[float]] = {name: [] for name in field}
    for turn in range(rounds + 1):
        for name, contestant in field.items():
            contestant.rewind()
            begun = time.process_time()
            contestant.run()
            if turn:  # the first round warms up
                times[name].append((time.process_time() - begun) / moves * 1e6)
    rows = []
    for own, rival in (("DPM++ 2M", "diffusers DPM++ 2M"), ("DPM++ 2M", "diffusers UniPC"), ("DDIM", "diffusers DDIM")):
        ratios = [theirs / ours for ours, theirs in zip(times[own], times[rival], strict=True)]
        rows.append({
            "ours": own, "peer": rival,
            "ours_us": round(statistics.median(times[own]), 1), "peer_us": round(statistics.median(times[rival]), 1),
            "ours_best_us": round(min(times[own]), 1), "peer_best_us": round(min(times[rival]), 1),
            "ratio": round(statistics.median(ratios), 2), "range": [round(min(ratios), 2), round(max(ratios), 2)],
        })  # fmt: skip
    return {"network": "handed x_0" if handed else "from eps", "batch": batch, "rows": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description="Microseconds per sampling step outside the network, against diffusers.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    words = parser.parse_args()
    in_bench_environment("diffusers")

    import torch

    from ornstein.base.files import write_json

    torch.set_num_threads(1)
    moves, rounds = 50, 8 if words.quick else 40
    report: dict[str, Any] = {"benchmark": "sampler_overhead", "torch": torch.__version__, "threads": 1, "clock": "cpu", "moves": moves}
    report |= {"rounds": rounds, "shape": SHAPE, "guard": guard(20), "load": os.getloadavg()[0]}
    report["races"] = [race(handed, batch, moves, rounds) for handed in (True, False) for batch in BATCHES]
    failed = [f"{name} ends {error:.1e} from diffusers'" for name, error in report["guard"].items() if not error <= TOLERANCE]

    print(f"torch {torch.__version__}, 1 thread, CPU time, {moves} steps, {rounds} rounds, load average {report['load']:.2f}")
    print("endpoints differ from diffusers' by " + ", ".join(f"{error:.1e} ({name})" for name, error in report["guard"].items()))
    for entry in report["races"]:
        print(f"\n{entry['network']}, batch {entry['batch']} of {SHAPE}: us per step, median (best)")
        for row in entry["rows"]:
            ours, peer = (f"{row[f'{who}_us']:7.1f} ({row[f'{who}_best_us']:.1f})" for who in ("ours", "peer"))
            goal = GOALS.get((row["ours"], row["peer"])) if entry["network"] == "handed x_0" else None
            aim = f"   goal {goal[BATCHES.index(entry['batch'])]}" if goal else ""
            low, high = row["range"]
            print(f"  {row['ours']:9}{ours:>18}   {row['peer']:19}{peer:>19}   ratio {row['ratio']:5.1f}  ({low} to {high}){aim}")
            if row["ratio"] < 1.0:
                failed.append(f"{row['ours']} costs more than {row['peer']} ({entry['network']}, batch {entry['batch']})")
    report["failed"] = failed
    if words.json:
        write_json(words.json, report)
    print("\n" + ("\n".join(f"NOT MET: {line}" for line in failed) or "Guards hold; every step is cheaper than its peer's."))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
