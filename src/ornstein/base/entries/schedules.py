# SPDX-License-Identifier: Apache-2.0
"""Noise schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ornstein.base.parts import Entry, Param, Traits, traits

_SCHEDULE, _PATHS, _WRAPPED = "ornstein.process.schedule", "ornstein.process.paths", "ornstein.process.wrapped"
_BETA = "(0, 1)"
_BETA_MIN, _BETA_MAX = Param(float, 0.1, "(0, 100]", "beta at t = 0"), Param(float, 20.0, "(0, 100]", "beta at t = 1")
_STEPS = Param(int, 1000, "[1, 10000]", "length of the table")
_LOG_SNR = "[-30, 30]"

# Words about schedules:
#   variance-preserving   alpha^2 + sigma^2 = 1
#   zero-terminal-snr     the noisiest level holds nothing of the data
#   vanishing-signal      the noisiest level holds less of the data than float32 could keep beside the noise
#   table                 kinks at every entry, so that rates have no derivative
#   learned               has parameters, which are trained with the network's


def _cosine_traits(values: Mapping[str, Any]) -> Traits:
    return frozenset({"variance-preserving", *(("zero-terminal-snr",) if values["end"] == 1.0 else ())})


def _table_traits(power: float) -> Callable[[Mapping[str, Any]], Traits]:
    """Traits of a table that is linear in beta^(1/power)."""

    def table(values: Mapping[str, Any]) -> Traits:
        steps, first, last = values["steps"], values["beta_start"] ** (1.0 / power), values["beta_end"] ** (1.0 / power)
        betas = ((first + (last - first) * i / max(steps - 1, 1)) ** power for i in range(steps))
        gone = 0.5 * sum(math.log1p(-beta) for beta in betas) < -30.0
        return frozenset({"variance-preserving", "table", *(("vanishing-signal",) if gone else ())})

    return table


def _of_base(with_: Traits = frozenset(), without: Traits = frozenset()) -> Callable[[Mapping[str, Any]], Traits]:
    """Traits of a schedule made of another: the base's, some added, some taken away."""

    def inherited(values: Mapping[str, Any]) -> Traits:
        base = values["base"]
        (part,) = (part for part in ENTRIES if part.name == base["kind"])
        return (part.traits(base) | with_) - without

    return inherited


_ENDS = frozenset({"zero-terminal-snr", "vanishing-signal"})

ENTRIES = (
    Entry("schedule", "linear-beta", f"{_SCHEDULE}:LinearBeta", {"beta_min": _BETA_MIN, "beta_max": _BETA_MAX},
          traits=traits("variance-preserving")),
    Entry("schedule", "ddpm", f"{_SCHEDULE}:ddpm", {
        "steps": _STEPS,
        "beta_start": Param(float, 1e-4, _BETA, "first noise variance"),
        "beta_end": Param(float, 0.02, _BETA, "last noise variance"),
    }, traits=_table_traits(1.0)),
    Entry("schedule", "scaled-linear", f"{_PATHS}:scaled_linear", {
        "steps": _STEPS,
        "beta_start": Param(float, 0.00085, _BETA, "first noise variance"),
        "beta_end": Param(float, 0.012, _BETA, "last noise variance"),
    }, traits=_table_traits(2.0)),
    Entry("schedule", "cosine", f"{_SCHEDULE}:Cosine", {
        "offset": Param(float, 0.008, "[0, 1]", "the paper's s"),
        "end": Param(float, 1.0, "(0, 1]", "part of the quarter turn used; below 1 the terminal SNR stays above 0"),
    }, traits=_cosine_traits),
    Entry("schedule", "sigmoid", f"{_PATHS}:Sigmoid", {
        "start": Param(float, -3.0, "[-30, 30]", "where on the sigmoid data are"),
        "end": Param(float, 3.0, "[-30, 30]", "where on it noise is"),
        "tau": Param(float, 1.0, "[0.1, 10]", "temperature of the sigmoid"),
        "floor": Param(float, 1e-4, "[1e-9, 0.1]", "alpha^2 at t = 1"),
    }, traits=traits("variance-preserving")),
    Entry("schedule", "flow", f"{_SCHEDULE}:Flow", traits=traits("zero-terminal-snr")),
    Entry("schedule", "edm", f"{_SCHEDULE}:EDM", {"sigma_max": Param(float, 80.0, "[1, 1000000]", "noise level to start from")}),
    Entry("schedule", "geometric", f"{_PATHS}:Geometric", {
        "sigma_min": Param(float, 0.01, "[1e-6, 10]", "scale below which noise counts as none"),
        "sigma_max": Param(float, 50.0, "[0.1, 1000000]", "noise level to start from"),
    }),
    Entry("schedule", "sub-vp", f"{_PATHS}:SubVP", {"beta_min": _BETA_MIN, "beta_max": _BETA_MAX}),

    Entry("schedule", "zero-terminal-snr", f"{_WRAPPED}:ZeroTerminal", parts={"base": ("schedule", "linear-beta")},
          traits=_of_base(with_=frozenset({"zero-terminal-snr"}))),
    Entry("schedule", "shifted", f"{_WRAPPED}:Shifted", {
        "factor": Param(float, 2.0, "[0.01, 100]", "on sigma/alpha: side of the images over the side the base is for"),
    }, parts={"base": ("schedule", "flow")}, traits=_of_base()),
    Entry("schedule", "truncated", f"{_WRAPPED}:Truncated", {
        "lowest": Param(float, -10.0, _LOG_SNR, "log-SNR to start from"),
        "highest": Param(float, 10.0, _LOG_SNR, "log-SNR above which no denoiser is asked"),
    }, parts={"base": ("schedule", "linear-beta")}, traits=_of_base(without=_ENDS)),
    Entry("schedule", "learned", "ornstein.process.learned:Learned", {
        "units": Param(int, 16, "[1, 1024]", "hidden units of its pace"),
    }, parts={"base": ("schedule", "truncated")}, traits=_of_base(with_=frozenset({"learned"}))),
)  # fmt: skip
