# SPDX-License-Identifier: Apache-2.0
"""Objectives, with the time samplers and weightings they are made of."""

from __future__ import annotations

from ornstein.base.parts import SIGMA_DATA, Entry, Param, traits

_TIMES, _WEIGHTING = "ornstein.objective.times", "ornstein.objective.weighting"
_START = Param(float, 1e-5, "[0.000001, 0.1]", "smallest time")

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

    Entry("weighting", "simple", f"{_WEIGHTING}:Simple"),
    Entry("weighting", "elbo", f"{_WEIGHTING}:Elbo"),
    Entry("weighting", "min-snr", f"{_WEIGHTING}:MinSnr", {"gamma": Param(float, 5.0, "(0, 1000000]", "the largest weight")}),
    Entry("weighting", "edm", f"{_WEIGHTING}:EdmWeight", {"sigma_data": SIGMA_DATA}),
    Entry("weighting", "sigmoid", f"{_WEIGHTING}:Sigmoid", {"bias": Param(float, 0.0, "[-20, 20]", "log-SNR of half the bound's weight")}),

    Entry("objective", "matching", "ornstein.objective.matching:Matching", {
        "condition_drop": Param(float, 0.0, "[0, 1]", "probability with which an example loses its condition"),
    }, parts={"times": ("times", "stratified"), "weighting": ("weighting", "simple")}),
    Entry("objective", "classification", "ornstein.objective.classification:Classification",
          parts={"times": ("times", "stratified")}, traits=traits("logits")),
)  # fmt: skip
