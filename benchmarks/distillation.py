# SPDX-License-Identifier: Apache-2.0
"""How good a student of two steps is, and what it costs, beside the teacher it learns from.

    .venv/bin/python benchmarks/distillation.py [--quick] [--json FILE] [--run FOLDER]

The teacher is the recipe `digits-long` (--quick: `digits`). Its Frechet distance is measured at every checkpoint with
`evaluate`'s own 50 steps; the time that counts is the time at which it first came within 5 % of its last one:
that of its checkpoint. Students learn from the last checkpoint by the shipped recipes; their time holds everything they need
beside it (pairs drawn by the teacher included). All figures: n = 897, the extractor of the teacher's run, 5 draws (--quick: 2).

Times are CPU seconds of this process, so that other work on the machine disturbs them little; teacher and students
count alike. A folder given by --run keeps the teacher, and is used again when it is complete.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

BOUND, GOAL = (1.3, 0.25), (1.1, 0.05)
"""(distance over the teacher's, share of its time) that are promised, and that are aimed at."""

NEAR = 0.05
STUDENTS = ("distill-reflow", "distill-consistency")


class Cost(NamedTuple):
    """A student's result."""

    student: str
    seconds: float
    frechet: dict[str, float]


def quiet(record: dict[str, Any]) -> None:
    if record.get("event") == "log" and record["step"] % 500 == 0:
        print(f"  step {record['step']}: loss {record['loss']:.4g}", file=sys.stderr, flush=True)


def trained_teacher(folder: Path, name: str, every: int) -> list[tuple[int, float]]:
    """Train where needed; (step, CPU seconds up to it) of every checkpoint kept."""
    from ornstein.base.files import read_json, write_json
    from ornstein.run.recipe import Recipe
    from ornstein.run.train import train

    clock = folder / "cpu-times.json"
    if not clock.exists():
        times: list[tuple[int, float]] = []
        began = time.process_time()

        def tell(record: dict[str, Any]) -> None:
            quiet(record)
            if record.get("event") == "checkpoint":
                times.append((record["step"], time.process_time() - began))

        words = [f"train.checkpoint_every={every}", "train.keep=100", "train.evaluate_every=1000000"]
        train(Recipe.load(name, words), folder, resume=False, init_from=None, show=tell)
        write_json(clock, {"times": times})
    return [(int(step), float(seconds)) for step, seconds in read_json(clock)["times"]]


def distance(folder: Path, checkpoint: str, draws: int) -> dict[str, float]:
    """Frechet distance by row of the run's own evaluation table."""
    from ornstein.run.evaluate import evaluate
    from ornstein.run.folder import RunFolder

    run = RunFolder(folder)
    words = [f"evaluate.draws={draws}", "evaluate.guidance=1"]
    stored = run.recipe()
    run.write_recipe(stored.override(words))
    try:
        rows = evaluate(folder, lambda record: None, checkpoint)["rows"]
    finally:
        run.write_recipe(stored)
    return {row["name"]: float(row["metrics"]["frechet"]["value"]) for row in rows}


def student(name: str, teacher: Path, folder: Path, draws: int) -> Cost:
    from ornstein.run.recipe import Recipe
    from ornstein.run.train import train

    began = time.process_time()
    train(Recipe.load(name, [f"teacher.run={teacher}"]), folder, resume=False, init_from=None, show=quiet)
    seconds = time.process_time() - began
    shutil.copytree(teacher / "extractors", folder / "extractors", dirs_exist_ok=True)
    rows = distance(folder, "newest", draws)
    steps = {"2" if row == "model" else row.split()[1]: value for row, value in rows.items() if row.startswith("model")}
    return Cost(name, seconds, steps)


def show(report: dict[str, Any]) -> None:
    print(f"torch {report['torch']}, {report['threads']} threads, load average {report['load'][0]:.2f} to {report['load'][1]:.2f}")
    print(f"teacher {report['teacher']}: distance {report['final']:.3f} at its end, floor {report['floor']:.3f}, {report['draws']} draws")
    print("  step, CPU s, distance: " + "; ".join(f"{step}, {seconds:.0f}, {value:.3f}" for step, seconds, value in report["curve"]))
    print(f"  within {NEAR:.0%} of it after {report['near_seconds']:.0f} CPU s (step {report['near_step']})\n")
    print(f"{'student':28}{'CPU s':>8}{'share':>8}{'1 step':>9}{'2 steps':>9}{'4 steps':>9}{'2 steps / teacher':>19}")
    for row in report["students"]:
        few = "".join(f"{row['frechet'].get(steps, float('nan')):9.3f}" for steps in ("1", "2", "4"))
        print(f"{row['student']:28}{row['seconds']:8.0f}{row['share']:8.1%}{few}{row['ratio']:19.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Two-step students of the digits teacher: quality and time.")
    parser.add_argument("--quick", action="store_true", help="the short teacher, two draws")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results here")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="keep the runs here")
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args()

    import torch

    from ornstein.base.files import write_json
    from ornstein.cli.machine import prepare

    prepare(words.threads)
    load = os.getloadavg()[0]
    name, every, draws = ("digits", 400, 2) if words.quick else ("digits-long", 500, 5)
    place = Path(tempfile.mkdtemp(prefix="distillation-")) if words.run is None else words.run
    times = trained_teacher(place / "teacher", name, every)
    curve, floor = [], 0.0
    for step, seconds in times:
        rows = distance(place / "teacher", str(step), draws)
        floor = rows["real train"]
        curve.append((step, seconds, rows["model"]))
    final = curve[-1][2]
    near_step, near_seconds, _ = next(point for point in curve if point[2] <= (1.0 + NEAR) * final)
    students = []
    for wanted in STUDENTS:
        shutil.rmtree(place / wanted, ignore_errors=True)
        cost = student(wanted, place / "teacher", place / wanted, draws)
        students.append({**cost._asdict(), "share": cost.seconds / near_seconds, "ratio": cost.frechet["2"] / final})
    report: dict[str, Any] = {"benchmark": "distillation", "torch": torch.__version__, "threads": words.threads}
    report |= {"teacher": name, "draws": draws, "curve": curve, "final": final, "floor": floor, "students": students}
    report |= {"near_step": near_step, "near_seconds": near_seconds, "load": [load, os.getloadavg()[0]]}
    best = min(students, key=lambda row: (row["ratio"] > BOUND[0] or row["share"] > BOUND[1], row["ratio"]))
    report["failed"] = [] if best["ratio"] <= BOUND[0] and best["share"] <= BOUND[1] else ["no student of 2 steps within 1.3x at 25 %"]
    report["goal"] = any(row["ratio"] <= GOAL[0] and row["share"] <= GOAL[1] for row in students)
    show(report)
    if words.json:
        write_json(words.json, report)
    held = "The promise holds; the goal " + ("too." if report["goal"] else "does not.")
    print("\n" + ("\n".join(f"NOT MET: {line}" for line in report["failed"]) or held))
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
