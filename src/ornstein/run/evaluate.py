# SPDX-License-Identifier: Apache-2.0
"""`ornstein evaluate`: measure a run beside the floor and two baselines that a model must beat, and illustrate its report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.base.files import read_json, write_bytes, write_json
from ornstein.data.dataset import Dataset, Split
from ornstein.evaluate.extractor import Extractor
from ornstein.evaluate.inception import Inception
from ornstein.evaluate.meters import ImageMeter, PointMeter
from ornstein.evaluate.metrics import Draws, Row, Samples
from ornstein.evaluate.table import Table
from ornstein.model.condition import Cond
from ornstein.run.build import codec_of, data_of
from ornstein.run.curves import curves
from ornstein.run.draw import film_strip, labels_for, metadata_of, sampler, write_samples
from ornstein.run.folder import RunFolder
from ornstein.run.guides import is_classifier
from ornstein.run.judge import judged
from ornstein.run.pictures import enlargement, grid, save_png
from ornstein.run.recipe import Recipe
from ornstein.run.students import Way, drawing, few_ways, picture, unguided
from ornstein.run.trained import Trained, trained

Show = Callable[[dict[str, Any]], None]

_APART = 1 << 20  # seeds between the draws of an evaluation, at least
_PAIRS = 8  # closest pairs shown
_MOST = 10_000  # samples per draw: as many as the test set has, up to this
_FEW, _MANY = 100, 1000  # replicates that intervals are taken from


def evaluate(folder: Path, show: Show, checkpoint: str = "newest", full: bool = False, inception: Path | None = None) -> dict[str, Any]:
    """Measure a run, write `evaluation.json` and the pictures of its report, and return the table as JSON values.

    Args:
        folder: the run.
        show: is told {"measuring": name, "drawn": n, "count": n} while it works and {"warning": sentence}.
        checkpoint: "newest", "best" or a step.
        full: also measure by noise level, and take intervals from more replicates.
        inception: weights for FID and its relatives, a safetensors file.

    Raises UsageError, DataError, CheckpointError, StorageError.
    """
    run = RunFolder.open(folder)
    model = trained(run, checkpoint, lambda sentence: show({"warning": sentence}))
    other = _inception(model, inception)
    split = data_of(model.recipe)
    if is_classifier(model.recipe):
        return _judged(run, model, split, show)
    draws = _draws(model, split, full)
    measured = _Images(run, model, split, show, draws, other) if model.facts.kind == "image" else _Points(run, model, split, show, draws)
    table = measured.table()
    document = {**table.document(), **model.identity(), "torch": torch.__version__, "device": str(model.device)}
    if full:
        document["by_level"] = curves(model, split, measured.meter.extractor if isinstance(measured, _Images) else None, show)
    document["text"] = table.text()
    document = _kept(run, document) | document
    _illustrate(run, model, measured)
    picture(model, run, lambda _: None)
    write_json(run.evaluation_file, document)
    return document


def _judged(run: RunFolder, model: Trained, split: Split, show: Show) -> dict[str, Any]:
    """Measure a classifier and write `evaluation.json`."""
    table = judged(model, split, show)
    document = {**table.document(), **model.identity(), "torch": torch.__version__, "device": str(model.device), "text": table.text()}
    write_json(run.evaluation_file, document)
    return document


def _kept(run: RunFolder, document: dict[str, Any]) -> dict[str, Any]:
    """What an earlier evaluation of the same weights under the same recipe holds beyond this one: figures that take a word to be made."""
    try:
        before = read_json(run.evaluation_file)
    except CheckpointError:
        return {}
    same = all(before.get(key) == document[key] for key in ("format", "model_hash", "recipe_hash"))
    return before if same else {}


def _inception(model: Trained, weights: Path | None) -> Inception | None:
    if weights is None:
        return None
    if model.facts.kind != "image":
        raise UsageError("Inception looks at images, and this run has none.", "Leave --inception out.")
    return Inception.load(weights)


def _draws(model: Trained, split: Split, full: bool) -> Draws:
    replicates = _MANY if full else _FEW
    return Draws(len(split.train), len(split.test), model.recipe.evaluate.draws, model.recipe.train.seed, _MOST, replicates)


def _guided(recipe: Recipe) -> Recipe:
    """The recipe with its `sample` section in the few guided steps that are measured: the solver and the plan are the user's."""
    update = {"steps": recipe.evaluate.guided_steps, "guidance": recipe.evaluate.guidance}
    return recipe.model_copy(update={"sample": recipe.sample.model_copy(update=update)})


def _ways(model: Trained, run: RunFolder, show: Show) -> Iterator[Way]:
    """The ways of sampling that are measured: unguided, guided in fewer steps, and those of a student."""
    measured = model.recipe.evaluate
    yield Way("model", measured.draws, model, drawing(model.recipe, steps=measured.steps, guidance=unguided(model.recipe)))
    if model.facts.classes and measured.guidance != 1.0:
        yield Way("model, guided", min(measured.guided_draws, measured.draws), model, _guided(model.recipe))
    yield from few_ways(model, run, lambda sentence: show({"warning": sentence}))


def _note(recipe: Recipe) -> str:
    """How samples are drawn, in a sentence."""
    settings = recipe.sample
    steps = "1 step" if settings.steps == 1 else f"{settings.steps} steps"
    return f"{steps} of {settings.solver.kind} on a {settings.plan.kind} plan, guidance {settings.guidance:g}."


def _drawn(model: Trained, recipe: Recipe, draw: int, labels: Tensor | None, n: int, tell: Callable[[int], None]) -> Tensor:
    """One draw of n decoded samples; sample i has class labels[i]."""
    rows = recipe.sample.micro_batch
    start = draw * rows * -(-_APART // rows)  # a draw fills whole micro-batches from its first sample on

    def condition(seeds: Any) -> Cond | None:
        if labels is None:
            return None
        places = torch.tensor([seed - start for seed in seeds])
        return Cond(label=labels[places.clamp(0, n - 1)])

    pieces: list[Tensor] = []
    for piece in sampler(model, recipe, condition).draw(range(start, start + n)):
        pieces.append(piece)
        tell(len(piece))
    return codec_of(model.facts).decode(torch.cat(pieces))


class _Images:
    """Figures of an image model."""

    def __init__(self, run: RunFolder, model: Trained, split: Split, show: Show, draws: Draws, other: Inception | None) -> None:
        self.run, self.model, self.show, self.split, self.draws = run, model, show, split, draws
        train, test = (Samples(data.raw, data.labels) for data in (split.train, split.test))
        show({"measuring": "extractor"})
        self.meter = ImageMeter(train, test, _extractor(run, split.train, model), draws, other)
        self.first: Tensor | None = None

    def table(self) -> Table:
        """Floor, ways of sampling, baselines."""
        rows = [self.meter.floor()]
        for name, count, of, recipe in _ways(self.model, self.run, self.show):
            sets = []
            for draw in range(count):
                labels = self.meter.labels(draw)
                tell = _teller(self.show, name, draw, count, self.draws.n)
                sets.append(Samples(_drawn(of, recipe, draw, labels, self.draws.n, tell), labels))
            if self.first is None:
                self.first = sets[0].images
            rows.append(self.meter.measure(name, _note(recipe), sets))
        self.show({"measuring": "baselines"})
        return Table((*rows, *self.meter.baselines()))


class _Points:
    """Figures of a model of points."""

    def __init__(self, run: RunFolder, model: Trained, split: Split, show: Show, draws: Draws) -> None:
        self.run, self.model, self.show, self.split, self.draws = run, model, show, split, draws
        self.meter = PointMeter(split.train.raw, split.test.raw, self.draws)

    def table(self) -> Table:
        """Floor and ways of sampling."""
        rows: list[Row] = [self.meter.floor()]
        labels = self.split.train.labels
        for name, count, of, recipe in _ways(self.model, self.run, self.show):
            sets = []
            for draw in range(count):
                wanted = labels[self.draws.indices(draw)] if labels is not None and self.model.facts.classes else None
                tell = _teller(self.show, name, draw, count, self.draws.n)
                sets.append(_drawn(of, recipe, draw, wanted, self.draws.n, tell))
            rows.append(self.meter.measure(name, _note(recipe), sets))
        return Table(tuple(rows))


def _teller(show: Show, name: str, draw: int, count: int, n: int) -> Callable[[int], None]:
    done = draw * n

    def tell(more: int) -> None:
        nonlocal done
        done += more
        show({"measuring": name, "drawn": done, "count": n * count})

    return tell


def _extractor(run: RunFolder, train: Dataset, model: Trained) -> Extractor:
    """The run's extractor, fitted to the training images on first use and kept, so that later figures compare."""
    try:
        return Extractor.load(run.extractor)
    except CheckpointError:
        grid_side = 8 if model.recipe.data.kind == "digits" else 16
        extractor = Extractor.fit(train.raw, train.labels, model.facts.classes, model.recipe.train.seed, grid_side)
        extractor.save(run.extractor)
        return extractor


def _illustrate(run: RunFolder, model: Trained, measured: _Images | _Points) -> None:
    """The pictures of the report: samples by class, a film strip, the samples closest to training images."""
    facts, recipe = model.facts, _guided(model.recipe)
    count = 8 * facts.classes if 1 < facts.classes <= 12 else 64
    if facts.kind == "points":
        count = measured.draws.n
    made, metadata = sampler(model, recipe, labels_for(facts, None)), metadata_of(model, recipe)
    seeds = range(count)
    raw = codec_of(facts).decode(torch.cat(list(made.draw(seeds))))
    labels = [seed % facts.classes for seed in seeds] if facts.classes else None
    reference = measured.split.test.raw if facts.kind == "points" else None
    write_samples(run.samples / "report", raw, labels, seeds, facts, metadata, reference)
    if isinstance(measured, _Images) and measured.first is not None:
        write_bytes(run.path / "film.png", film_strip(made, range(recipe.sample.micro_batch), 4, facts, metadata))
        _closest(run, measured, measured.first, model.identity())


def _closest(run: RunFolder, measured: _Images, samples: Tensor, identity: dict[str, Any]) -> None:
    """`nearest.png`: the samples nearest to a training image over that image beneath."""
    pairs = measured.meter.copies(samples).closest(_PAIRS)
    chosen = torch.cat([samples[[sample for sample, _, _ in pairs]], measured.split.train.raw[[image for _, image, _ in pairs]]])
    shown = chosen.numpy().transpose(0, 2, 3, 1)
    headings = [f"{ratio:.2f}" for _, _, ratio in pairs]
    save_png(
        run.path / "nearest.png",
        grid(shown, len(pairs), enlargement(shown.shape[1]), headings),
        {**identity, "pairs": [list(pair) for pair in pairs]},
    )
