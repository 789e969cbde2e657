# SPDX-License-Identifier: Apache-2.0
"""The part of a report that shows `diagnostics.json`: loss and gradient by noise level, schedule, paths, cost of the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ornstein.base.errors import CheckpointError
from ornstein.run.page.document import code, facts, figure, missing
from ornstein.run.page.markup import Markup, join, tag
from ornstein.run.page.scales import Linear, Log, number
from ornstein.run.page.story import Story
from ornstein.run.plots import Axis, Series, line_plot

_NOISE = "noise level t (0 is clean data, 1 is noise)"
_COLOURS = 4


def diagnosed(story: Story, run: str) -> Markup:
    """The plots, or the command that makes them. Raises CheckpointError for a file that is no diagnosis."""
    known = story.diagnostics
    if not known:
        return missing("Not taken apart yet; ", code(f"ornstein diagnose {run}"), " shows where the loss and the errors come from.")
    try:
        plots = [
            *_by_level(known["shares"]),
            *_schedule(known["schedule"]),
            _paths(known["paths"]),
            _steps(known["discretisation"]),
        ]
        return join(_summary(known), tag("div", *plots, class_="pair after"))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CheckpointError("diagnostics.json holds no diagnosis.", "Run `ornstein diagnose` on the run again.") from error


def _summary(known: Mapping[str, Any]) -> Markup:
    paths = known["paths"]
    pairs = [
        ("path length over chord", number(paths["stretch"][1], 4)),
        ("defect from an even straight line", number(paths["defect"][1])),
        ("turning of a path", f"{number(paths['turning'][1])} rad"),
        ("paths followed", number(paths["samples"], 9)),
        ("step of the model", str(known.get("checkpoint") or "")),
        ("model hash", str(known.get("model_hash") or "")),
    ]
    return facts(pairs)


def _plot(heading: str, drawn: Markup, *caption: str) -> Markup:
    return tag("div", tag("h3", heading), figure(drawn, *caption))


def _by_level(shares: Mapping[str, Any]) -> list[Markup]:
    groups = shares["groups"]
    t = [group["t"] for group in groups]
    columns = {"loss": "loss_share", "gradient": "gradient_share", "pull": "pull"}
    looks = ("line", "line", "dashed")
    series = [
        Series(name, t, [100.0 * group[key] for group in groups], i + 1, look)
        for i, ((name, key), look) in enumerate(zip(columns.items(), looks, strict=True))
    ]
    drawn = line_plot("Loss and gradient by noise level", series, Axis(_NOISE), Axis("share in %"))
    text = (
        f"{number(shares['draws'], 9)} draws of the objective, sorted by noise level into groups of equal size. Gradient: norm of "
        "a group's part, over the sum of the norms. Pull: its part of the whole gradient's length; below 0 it pulls against the rest."
    )
    return [_plot("Loss and gradient by noise level", drawn, text)]


def _schedule(schedule: Mapping[str, Any]) -> list[Markup]:
    t, plan = schedule["t"], schedule["plan"]
    signal = [Series("alpha (data)", t, schedule["alpha"], 1), Series("sigma (noise)", t, schedule["sigma"], 2, "dashed")]
    wide = max(schedule["sigma"]) > 3.0
    pairs = [(time, value) for time, value in zip(t, schedule["log_snr"], strict=True) if value is not None]
    log_snr = Series("log-SNR", [time for time, _ in pairs], [value for _, value in pairs], 3)
    moves = range(1, len(plan["gained"]) + 1)
    gains = [Series("gained", moves, plan["gained"], 1), Series("KL of the move", moves, plan["cost"], 2, "dashed")]
    known, total = sum(plan["gained"]), sum(plan["cost"])
    about = (
        f"What each of the {number(plan['steps'], 9)} moves of the {plan['kind']} plan tells of Gaussian data with the variances of these "
        f"({number(known)} nats per dimension in all), and its KL in the bound ({number(total)}); the difference is what the size of "
        "the steps wastes."
    )
    parts = [
        _plot("Signal and noise", line_plot("Signal and noise", signal, Axis(_NOISE), Axis("scale", Log if wide else Linear))),
        _plot("Log-SNR", line_plot("Log-SNR", [log_snr], Axis(_NOISE), Axis("log(alpha²/sigma²)"))),
    ]
    if moves:
        gained = line_plot("Information of the moves", gains, Axis("move"), Axis("nats per dimension", _log_or_linear(gains)))
        parts.append(_plot("Information of the moves", gained, about))
    return parts


def _paths(paths: Mapping[str, Any]) -> Markup:
    series = [Series("turning", paths["u"][::-1], paths["turning_rate"][::-1], 4)]
    axis = Axis("share of noise u = sigma/(alpha + sigma)")
    drawn = line_plot("Turning of the paths", series, axis, Axis("rad per unit of u", _log_or_linear(series)))
    text = (
        f"Where the {number(paths['samples'], 9)} paths bend, in the coordinates in which each path to one image alone would be a straight "
        "line. Steps belong where the curve is high."
    )
    return _plot("Turning of the paths", drawn, text)


def _steps(steps: Mapping[str, Any]) -> Markup:
    series = [
        Series(name, row["evaluations"], row["error"], i % _COLOURS + 1, ("line", "dashed")[i // _COLOURS % 2])
        for i, (name, row) in enumerate(steps["solvers"].items())
    ]
    drawn = line_plot("Error against evaluations", series, Axis("evaluations", Log), Axis("error, in std of the data", Log))
    observed = [
        f"{name} {number(row['observed'], 2)} (theory {row['order']})"
        for name, row in steps["solvers"].items()
        if row["observed"] is not None
    ]
    text = (
        f"End points of {number(steps['samples'], 9)} samples against those of the same noise with {steps['reference']}, on the "
        f"{steps['plan']} plan. Below {number(steps['floor'], 2)} the reference itself is not exact."
    )
    orders = f"Observed orders over the last points: {', '.join(observed)}." if observed else ""
    return _plot("Error against evaluations", drawn, text, orders)


def _log_or_linear(series: Sequence[Series]) -> type[Log] | type[Linear]:
    return Log if all(value > 0 for one in series for value in one.y) else Linear
