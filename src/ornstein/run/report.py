# SPDX-License-Identifier: Apache-2.0
"""`report.html`: one page that tells a run, made from the files in its folder alone and needing nothing but itself.

Torch-free. The same files give the same page, byte for byte; parts that are not there yet are named with the command
that makes them, and a damaged file costs its own section only.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ornstein.base.errors import OrnsteinError
from ornstein.base.files import write_text
from ornstein.run.page import shown
from ornstein.run.page.diagnosed import diagnosed
from ornstein.run.page.document import command, document, facts, missing
from ornstein.run.page.markup import Markup, join, tag
from ornstein.run.page.measured import table, tiles
from ornstein.run.page.noticed import noticed
from ornstein.run.page.scales import number
from ornstein.run.page.sources import numeric
from ornstein.run.page.story import Story


def report(folder: Path) -> Path:
    """Write `report.html` of the run in `folder` and give its path. Raises UsageError for no run, StorageError."""
    story = Story(folder)
    run = shlex.quote(str(folder))
    parts = [part for part in _PARTS if not (story.is_points and part.images_only)]
    content = [tag("section", tag("h2", part.title), _safely(part.make, story, run), id=part.anchor) for part in parts]
    path = folder / "report.html"
    write_text(path, document(f"{_name(story)} – Ornstein run", _head(story, run, parts), *content, _foot(run)))
    return path


def _recipe(story: Story, run: str) -> Markup:
    """The resolved recipe."""
    return join(tag("p", "Every setting of this run, as it was used."), tag("pre", tag("code", story.recipe_text)))


def _next(story: Story, run: str) -> Markup:
    """Commands that go on from here."""
    steps = numeric(story.setting("train", "steps"))
    beside = shlex.quote(str(story.path.parent / "next"))
    commands = []
    if steps is not None and story.last_step < steps:
        commands.append((f"ornstein train {run} --resume", "Train to the end; it goes on from the newest checkpoint, bit for bit."))
    if steps is not None:
        commands.append((f"ornstein train {run} --resume train.steps={2 * steps:.0f}", "Train for twice as long."))
    label = f" --label {min(3, story.classes - 1)}" if story.classes else ""
    guidance = " --guidance 2" if story.classes and numeric(story.setting("objective", "condition_drop")) else ""
    commands += [
        (f"ornstein sample {run} -n 16{label}{guidance} --steps 10 --seed 0", "Draw samples; each depends on its own seed alone."),
        (f"ornstein evaluate {run}", "Measure the model and rewrite this page."),
        (f"ornstein diagnose {run}", "Show where loss and errors come from, and what fewer steps cost."),
        (f"ornstein train {run}/recipe.yaml --out {beside} --init-from {run}", "Start another run from these weights."),
        (f"ornstein train {run}/recipe.yaml --out {beside} train.seed=1", "Train the same recipe afresh with another seed."),
    ]
    return tag("div", *(command(words, purpose) for words, purpose in commands), class_="next")


class _Part(NamedTuple):
    """A section of the page."""

    anchor: str
    title: str
    make: Callable[[Story, str], Markup]
    images_only: bool = False


_PARTS = (
    _Part("samples", "Samples", shown.samples),
    _Part("film", "From noise to image", shown.film, images_only=True),
    _Part("noticed", "What was noticed", noticed),
    _Part("training", "Training", shown.training),
    _Part("measured", "Measured", table),
    _Part("diagnosed", "Taken apart", diagnosed),
    _Part("closest", "Closest training images", shown.closest, images_only=True),
    _Part("recipe", "Recipe", _recipe),
    _Part("next", "How to go on", _next),
)
_NETWORKS = {"unet": "U-Net", "mlp": "multilayer perceptron"}


def _safely(make: Callable[[Story, str], Markup], story: Story, run: str) -> Markup:
    """A part of the page, or the sentence of the error that a damaged file caused."""
    try:
        return make(story, run)
    except OrnsteinError as error:
        return missing(str(error))


def _head(story: Story, run: str, parts: Sequence[_Part]) -> Markup:
    """Name, one sentence, the figures looked for first, what it was made with, and the way to each part."""
    made = [_safely(make, story, run) for make in (_sentence, tiles, _made_with)]
    links = tag("nav", *(tag("a", part.title, href=f"#{part.anchor}") for part in parts), aria_label="Parts of this page")
    return tag("header", tag("p", "Ornstein run", class_="kicker"), tag("h1", _name(story)), *made, links)


def _foot(run: str) -> Markup:
    return tag(
        "footer",
        "This page is made from the files of the run alone and holds no scripts or links to anywhere else. ",
        tag("code", f"ornstein report {run}"),
        " writes it again.",
    )


def _name(story: Story) -> str:
    name = story.setting("name")
    return str(name) if name is not None else story.path.resolve().name


def _sentence(story: Story, run: str) -> Markup:
    """What the model is and what it was trained with, from recipe and facts."""
    data, network, rule, schedule = (story.setting(section, "kind") for section in ("data", "network", "prediction", "schedule"))
    parameters, batch, seconds = numeric(story.fact("parameters")), numeric(story.setting("train", "batch_size")), story.seconds()
    what = "points in the plane" if story.is_points else "images"
    words = [f"A {'class-conditional ' if story.classes else ''}diffusion model of {what}"]
    origin = story.setting("data", "world") if story.is_points else data
    words += [f" ({origin})"] if origin else []
    words += [f", a {_NETWORKS.get(str(network), f'{network} network')}"] if network else []
    words += [f" of {number(parameters)} parameters"] if parameters is not None else []
    words += [f" with {rule} prediction on the {schedule} schedule"] if rule and schedule else []
    words += [f", trained for {number(story.last_step)} steps" if story.last_step else ", not trained yet"]
    words += [f" of {number(batch)} examples"] if batch is not None and story.last_step else []
    words += [f" in {_duration(seconds)}"] if seconds is not None and story.last_step else []
    return tag("p", *words, ".", class_="lead")


def _made_with(story: Story, run: str) -> Markup:
    """What the run depends on, from run.json. Raises CheckpointError where that is damaged."""
    known = story.facts

    def text(key: str) -> str:
        return "" if known.get(key) is None else str(known[key])

    pairs = [
        ("created", _moment(text("created"))),
        ("seed", text("seed")),
        ("device", text("device")),
        ("threads", text("threads")),
        ("Ornstein", text("code_version")),
        ("torch", text("torch_version")),
        ("recipe hash", text("recipe_hash")),
    ]
    return facts(pairs)


def _moment(text: str) -> str:
    """A time of ISO 8601 to the minute; other text as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".rstrip()


def _duration(seconds: float) -> str:
    """A time span in its two largest units."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{number(hours)} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
