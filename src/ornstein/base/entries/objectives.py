# SPDX-License-Identifier: Apache-2.0
"""Objectives, with the time samplers and weightings they are made of."""

from __future__ import annotations

from ornstein.base.parts import SIGMA_DATA, Entry, Param, traits

_TIMES, _WEIGHTING = "ornstein.objective.times", "ornstein.objective.weighting"
_START = Param(float, 1e-5, "[0.000001, 0.1]", "smallest time")
_DROP = Param(float, 0.0, "[0, 1]", "probability with which an example loses its condition")
_PARTS = {"times": ("times", "stratified"), "weighting": ("weighting", "simple")}

# Words about objectives and their parts:
#   spread             the network puts out twice the channels, the second half for the variance of a move
#   second-derivative  the gradient of the loss asks the network's derivative for its own
#   needs-signal       nothing can be learnt where alpha = 0
#   learns-schedules   a learned schedule descends the variance of the loss
#   paired             noise depends on the example it meets
#   remembers          of times: they depend on losses seen before; of an objective: it keeps these losses for them

ENTRIES = (
    Entry("times", "uniform", f"{_TIMES}:Uniform", {"start": _START}, wired=("schedule",)),
    Entry("times", "stratified", f"{_TIMES}:Stratified", {"start": _START}, wired=("schedule", "strata")),
    Entry("times", "logit-normal", f"{_TIMES}:LogitNormal", {
        "mean": Param(float, 0.0, "[-10, 10]", "location; below 0 looks more at clean data"),
        "std": Param(float, 1.0, "(0, 10]", "width"),
    }, wired=("schedule",)),
    Entry("times", "log-normal-sigma", f"{_TIMES}:LogNormalSigma", {
        "mean": Param(float, -1.2, "[-10, 10]", "mean of log(sigma/alpha)"),
        "std": Param(float, 1.2, "(0, 10]", "its standard deviation"),
    }, wired=("schedule",)),

    Entry("times", "levels", f"{_TIMES}:Levels", {
        "count": Param(int, 1000, "[1, 1000000]", "levels, evenly spaced in time"),
    }, wired=("schedule",)),
    Entry("times", "loss-aware", "ornstein.objective.loss_aware:LossAware", {
        "start": _START,
        "bins": Param(int, 64, "[1, 100000]", "equal parts of the time that are told apart"),
        "history": Param(int, 10, "[1, 1000]", "losses remembered of each"),
        "floor": Param(float, 0.001, "(0, 1]", "share of the draws that stays uniform"),
    }, wired=("schedule", "strata"), traits=traits("remembers")),

    Entry("weighting", "simple", f"{_WEIGHTING}:Simple"),
    Entry("weighting", "elbo", f"{_WEIGHTING}:Elbo"),
    Entry("weighting", "min-snr", f"{_WEIGHTING}:MinSnr", {"gamma": Param(float, 5.0, "(0, 1000000]", "the largest weight")}),
    Entry("weighting", "truncated-snr", f"{_WEIGHTING}:TruncatedSnr"),
    Entry("weighting", "p2", f"{_WEIGHTING}:P2", {
        "k": Param(float, 1.0, "(0, 1000000]", "SNR from which on weight is taken away"),
        "gamma": Param(float, 1.0, "[0, 10]", "how fast"),
    }),
    Entry("weighting", "edm", f"{_WEIGHTING}:EdmWeight", {"sigma_data": SIGMA_DATA}),
    Entry("weighting", "sigmoid", f"{_WEIGHTING}:Sigmoid", {"bias": Param(float, 0.0, "[-20, 20]", "log-SNR of half the bound's weight")}),

    Entry("coupling", "independent", "ornstein.objective.coupling:Independent"),
    Entry("coupling", "optimal-transport", "ornstein.objective.transport:OptimalTransport", {
        "within": Param(str, "class", help="what is paired among itself", choices=("class", "batch")),
    }, traits=traits("paired")),

    Entry("objective", "matching", "ornstein.objective.matching:Matching", {"condition_drop": _DROP},
          parts={**_PARTS, "coupling": ("coupling", "independent")}, traits=traits("learns-schedules", "remembers")),
    Entry("objective", "hybrid", "ornstein.objective.hybrid:Hybrid", {
        "steps": Param(int, 1000, "[2, 1000000]", "moves of the walk whose variances are learnt"),
        "weight": Param(float, 0.001, "(0, 1000]", "of the bound, beside 1 for the matching"),
        "condition_drop": _DROP,
    }, parts=_PARTS, traits=traits("spread", "remembers")),
    Entry("objective", "sliced-score", "ornstein.objective.sliced:SlicedScore", {
        "directions": Param(int, 1, "[1, 1000]", "random directions per example"),
        "condition_drop": _DROP,
    }, parts=_PARTS, traits=traits("needs-signal", "second-derivative", "remembers")),
    Entry("objective", "classification", "ornstein.objective.classification:Classification",
          parts={"times": ("times", "stratified")}, traits=traits("logits")),
)  # fmt: skip
