# SPDX-License-Identifier: Apache-2.0
"""Order of convergence of every deterministic solver against the exact flow of a smooth mixture, in float64.

    .venv/bin/python benchmarks/orders.py [--quick] [--json FILE]

First table: between two finite log-SNRs, where a rule of order p shows p on every smooth grid ("seeded": history from the
exact path; "cold": as a run starts). These must lie within 0.2 of theory, and within 0.6 from order 4 on, where rounding
leaves no longer plans, and on the short plans of --quick; `tests/sample/test_orders.py` demands 0.2. iPNDM's constants
are those of equal steps in sigma; elsewhere they leave order 2. Second table: whole paths of the plans people use, from
the noisiest level into clean data, where the ends can cost order; its theory column says how:

- uniform steps in t where sigma grows like sqrt(t) (variance-preserving): the last move spans sigma ~ n^-1/2: order 1.
- rules in log-SNR on uniform steps from pure noise: the first steps, log 2 and more, never shrink: order 0.
- log-SNR and Karras plans keep their sigma_min, so the order shows until the error of the last move is reached.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ornstein.base.files import write_json
from ornstein.base.keys import Keys
from ornstein.base.registry import entry, load, names
from ornstein.exact.mixture import smooth
from ornstein.process.gaussian import GaussianProcess
from ornstein.process.level import Level
from ornstein.process.schedule import EDM, BetaTable, Schedule, VariancePreserving
from ornstein.sample.convergence import endpoint, flow, observed_order, rms
from ornstein.sample.exponential import deis, unipc
from ornstein.sample.loop import sample
from ornstein.sample.multistep import History, ipndm
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Solver
from ornstein.sample.runge_kutta import RungeKutta, euler, heun, midpoint, rk4
from ornstein.sample.singlestep import dpm_solver, dpm_solver_pp

SEARCHING = ("midpoint, sigma", "midpoint, log-snr", "rk4", "dpm-solver", "dpm++s")
WORLD, BATCH, SPAN = smooth(), 16, 3.0
EPS = Keys.for_draws(0, 0, BATCH).normal((2,), torch.float64)
VE = GaussianProcess(EDM(1e5))
_ALL: dict[str, Schedule] = {name: load(entry("schedule", name))() for name in names("schedule")}
SCHEDULES = {name: schedule for name, schedule in _ALL.items() if not isinstance(schedule, BetaTable)}
"""All but the tables, whose kinks leave a rule in t no order beyond the table's own steps."""


def solvers() -> dict[str, Solver]:
    found = {name: load(entry("solver", name))() for name in names("solver")}
    found = {name: solver for name, solver in found.items() if not (solver.stochastic or solver.adaptive or isinstance(solver, RungeKutta))}
    for name in ("time", "sigma", "log-snr"):
        found |= {f"euler, {name}": euler(name), f"heun, {name}": heun(name), f"midpoint, {name}": midpoint(name)}
    found |= {f"unipc {p}": unipc(p) for p in (1, 3, 4)} | {f"deis {p}": deis(p) for p in (1, 2, 4)} | {"rk4, log-snr": rk4()}
    found |= {f"deis {p}, sigma": deis(p, "sigma") for p in (2, 3, 4)} | {f"ipndm {p}": ipndm(p) for p in (2, 3)}
    return found | {"dpm-solver 3": dpm_solver(3), "dpm++s 3": dpm_solver_pp(3)}


def moves_of(solver: Solver, quick: bool) -> list[int]:
    """Numbers of moves between which the error lies above rounding and below the turns of the path."""
    finest = 96 if quick else 256
    if solver.order == 1:
        finest *= 4
    elif solver.stages > 2:
        finest //= 4
    elif solver.order == 5:
        finest //= 2
    return [finest // 2, finest] if quick else [finest // 4, finest // 2, finest]


def exact(y: torch.Tensor, ratio: float, target: float, moves: int) -> torch.Tensor:
    """x/alpha at noise-to-signal `target` of the flow through y at `ratio`; it is the same on every schedule."""
    start, end = (VE.schedule.at_log_snr(-2.0 * math.log(value)) for value in (ratio, target))
    return flow(WORLD.denoiser(VE), y, start, end, moves)


def inner_grid(schedule: Schedule, name: str, moves: int) -> tuple[Level, ...]:
    """Levels from log-SNR -SPAN to SPAN."""
    ends = torch.tensor([-SPAN, SPAN], dtype=torch.float64)
    share = torch.linspace(0.0, 1.0, moves + 1, dtype=torch.float64)
    if name == "uniform":
        first, last = schedule.time_of(ends).tolist()
        return schedule.at(first + share * (last - first)).unbind()
    if name == "log-snr":
        return schedule.at_log_snr(SPAN * (2.0 * share - 1.0)).unbind()
    high, low = (-ends / 14.0).exp().tolist()
    return schedule.at_log_snr(-14.0 * (high + share * (low - high)).log()).unbind()


def uncorrected(state: Any) -> Any:
    return state._replace(base=None) if isinstance(state, History) else state


def between_levels(quick: bool) -> Iterator[dict[str, Any]]:
    y = WORLD.sample(Keys.for_draws(1, 0, BATCH)).x0 + math.exp(SPAN / 2) * EPS
    end = exact(y, math.exp(SPAN / 2), math.exp(-SPAN / 2), 512)
    for schedule_name, schedule in SCHEDULES.items():
        model = WORLD.denoiser(GaussianProcess(schedule))
        for grid in ("uniform", "log-snr", "karras"):
            for name, solver in solvers().items():
                searched = solver.stages > 1 and name.startswith(SEARCHING) and isinstance(schedule, VariancePreserving)
                if searched and quick:
                    continue  # every inner stage searches the schedule for its level
                counts, theory = moves_of(solver, quick), min(solver.order, 2) if name.startswith("ipndm") else solver.order
                row: dict[str, Any] = {"schedule": schedule_name, "plan": grid, "solver": name, "theory": theory, "moves": counts}
                for kind, seeded in (("cold", 0), ("seeded", solver.order - 1 if solver.stages == 1 else 0)):
                    errors = []
                    for moves in counts:
                        plan = inner_grid(schedule, grid, moves)

                        def path(level: Level, plan: tuple[Level, ...] = plan) -> torch.Tensor:
                            if level is plan[0]:
                                return level.alpha * y
                            return level.alpha * exact(y, math.exp(SPAN / 2), float(level.noise_to_signal), 32)

                        found = endpoint(model, solver, plan, path, seeded, uncorrected)
                        errors.append(rms(found / plan[-1].alpha - end))
                    row |= {kind: round(observed_order(counts[-2:], errors[-2:]), 2), "errors": errors}
                yield row


def whole_paths(quick: bool) -> Iterator[dict[str, Any]]:
    counts = (64, 128) if quick else (64, 128, 256)
    mean = WORLD.moments()[0]
    for schedule_name, schedule in SCHEDULES.items():
        model, first = WORLD.denoiser(GaussianProcess(schedule)), schedule.at(schedule.noisiest)
        x = first.alpha * mean + first.sigma * EPS
        ratio = 1e4 if first.is_noise else float(first.noise_to_signal)
        end = exact(mean + 1e4 * EPS if first.is_noise else x / first.alpha, ratio, 1e-5, 512 if quick else 1536)
        for plan_name in ("uniform", "log-snr", "karras"):
            for name, solver in solvers().items():
                if name not in ("ddim", "dpm++2m", "unipc", "deis", "ipndm") and not name.startswith(("euler", "heun")):
                    continue
                errors = []
                for moves in counts:
                    *_, last = sample(model, solver, load(entry("plan", plan_name))(schedule, moves), x, SampleNoise(range(BATCH)))
                    errors.append(rms(last.x - end))
                row = {"schedule": schedule_name, "plan": plan_name, "solver": name, "theory": theory(name, solver, schedule, plan_name)}
                yield row | {"moves": counts, "cold": round(observed_order(counts[-2:], errors[-2:]), 2), "errors": errors}


def theory(name: str, solver: Solver, schedule: Schedule, plan: str) -> str:
    """The order that a whole path has in the limit, and what limits it."""
    order = 2 if name == "ipndm" else solver.order
    if plan != "uniform":
        return f"{order}, to sigma_min"
    if name.endswith("log-snr") and schedule.at(schedule.noisiest).is_noise:
        return "0, first steps"
    rough = float(schedule.at(1e-6).sigma) > 1e-4  # sigma ~ sqrt(t)
    return "1, last step" if rough and order > 1 else str(order)


def main() -> int:
    parser = argparse.ArgumentParser(description="Order of convergence of every deterministic solver.")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter plans")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    words = parser.parse_args()
    torch.set_num_threads(1)
    off = []
    print(f"{'schedule':13}{'plan':9}{'solver':20}{'theory':>7}{'seeded':>8}{'cold':>7}   errors of x/alpha")
    inner = []
    for row in between_levels(words.quick):
        inner.append(row)
        wrong = abs(row["seeded"] - row["theory"]) >= (0.2 if row["theory"] < 4 and not words.quick else 0.6)
        off += [row] if wrong else []
        errors = " ".join(f"{error:.1e}" for error in row["errors"])
        shown = f"{row['schedule']:13}{row['plan']:9}{row['solver']:20}{row['theory']:7d}{row['seeded']:8.2f}{row['cold']:7.2f}"
        print(f"{shown}   {errors}{'   OFF' if wrong else ''}", flush=True)
    print(f"\n{'schedule':13}{'plan':9}{'solver':20}{'theory':>16}{'cold':>7}   errors of x_0")
    whole = []
    for row in whole_paths(words.quick):
        whole.append(row)
        errors = " ".join(f"{error:.1e}" for error in row["errors"])
        print(f"{row['schedule']:13}{row['plan']:9}{row['solver']:20}{row['theory']:>16}{row['cold']:7.2f}   {errors}", flush=True)
    if words.json:
        write_json(words.json, {"benchmark": "orders", "torch": torch.__version__, "between_levels": inner, "whole_paths": whole})
    print(f"\n{len(inner) - len(off)} of {len(inner)} orders are those of theory.")
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())
