# SPDX-License-Identifier: Apache-2.0
"""The part of a report that names what went wrong: overfitting, memorising, updates left out."""

from __future__ import annotations

import re
from typing import Any

from ornstein.run.page.document import code, missing
from ornstein.run.page.markup import Markup, join, tag
from ornstein.run.page.measured import figure_text
from ornstein.run.page.scales import number
from ornstein.run.page.sources import Source
from ornstein.run.page.story import Story

MEDIAN, SHARE = 0.9, 0.02  # a median nearest-distance ratio below, or a share of copies above, is called memorising


def noticed(story: Story, run: str) -> Markup:
    """A callout for each thing that is wrong, a line for each that was looked for and not found."""
    log = _from_log(story)
    compared = [source for source in story.sources if source.is_model and _distance(source)]
    copied = [source for source in compared if _memorised(source)]
    wrong = log + [
        ("Memorising:", f"samples of '{source.name}' lie too close to training data ({_distance(source)}).") for source in copied
    ]
    calm = story.curve("heldout")[0] and not any(kind.startswith("Overfitting") for kind, _ in log)
    fine = [("No overfitting", "was seen in the held-out loss.")] if calm else []
    fine += [("No memorising", f"in samples of '{source.name}' ({_distance(source)}).") for source in compared if source not in copied]
    if not wrong and not fine:
        return missing("Nothing was looked for yet; ", code(f"ornstein evaluate {run}"), " compares the samples with the training data.")
    callouts = [tag("div", tag("strong", kind), " ", text, class_="callout") for kind, text in wrong]
    return join(*callouts, *(tag("div", tag("strong", kind), " ", text, class_="good") for kind, text in fine))


def _from_log(story: Story) -> list[tuple[str, str]]:
    """The last note of each kind in the log, with the step the kind first came up at; and how many updates were skipped."""
    found: dict[str, tuple[Any, str]] = {}
    for record in story.metrics:
        notes = record.get("note")
        for note in re.split(r"; (?=\w+: )", notes) if isinstance(notes, str) and notes else []:
            kind, colon, text = note.partition(": ")
            kind, text = (kind, text) if colon else ("note", note)
            found[kind] = (found.get(kind, (record.get("step"), ""))[0], text)
    wrong = [(f"{kind.capitalize()}, first named at step {step}:", f"{text.rstrip('.')}.") for kind, (step, text) in found.items()]
    skipped = max(story.curve("skipped")[1], default=0.0)
    if skipped > 0:
        wrong.append(("Updates left out:", f"{number(skipped, 9)}, because the loss or the gradient was not finite."))
    return wrong


def _memorised(source: Source) -> bool:
    median, share = source.value("nearest"), source.value("copies")
    return (median is not None and median < MEDIAN) or (share is not None and share > SHARE)


def _distance(source: Source) -> str:
    """The two figures that decide, as far as they are known."""
    median, share = source.value("nearest"), source.value("copies")
    known = [f"median distance ratio {number(median)}, at least {MEDIAN} is good"] if median is not None else []
    known += [f"{figure_text('copies', share)} copies, up to {figure_text('copies', SHARE)} is good"] if share is not None else []
    return "; ".join(known)
