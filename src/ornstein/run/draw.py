# SPDX-License-Identifier: Apache-2.0
"""Drawing samples from a run into a folder: pictures with their parameters as metadata, and the arrays."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ornstein import __version__
from ornstein.base.errors import UsageError
from ornstein.base.files import digest_of, write_bytes
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.run.build import Facts, codec_of, guided, plan_of, schedule_of, solver_of
from ornstein.run.control import NOTHING, Control
from ornstein.run.fitted import with_fitted
from ornstein.run.folder import RunFolder
from ornstein.run.given import given
from ornstein.run.guides import check_class, guide_of, refuse_classifier
from ornstein.run.pictures import enlargement, film, grid, png_bytes, save_png
from ornstein.run.recipe import Recipe
from ornstein.run.trained import Trained, trained
from ornstein.sample.draw import Sampler, moves_within

_MOST_SINGLE = 1000  # single PNGs beyond this many would only fill a folder; the arrays hold every sample


@dataclass(frozen=True)
class DrawOptions:
    """What `ornstein sample` may be told; None takes the recipe's value.

    Args:
        count: samples, >= 1.
        label: one class for all; None takes the classes in turn, by seed.
        solver: name of a solver.
        plan: name of a plan.
        steps: moves.
        evaluations: denoiser calls to stay within, instead of `steps`.
        guidance: scale of classifier-free guidance.
        seed: of the first sample; sample i has seed + i.
        checkpoint: "newest", "best" or a step.
        out: folder to write to; None makes one under the run's `samples/`.
        interval: times between which guidance acts.
        rescale: share of the conditional answer's spread that guidance is given back.
        control: who guides, what to start from and what to keep to.
    """

    count: int = 16
    label: int | None = None
    solver: str | None = None
    plan: str | None = None
    steps: int | None = None
    evaluations: int | None = None
    guidance: float | None = None
    seed: int | None = None
    checkpoint: str = "newest"
    out: Path | None = None
    interval: tuple[float, float] | None = None
    rescale: float | None = None
    control: Control = NOTHING


def settled(recipe: Recipe, options: DrawOptions) -> Recipe:
    """The recipe with its `sample` section as the options say. Raises RecipeError or UsageError."""
    words: dict[str, str | float | None] = {"solver.kind": options.solver, "plan.kind": options.plan, "steps": options.steps}
    # What the recipe knows is how the model guides itself, so another guide leaves it at 1.
    words |= {"guidance": 1.0 if options.control.guides else options.guidance, "seed": options.seed, "guidance_rescale": options.rescale}
    words |= {"guidance_interval": None if options.interval is None else json.dumps(options.interval)}
    overrides = [f"sample.{key}={value}" for key, value in words.items() if value is not None]
    if options.steps is not None and options.evaluations is not None:
        raise UsageError("--steps and --evaluations were both given.", "Give one of them: moves, or a budget of denoiser calls.")
    recipe = recipe.override(overrides)
    if options.evaluations is None:
        return recipe
    plan = partial(plan_of, recipe.sample.plan, schedule_of(recipe))
    return recipe.override([f"sample.steps={moves_within(solver_of(recipe.sample.solver), options.evaluations, plan)}"])


def sampler(
    model: Trained,
    recipe: Recipe,
    condition: Callable[[Sequence[int]], Cond | None],
    guide: Callable[[Denoiser], Denoiser] | None = None,
) -> Sampler:
    """The sampler that a recipe's `sample` section describes, for a trained model; `guide` takes the place of its guidance."""
    settings = recipe.sample
    plan = plan_of(settings.plan, model.model.process.schedule, settings.steps)
    told = (settings.guidance, settings.guidance_interval, settings.guidance_rescale)
    denoiser = guided(model.model, *told) if guide is None else guide(model.model)
    return Sampler(denoiser, solver_of(settings.solver), plan, model.facts.shape, condition, settings.micro_batch, model.device)


def draw(folder: Path, options: DrawOptions, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Draw samples and write them; what it did, as JSON values.

    Args:
        folder: the run.
        options: how many, of what, and how.
        show: is told {"drawn": so far, "count": all} while it works, and {"warning": sentence} of anything unusual.

    Raises UsageError, RecipeError, CheckpointError, StorageError.
    """
    def say(sentence: str) -> None:
        show({"warning": sentence})

    run = RunFolder.open(folder)
    if options.count < 1:
        raise UsageError(f"{options.count} samples cannot be drawn.", "Ask for at least one with -n.")
    options.control.check(options.label, options.guidance)
    refuse_classifier(run.recipe(), folder, f"Let it guide another run: --classifier {folder}")
    model = trained(run, options.checkpoint, say)
    recipe = settled(model.recipe, options)
    scale = model.recipe.sample.guidance if options.guidance is None else options.guidance
    guide = guide_of(model, recipe.sample, options.control, scale, say)
    check_class(guide.facts, options.label, "--label")
    seeds = range(recipe.sample.seed, recipe.sample.seed + options.count)
    made, told = given(sampler(model, recipe, labels_for(guide.facts, options.label), guide.wrap), model, options.control)
    metadata = metadata_of(model, recipe) | guide.words | told
    if (options.solver, options.plan, options.control) == (None, None, NOTHING):
        made, fitted, sentence = with_fitted(run, model, recipe, options.evaluations or recipe.sample.steps, made)
        metadata |= fitted
        show({"note": sentence} if sentence else {})
    pieces: list[Tensor] = []
    for piece in made.draw(seeds):
        pieces.append(piece)
        show({"drawn": sum(map(len, pieces)), "count": options.count})
    labels = _labels(guide.facts, options.label, seeds)
    out = options.out if options.out is not None else run.samples / _name(metadata, seeds, options.control)
    write_samples(out, codec_of(model.facts).decode(torch.cat(pieces)), labels, seeds, guide.facts, metadata)
    return {"samples": options.count, "out": str(out), "seeds": [seeds.start, seeds.stop - 1], **metadata}


def labels_for(facts: Facts, label: int | None) -> Callable[[Sequence[int]], Cond | None]:
    """Condition of a batch of seeds: the given label, or the classes in turn by seed; None without classes."""
    if not facts.classes:
        return lambda seeds: None
    return lambda seeds: Cond(label=torch.tensor([seed % facts.classes if label is None else label for seed in seeds]))


def write_samples(
    out: Path,
    raw: Tensor,
    labels: Sequence[int] | None,
    seeds: Sequence[int],
    facts: Facts,
    metadata: dict[str, Any],
    reference: Tensor | None = None,
) -> None:
    """Write `samples.npz`, and for images `grid.png` and one PNG per sample, each with its parameters (in the archive: as JSON).

    Args:
        out: the folder, made when absent.
        raw: decoded samples, uint8 `(n, c, h, w)` or float `(n, d)`.
        labels: class of each, or None.
        seeds: seed of each.
        facts: kind and class names.
        metadata: parameters that all of them share.
        reference: real data to store beside them, for a scatter plot.
    """
    arrays = {"samples": _numpy(raw), "seeds": np.asarray(list(seeds), dtype=np.int64), "parameters": np.asarray(json.dumps(metadata))}
    if labels is not None:
        arrays["labels"] = np.asarray(labels, dtype=np.int64)
    if reference is not None:
        arrays["reference"] = reference.numpy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes(out / "samples.npz", buffer.getvalue())
    if facts.kind != "image":
        return
    images = arrays["samples"]
    save_png(out / "grid.png", class_grid(images, labels, facts), {**metadata, "seed": seeds[0], "count": len(images)})
    digits = len(str(len(images) - 1))
    for i, seed in enumerate(seeds[:_MOST_SINGLE]):
        name = f"{i:0{digits}d}" + ("" if labels is None else f"-{_safe(facts.class_names[labels[i]])}")
        alone = {**metadata, "seed": seed} | ({} if labels is None else {"label": labels[i]})
        save_png(out / f"{name}.png", grid(images[i : i + 1], 1, 1, margin=0), alone)


def class_grid(images: NDArray[np.uint8], labels: Sequence[int] | None, facts: Facts, most: int = 100) -> Image.Image:
    """A grid with a column per class where classes come in turn, of at most `most` images."""
    shown = images[:most]
    columns = (
        facts.classes
        if labels is not None and 1 < facts.classes <= 12 and list(labels[: facts.classes]) == list(range(facts.classes))
        else 0
    )
    scale = enlargement(images.shape[1])
    if columns and len(shown) >= columns:
        return grid(shown, columns, scale, facts.class_names)
    return grid(shown, min(len(shown), 10), scale)


def film_strip(made: Sampler, seeds: Sequence[int], rows: int, facts: Facts, metadata: dict[str, Any]) -> bytes:
    """`film.png` of the first samples of a batch: x_t over the estimate of x_0, move by move."""
    codec = codec_of(facts)
    x, t = made.start(seeds), float(made.model.process.schedule.noisiest)
    noisy, clean, times = [], [], []
    for step in made.steps(seeds):
        if step.estimate is not None:
            scale = max(1.0, float(x[:rows].abs().quantile(0.98)))  # exploding paths leave [-1, 1]; the eye needs them inside
            noisy.append(_numpy(codec.decode(x[:rows] / scale)))
            clean.append(_numpy(codec.decode(step.estimate.x0[:rows])))
            times.append(t)
        x, t = step.x, float(step.at.t)
    return png_bytes(film(np.stack(noisy), np.stack(clean), times), {**metadata, "seed": seeds[0]})


def metadata_of(model: Trained, recipe: Recipe) -> dict[str, Any]:
    """What every picture of a model says beside its own seed and label: how it was drawn, from what, on what machine."""
    settings = recipe.sample
    words = {"steps": settings.steps, "solver": settings.solver.kind, "plan": settings.plan.kind, "guidance": settings.guidance}
    machine = {
        "torch": torch.__version__,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "micro_batch": settings.micro_batch,
    }
    return {**words, **model.identity(), "version": __version__, **machine, "sample": settings.model_dump(mode="json")}


def _labels(facts: Facts, label: int | None, seeds: Sequence[int]) -> list[int] | None:
    return [seed % facts.classes if label is None else label for seed in seeds] if facts.classes else None


def _name(metadata: Mapping[str, Any], seeds: range, control: Control) -> str:
    """Folder of a drawing that was not told where to write."""
    plain = f"seed-{seeds.start}-{metadata['solver']}-{metadata['steps']}"
    return f"{plain}-{digest_of(control.given())[:8]}" if control.given() else plain


def _numpy(raw: Tensor) -> NDArray[Any]:
    """Images as `(n, h, w)` or `(n, h, w, c)`; anything else as it is."""
    array: NDArray[Any] = raw.numpy()
    if array.ndim != 4:
        return array
    return array[:, 0] if array.shape[1] == 1 else array.transpose(0, 2, 3, 1)


def _safe(name: str) -> str:
    """A class name as part of a file name."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:40]
