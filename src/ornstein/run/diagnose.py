# SPDX-License-Identifier: Apache-2.0
"""`ornstein diagnose`: why a run is as good and as fast as it is.

Four questions, each a section of `diagnostics.json` and a plot of the report: where on the noise axis loss and gradient come
from, how the plan deals out what there is to know, how straight the sampling paths are, and what coarse steps cost on them.
The network computes in float32 here, whatever the run's precision, so that small differences are those of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.base.files import write_json
from ornstein.base.keys import Keys, permutation
from ornstein.data.dataset import Split
from ornstein.evaluate.discretisation import Cost, Start, errors, order
from ornstein.evaluate.information import dealt, information, spectrum
from ornstein.evaluate.shares import shares
from ornstein.evaluate.straightness import flow_levels, path, straightness
from ornstein.model.denoiser import Model
from ornstein.run.build import codec_of, data_of, objective_of, plan_of, solver_of, without_detours
from ornstein.run.draw import labels_for
from ornstein.run.folder import RunFolder
from ornstein.run.guides import refuse_classifier
from ornstein.run.recipe_parts import part_of
from ornstein.run.teacher import lesson_of, parts_of
from ornstein.run.trained import Trained, trained
from ornstein.sample.noise import SampleNoise
from ornstein.train.heldout import batch_of

FORMAT = 1
USUAL = ("ddim", "dpm++2m", "heun")
_GROUPS, _MOST = 10, 640  # groups of noise levels, and draws in all of them
_TIMES = 65  # of the schedule's curves
_PATH_MOVES, _FINE = 48, 96
_MOVES = (3, 5, 8, 12, 20, 32)
_SPECTRUM = 4096  # training examples for the variances of the data

Show = Callable[[dict[str, Any]], None]


def diagnose(folder: Path, show: Show, checkpoint: str = "newest", count: int = 64, solvers: Sequence[str] = ()) -> dict[str, Any]:
    """Take a run's loss, schedule, paths and steps apart; write `diagnostics.json` and return what is in it.

    Args:
        folder: the run.
        show: is told {"measuring": name} while it works and {"warning": sentence}.
        checkpoint: "newest", "best" or a step.
        count: samples whose paths are followed.
        solvers: names of deterministic solvers to compare beside the usual ones and the recipe's.

    Raises UsageError, DataError, CheckpointError, StorageError.
    """
    run = RunFolder.open(folder)
    if count < 2:
        raise UsageError(f"Paths of {count} samples say nothing.", "Follow at least 2 samples.")
    refuse_classifier(run.recipe(), folder, f"Measure it: ornstein evaluate {folder}")
    model = trained(run, checkpoint, lambda sentence: show({"warning": sentence}))
    if model.model.flow_map:
        what = "This run's model jumps along the paths and does not follow them, so they cannot be taken apart."
        raise UsageError(what, "Diagnose its teacher's run.")
    split = data_of(model.recipe)
    start = _start(model, count)
    x0 = codec_of(model.facts).encode(split.train.raw[permutation(len(split.train), model.recipe.train.seed, "spectrum")[:_SPECTRUM]])
    compared = _solvers(model, solvers)
    document = {"format": FORMAT, **model.identity(), "torch": torch.__version__, "device": str(model.device)}
    show({"measuring": "loss and gradient by noise level"})
    document["shares"] = _shares(run, model, split, show)
    document["schedule"] = _schedule(model, spectrum(x0))
    show({"measuring": "sampling paths"})
    document["paths"] = _paths(model, start)
    std = float(x0.double().std(0).square().mean().sqrt())
    document["discretisation"] = _discretisation(model, start, compared, std, lambda name: show({"measuring": f"steps of {name}"}))
    document["text"] = text(document)
    write_json(run.diagnostics_file, document)
    return document


def _start(model: Trained, count: int) -> Start:
    """The samples of seeds 0.., from the prior, for the network in float32."""
    own = model.model
    exact = Model(own.network, own.process, own.prediction, "fp32", own.telling)
    seeds = range(count)
    noise, cond = SampleNoise(seeds), labels_for(model.facts, None)(seeds)
    x = own.process.prior(model.facts.shape, noise.prior_keys()).to(model.device)
    return Start(exact, x, noise, None if cond is None else cond.to(model.device))


def _shares(run: RunFolder, model: Trained, split: Split, show: Show) -> dict[str, Any]:
    recipe = model.recipe
    taught = {} if recipe.teacher is None else parts_of(lesson_of(recipe, run, model.facts, show, {}), recipe, run, show)
    count = min(len(split.train), _MOST)
    rows = permutation(len(split.train), recipe.train.seed, "diagnose")[:count]
    batch = batch_of(split.train, rows, codec_of(model.facts), model.device)
    keys = Keys.for_draws(recipe.train.seed, 0, count, "diagnose")
    found = shares(objective_of(recipe, **taught), model.model, batch, keys, min(_GROUPS, count), min(recipe.train.batch_size, count))
    return {"draws": count, "groups": [share._asdict() for share in found]}


def _schedule(model: Trained, variances: Tensor) -> dict[str, Any]:
    """Curves of the schedule and of the information in it, and how the recipe's plan deals it out."""
    schedule, settings = model.model.process.schedule, model.recipe.sample
    walked = without_detours(settings.plan)
    t = torch.linspace(0.0, schedule.noisiest, _TIMES + 1, dtype=torch.float64)[1:]
    level = schedule.at(t)
    log_snr = schedule.log_snr(t)
    known = log_snr.isfinite()
    plan = plan_of(walked, schedule, settings.steps)
    moves = dealt(plan, variances)
    return {
        "t": t.tolist(),
        "alpha": torch.as_tensor(level.alpha).tolist(),
        "sigma": torch.as_tensor(level.sigma).tolist(),
        "log_snr": [value if sound else None for value, sound in zip(log_snr.tolist(), known.tolist(), strict=True)],
        "information": information(log_snr, variances).tolist(),
        "data_std": float(variances.mean().sqrt()),
        "plan": {"kind": walked.kind, "steps": settings.steps, **{key: value.tolist() for key, value in moves._asdict().items()}},
    }


def _paths(model: Trained, start: Start) -> dict[str, Any]:
    schedule = model.model.process.schedule
    solver = solver_of(part_of("solver", "heun"))
    nodes = list(path(start.model, solver, flow_levels(schedule, _PATH_MOVES), start.x, start.noise, start.cond))
    u = torch.tensor([node for node, _ in nodes], dtype=torch.float64)
    measured = straightness(u, torch.stack([z for _, z in nodes]))
    rates = measured.angles.mean(1) / (0.5 * (u[:-2] - u[2:]))
    quartiles = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    summary = {name: getattr(measured, name).quantile(quartiles).tolist() for name in ("stretch", "defect", "turning")}
    return {
        "samples": len(start.x),
        "solver": "heun",
        "moves": _PATH_MOVES,
        "u": u[1:-1].tolist(),
        "turning_rate": rates.tolist(),
        **summary,
    }


def _solvers(model: Trained, more: Sequence[str]) -> dict[str, Any]:
    """The sections of the solvers to compare, by name; stochastic ones of the recipe are left out, asked for they are refused."""
    own = [section for section in (model.recipe.sample.solver, model.recipe.evaluate.solver) if not solver_of(section).stochastic]
    sections = {name: part_of("solver", name) for name in (*USUAL, *more)} | {section.kind: section for section in own}
    for name, section in sections.items():
        if solver_of(section).stochastic:
            raise UsageError(f"{name} draws noise, so its end points say nothing of its steps.", "Name deterministic solvers.")
    return sections


def _discretisation(model: Trained, start: Start, sections: dict[str, Any], std: float, tell: Callable[[str], None]) -> dict[str, Any]:
    schedule, walked = model.model.process.schedule, without_detours(model.recipe.sample.plan)
    solvers = {name: solver_of(section) for name, section in sections.items()}
    reference = solver_of(part_of("solver", "heun"))
    found = errors(start, solvers, lambda moves: plan_of(walked, schedule, moves), _MOVES, reference, _FINE, std, tell)
    rows = {}
    for name, costs in found.costs.items():
        rows[name] = {"order": solvers[name].order, "observed": order(costs, found.floor), **_columns(costs)}
    about = {"samples": len(start.x), "plan": walked.kind, "reference": f"heun, {_FINE} moves", "floor": found.floor}
    return {**about, "solvers": rows}


def _columns(costs: Sequence[Cost]) -> dict[str, list[Any]]:
    return {name: [getattr(cost, name) for cost in costs] for name in Cost._fields}


def text(document: dict[str, Any]) -> str:
    """What `ornstein diagnose` prints: the findings in a few lines."""
    groups, paths, steps = document["shares"]["groups"], document["paths"], document["discretisation"]
    lines = ["noise level t      loss   of the loss   of the gradient     pull"]
    lines += [
        f"{group['low']:5.2f} to {group['high']:4.2f}  {group['loss']:8.3g}  {group['loss_share']:10.1%}  {group['gradient_share']:14.1%}  "
        f"{group['pull']:9.1%}"
        for group in groups
    ]
    stretch, defect, turning = (paths[name][1] for name in ("stretch", "defect", "turning"))
    lines += ["", f"Paths: {stretch:.3f} times as long as their chords, defect {defect:.3g}, turning by {turning:.2f} rad (medians)."]
    lines += ["", f"Error of the steps, in standard deviations of the data ({steps['reference']} is exact to {steps['floor']:.1g}):"]
    for name, row in steps["solvers"].items():
        cells = (f"{calls}: {error:.2g}" for calls, error in zip(row["evaluations"], row["error"], strict=True))
        lines.append(f"  {name:<10} {'   '.join(cells)}")
    return "\n".join(lines) + "\n"
