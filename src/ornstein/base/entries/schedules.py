# SPDX-License-Identifier: Apache-2.0
"""Noise schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ornstein.base.parts import Entry, Param, Traits, traits

_SCHEDULE = "ornstein.process.schedule"
_BETA = "(0, 1)"


def _cosine_traits(values: Mapping[str, Any]) -> Traits:
    return frozenset({"zero-terminal-snr"}) if values["end"] == 1.0 else frozenset()


def _table_traits(values: Mapping[str, Any]) -> Traits:
    """A table that leaves alpha below e^-30 has no signal that float32 could hold beside the noise."""
    steps, first, last = values["steps"], values["beta_start"], values["beta_end"]
    betas = (first + (last - first) * i / max(steps - 1, 1) for i in range(steps))
    return frozenset({"vanishing-signal"}) if 0.5 * sum(math.log1p(-beta) for beta in betas) < -30.0 else frozenset()


ENTRIES = (
    Entry("schedule", "linear-beta", f"{_SCHEDULE}:LinearBeta", {
        "beta_min": Param(float, 0.1, "(0, 100]", "beta at t = 0"),
        "beta_max": Param(float, 20.0, "(0, 100]", "beta at t = 1"),
    }),
    Entry("schedule", "ddpm", f"{_SCHEDULE}:ddpm", {
        "steps": Param(int, 1000, "[1, 10000]", "length of the table"),
        "beta_start": Param(float, 1e-4, _BETA, "first noise variance"),
        "beta_end": Param(float, 0.02, _BETA, "last noise variance"),
    }, traits=_table_traits),
    Entry("schedule", "cosine", f"{_SCHEDULE}:Cosine", {
        "offset": Param(float, 0.008, "[0, 1]", "the paper's s"),
        "end": Param(float, 1.0, "(0, 1]", "part of the quarter turn used; below 1 the terminal SNR stays above 0"),
    }, traits=_cosine_traits),
    Entry("schedule", "flow", f"{_SCHEDULE}:Flow", traits=traits("zero-terminal-snr")),
    Entry("schedule", "edm", f"{_SCHEDULE}:EDM", {"sigma_max": Param(float, 80.0, "[1, 1000000]", "noise level to start from")}),
)  # fmt: skip
