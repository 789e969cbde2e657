# SPDX-License-Identifier: Apache-2.0
"""`--dry-run`: what training a recipe would take, from one real step of it on this machine."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.run.build import Facts, codec_of, data_of, model_of, objective_of
from ornstein.run.recipe import Recipe
from ornstein.run.teacher import rehearsed
from ornstein.run.train import settings_of
from ornstein.train.device import check_precision, resolve_device
from ornstein.train.heldout import batch_of
from ornstein.train.optimiser import adamw
from ornstein.train.rate import learning_rate

_TIMED = 3  # steps timed, after one that warms up


def estimate(recipe: Recipe) -> dict[str, Any]:
    """Parameters, memory and time of a run; loads the data and takes a few steps, writes nothing.

    Returns JSON values: the recipe, "parameters", "seconds_per_step", "minutes" for all steps without evaluations,
    "weights_mib" (weights, average and the optimiser's two moments), "peak_mib" of the process, "learning_rate" at the
    first, the highest and the last update. Raises DataError, UsageError.
    """
    settings = settings_of(recipe)
    device = resolve_device(settings.device)
    check_precision(settings.precision, device)
    split = data_of(recipe)
    facts = Facts.of(split)
    model, objective = model_of(recipe, facts, device), objective_of(recipe, **rehearsed(recipe, facts, device))
    optimiser = adamw(model.weights, settings)
    micro = settings.micro_batch or settings.batch_size
    batch = batch_of(split.train, torch.arange(micro) % len(split.train), codec_of(facts), device)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        record, _ = objective(model, batch, Keys.for_draws(settings.seed, 0, micro, "dry run"), 0.0, objective.init())
        record.losses["model"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    step()
    began = time.perf_counter()
    for _ in range(_TIMED):
        step()
    _wait(device)
    seconds = (time.perf_counter() - began) / _TIMED * settings.accumulation()
    parameters = sum(parameter.numel() for parameter in model.weights.parameters())
    rates = [learning_rate(settings, update) for update in (0, min(settings.warmup, settings.steps - 1), settings.steps - 1)]
    return {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_hash": recipe.hash,
        "parameters": parameters,
        "train_examples": len(split.train),
        "test_examples": len(split.test),
        "device": str(device),
        "seconds_per_step": round(seconds, 4),
        "minutes": round(seconds * settings.steps / 60.0, 2),
        "weights_mib": round(4 * 4 * parameters / 2**20, 1),
        "peak_mib": round(_peak(device) / 2**20, 1),
        "learning_rate": rates,
        "flops_per_example": _flops(model, batch.x0[:1]),
    }


def _flops(model: Model, x: torch.Tensor) -> int:
    """Floating-point operations of one forward pass for one example, two per multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.raw(x, model.process.schedule.at(0.5))
    return int(counter.get_total_flops())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device) -> float:
    """Bytes: the process's largest resident memory, or the CUDA device's largest allocation."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
