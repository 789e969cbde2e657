# SPDX-License-Identifier: Apache-2.0
"""The parts of a report that show pictures and curves, each from the story of a run to markup.

A section shows what it finds; where nothing is there yet it says in one sentence which command makes it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.base.errors import DataError, OrnsteinError
from ornstein.run.page.document import code, figure, missing, picture
from ornstein.run.page.markup import Markup, join, tag
from ornstein.run.page.scales import Linear, Log, Scale, number
from ornstein.run.page.story import Story
from ornstein.run.pictures import read_metadata
from ornstein.run.plots import Axis, Cloud, Mark, Series, line_plot, scatter


def samples(story: Story, run: str) -> Markup:
    """The sample grid, or the cloud of sampled points beside the data."""
    if story.setting("objective", "kind") == "classification":
        return missing("This run tells classes apart; ", code(f"ornstein sample RUN --classifier {run}"), " lets it guide another run.")
    if story.is_points:
        return _points(story, run)
    path = story.grid()
    if path is None:
        return missing("No samples yet; ", code(f"ornstein sample {run} -n 40"), " draws some.")
    text = "Every image starts from noise of its own. Where columns have names, these are classes."
    return join(figure(picture(path, "Grid of samples", "fit"), text, _how(path), class_="beside"), _few_steps(story))


def _few_steps(story: Story) -> Markup:
    """A student's samples at several numbers of steps beside its teacher's; nothing where there are none."""
    path = story.path / "few-steps.png"
    if not path.exists():
        return Markup("")
    text = "Every row starts from the same noise. The columns are the student in fewer and more steps, and last its teacher."
    return figure(picture(path, "The same seeds in several numbers of steps", "fit"), text, class_="beside")


def film(story: Story, run: str) -> Markup:
    """The denoising film strip."""
    path = story.path / "film.png"
    if not path.exists():
        return missing("No film strip yet; ", code(f"ornstein evaluate {run}"), " draws one.")
    caption = (
        "From left to right the noise level t falls. The upper rows are the samples on their way from noise, the lower rows what the "
        "network takes them for at that moment: first an average of all that is possible, then one image."
    )
    alt = "Denoising film strip: samples on their way from noise, over the estimates of the clean images"
    return figure(picture(path, alt, "film"), caption, _how(path), class_="beside")


def training(story: Story, run: str) -> Markup:
    """Loss over the steps, loss over the noise levels, previews."""
    plots = [plot for plot in (_loss(story), _levels(story)) if plot]
    if not plots:
        return missing("Nothing is logged yet; ", code(f"ornstein train {run} --resume"), " trains the model.")
    return join(tag("div", *plots, class_="pair"), _previews(story))


def closest(story: Story, run: str) -> Markup:
    """Samples and the training images nearest to them."""
    path = story.path / "nearest.png"
    if not path.exists():
        return missing("No comparison with the training images yet; ", code(f"ornstein evaluate {run}"), " makes one.")
    text = (
        "The samples that lie closest to a training image, each over that image: the worst cases of all compared, "
        "not typical ones. A number above is their distance, over that of the training image from its own nearest: 0 is a copy, 1 usual."
    )
    return figure(picture(path, "Samples over their nearest training images", "fit"), text, _how(path), class_="beside")


def _points(story: Story, run: str) -> Markup:
    path = story.points()
    if path is None:
        return missing("No samples yet; ", code(f"ornstein sample {run} -n 1000"), " draws some.")
    arrays = _arrays(path)
    clouds = [
        Cloud(name, arrays[key], colour) for key, name, colour in (("reference", "data", 1), ("samples", "samples", 2)) if key in arrays
    ]
    count = f"{number(len(arrays['samples']), 9)} samples" + (
        f" over {number(len(arrays['reference']), 9)} points of the data" if "reference" in arrays else ""
    )
    return figure(scatter("Samples and data", clouds), f"{count}.")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Points `(n, 2)` in an archive: `samples`, and `reference` if it is there. Raises DataError for anything else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in ("samples", "reference") if key in archive}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name} cannot be read ({error}).", "Draw the samples again.", path) from error
    shaped = all(points.ndim == 2 and points.shape[1] == 2 and points.dtype.kind == "f" for points in arrays.values())
    if "samples" not in arrays or not shaped or not np.isfinite(arrays["samples"]).any():
        raise DataError(f"{path.name} does not hold points in the plane.", "Draw the samples again.", path)
    return arrays


def _loss(story: Story) -> Markup | None:
    """Training loss, held-out loss and the same figure on training data over the steps."""
    steps, losses = story.curve("loss")
    window = max(1, len(losses) // 40)
    drawn = [
        Series("as drawn", steps, losses, 1, "faint"),
        Series("training", steps, smoothed(losses, window), 1),
        Series("held out", *story.curve("heldout"), 2),
        Series("training data, same noise", *story.curve("train_fixed"), 3, "dashed"),
    ]
    series = [one for one in drawn if one.x]
    if not series:
        return None
    best = story.best_step
    marks = [Mark(best, f"best {number(best, 9)}")] if best is not None else []
    plot = line_plot("Loss over training", series, Axis("step"), Axis("loss", _scale(series)), marks)
    text = (
        "Training: the loss as it was drawn at each logged step (faint), and its running mean. Held out: test data at fixed times and "
        "noise. Training data at the same times and noise are below it where the model overfits."
    )
    return tag("div", tag("h3", "Loss"), figure(plot, text))


def _levels(story: Story) -> Markup | None:
    """Loss against the noise level, at the last evaluation and at the first."""
    known = story.levels()
    if not known:
        return None
    chosen = [(known[-1], 2, "line"), *([(known[0], 3, "dashed")] if len(known) > 1 else [])]
    series = [Series(f"at step {number(step, 9)}", *curve, colour, look) for (step, curve), colour, look in chosen]
    plot = line_plot(
        "Loss against noise level", series, Axis("noise level t (0 is clean data, 1 is noise)"), Axis("held-out loss", _scale(series))
    )
    return tag(
        "div",
        tag("h3", "Loss against noise level"),
        figure(plot, "Held-out loss where it arises: which noise levels are hard, and where training helped."),
    )


def _previews(story: Story) -> Markup:
    """The first, the middle and the last preview of the same noise; nothing where there are none."""
    known = story.previews()
    if not known:
        return Markup("")
    chosen = [known[i] for i in sorted({0, len(known) // 2, len(known) - 1})]
    shown = [figure(picture(path, f"Preview at step {step}", "fit"), f"Step {number(step, 9)}") for step, path in chosen]
    return tag("div", tag("h3", "The same noise over training"), tag("div", *shown, class_="row"), class_="previews")


def _how(path: Path) -> str:
    """How a picture was drawn, as far as its metadata say."""
    try:
        known = read_metadata(path)
    except OrnsteinError:
        return ""
    words = {"solver": "solver {}", "plan": "plan {}", "steps": "{} steps", "guidance": "guidance {}", "seed": "seeds from {}"}
    parts = [text.format(known[key]) for key, text in words.items() if known.get(key) is not None]
    return f"Drawn with {', '.join(parts)}." if parts else ""


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Running mean over a centred window of `window` values (one more if even), shorter at both ends."""
    half = window // 2
    total = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return [float(mean) for mean in (total[high] - total[low]) / (high - low)]


def _scale(series: Sequence[Series]) -> type[Scale]:
    """Logarithmic unless a value is not above 0."""
    return Log if all(value > 0 for one in series for value in one.y) else Linear
