# SPDX-License-Identifier: Apache-2.0
"""Objectives whose students need few moves, with the parts they are made of.

Traits of an objective: "teacher" (it asks one while it trains), "flow-map" (the student answers with a flow map), "two-times"
(and is told where to), "scale" (it is told a guidance scale), "uniform-plan" (it knows the levels of that plan only),
"boundary" (the prediction has to keep clean data where they are).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ornstein.base.parts import Entry, Param, Traits, traits

_ROOM = "ornstein.objective.distill"
_TIMES, _EDM = ("times", "stratified"), ("weighting", "edm")


def _student(*words: str) -> Callable[[Mapping[str, Any]], Traits]:
    """The traits of a student of a flow, from the parts that a recipe chose for it."""

    def of(values: Mapping[str, Any]) -> Traits:
        chosen = {key: value.get("kind") for key, value in values.items() if isinstance(value, Mapping)}
        told = {"two-times"} if chosen.get("goal") == "anywhere" else set()
        asks = {"teacher"} if chosen.get("drift") == "teacher" else set()
        return frozenset({"flow-map", *words, *told, *asks})

    return of


ENTRIES = (
    Entry("drift", "data", f"{_ROOM}.drift:FromData"),
    Entry("drift", "teacher", f"{_ROOM}.drift:FromTeacher", {
        "moves": Param(int, 1, "[1, 1000]", "steps of the teacher where it is followed over a gap"),
    }, wired=("teacher",)),

    Entry("gap", "halving", f"{_ROOM}.spans:Halving", {
        "stages": Param(int, 8, "[1, 64]", "equal parts of the training"),
        "factor": Param(float, 2.0, "(1, 1000]", "by which the gap narrows from one stage to the next"),
        "widening": Param(float, 8.0, "[0, 1000]", "how much wider it is at low noise"),
        "sharpness": Param(float, 1.0, "[-100, 100]", "inverse of the noise level at which that ends"),
    }),
    Entry("gap", "moves", f"{_ROOM}.spans:Moves", {"count": Param(int, 2, "[1, 10000]", "of the uniform plan")}),
    Entry("gap", "grid", f"{_ROOM}.spans:Grid", {
        "nodes": Param(int, 18, "[1, 10000]", "levels above clean data"),
        "sigma_min": Param(float, 0.02, "(0, 1000]", "sigma/alpha of the lowest"),
        "sigma_max": Param(float, 80.0, "(0, 1000000]", "of the highest"),
        "rho": Param(float, 7.0, "[1, 100]", "how much they crowd at low noise"),
    }),

    Entry("goal", "clean", f"{_ROOM}.spans:Clean"),
    Entry("goal", "anywhere", f"{_ROOM}.spans:Anywhere", {
        "clean": Param(float, 0.25, "[0, 1]", "share of the examples whose goal is clean data"),
        "nearest": Param(float, 0.25, "[0, 1]", "share of those whose goal is the nearest level allowed"),
    }),

    Entry("objective", "consistency", f"{_ROOM}.consistency:Consistency", {
        "target_decay": Param(float, 0.0, "[0, 1)", "of the average that is the target; 0 is the student itself"),
        "huber": Param(float, None, "(0, 1000]", "scale of the pseudo-Huber metric instead of the squared error", optional=True),
    }, parts={"times": _TIMES, "weighting": _EDM, "drift": ("drift", "data"), "gap": ("gap", "halving"), "goal": ("goal", "clean")},
        traits=_student()),
    Entry("objective", "continuous-consistency", f"{_ROOM}.continuous:ContinuousConsistency", {
        "warmup": Param(float, 0.25, "[0, 1]", "share of the training over which the derivative is faded in"),
    }, parts={"times": _TIMES, "weighting": _EDM, "drift": ("drift", "teacher"), "goal": ("goal", "clean")}, traits=_student("boundary")),
    Entry("objective", "mean-flow", f"{_ROOM}.mean_flow:MeanFlow", {
        "power": Param(float, 1.0, "[0, 4]", "of the error in the weight; 0 leaves the squared error"),
    }, parts={"times": _TIMES, "weighting": _EDM, "drift": ("drift", "data"), "goal": ("goal", "anywhere")}, traits=_student()),
    Entry("objective", "progressive", f"{_ROOM}.progressive:Progressive", {
        "first": Param(int, 16, "[1, 4096]", "moves of the first student"),
        "last": Param(int, 1, "[1, 4096]", "moves of the last one"),
        "decay": Param(float, 0.98, "[0, 1)", "of the average that becomes the next teacher"),
    }, parts={"weighting": _EDM}, wired=("teacher",), traits=traits("teacher", "uniform-plan")),
    Entry("objective", "guidance", f"{_ROOM}.guidance:GuidanceDistillation", {
        "lowest": Param(float, 1.0, "[0, 100]", "smallest guidance scale"),
        "highest": Param(float, 4.0, "[0, 100]", "largest guidance scale"),
    }, parts={"times": _TIMES, "weighting": _EDM}, wired=("teacher",), traits=traits("teacher", "scale")),
    Entry("objective", "reflow", f"{_ROOM}.reflow:Reflow",
          parts={"times": _TIMES, "weighting": _EDM}, wired=("pairs",), traits=traits("teacher")),
)  # fmt: skip
