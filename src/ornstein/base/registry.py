# SPDX-License-Identifier: Apache-2.0
"""The names a user may write, what each of them takes, and where the class behind it lives.

One entry per part. This module imports no torch: a recipe is checked whole against these entries before any part is
loaded. Names and defaults equal those of the target's own arguments, which a test verifies. Arguments that the builder
supplies (a plan's schedule, a network's channels of input) stand under `wired` and cannot be written in a recipe.
"""

from __future__ import annotations

import difflib
import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ornstein.base.errors import UsageError

REQUIRED: Any = object()
"""The default of a parameter that has none."""


@dataclass(frozen=True)
class Param:
    """One value of a part that a recipe may set.

    Args:
        type: int, float, str, bool, or `tuple` for a list of whole numbers.
        default: the value where a recipe says nothing, or REQUIRED.
        within: the interval of allowed numbers (for a list, of its entries), in the notation "(0, 1]".
        choices: the values allowed, instead of an interval.
        length: fewest and most entries, where `type` is tuple.
        optional: whether null is allowed.
        multiple_of: what a whole number must be a multiple of.
        help: what it is, as the rest of a sentence.
    """

    type: type
    default: Any
    within: str = ""
    help: str = ""
    choices: tuple[str | int, ...] = ()
    length: tuple[int, int] = (0, 64)
    optional: bool = False
    multiple_of: int = 1


Traits = frozenset[str]


@dataclass(frozen=True)
class Entry:
    """A part that can be named in a recipe.

    Args:
        kind: what it is: schedule, prediction, network, times, weighting, objective, solver, plan or data.
        name: how a recipe names it.
        target: "module:attribute" of the class or function that makes it.
        params: what a recipe may set, by the target's argument names.
        parts: arguments that are parts themselves, as kind and default name.
        wired: arguments that the builder supplies.
        traits: words other parts are checked against, as a function of the values set.
    """

    kind: str
    name: str
    target: str
    params: Mapping[str, Param] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    wired: tuple[str, ...] = ()
    traits: Callable[[Mapping[str, Any]], Traits] = lambda values: frozenset()


def _traits(*words: str) -> Callable[[Mapping[str, Any]], Traits]:
    return lambda values: frozenset(words)


def _cosine_traits(values: Mapping[str, Any]) -> Traits:
    return frozenset({"zero-terminal-snr"}) if values["end"] == 1.0 else frozenset()


def _table_traits(values: Mapping[str, Any]) -> Traits:
    """A table that leaves alpha below e^-30 has no signal that float32 could hold beside the noise."""
    steps, first, last = values["steps"], values["beta_start"], values["beta_end"]
    betas = (first + (last - first) * i / max(steps - 1, 1) for i in range(steps))
    return frozenset({"vanishing-signal"}) if 0.5 * sum(math.log1p(-beta) for beta in betas) < -30.0 else frozenset()


_SCHEDULE, _PREDICTION = "ornstein.process.schedule", "ornstein.model.prediction"
_TIMES, _WEIGHTING = "ornstein.objective.times", "ornstein.objective.weighting"
_SOLVERS, _RUNGE_KUTTA, _PLANS = "ornstein.sample.solvers", "ornstein.sample.runge_kutta", "ornstein.sample.plans"

_BETA = "(0, 1)"
_SIGMA_DATA = Param(float, 0.5, "[0.001, 1000]", "standard deviation of the data")
_START = Param(float, 1e-5, "[0.000001, 0.1]", "smallest time")
_VARIABLE = ("time", "sigma", "log-snr")
_SIGMA_MIN = Param(float, 0.002, "(0, 1000]", "sigma/alpha of the last level before clean data")
_SIGMA_MAX = Param(float, 80.0, "(0, 1000000]", "sigma/alpha to start from where the schedule ends in pure noise")
_DATA = "ornstein.data.load"
_PATH = Param(str, REQUIRED, help="folder of the files")
_PIXELS = ("[4, 1024]", "pixels on a side")
_GRID = ("schedule", "moves")

_ENTRIES = (
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
    Entry("schedule", "flow", f"{_SCHEDULE}:Flow", traits=_traits("zero-terminal-snr")),
    Entry("schedule", "edm", f"{_SCHEDULE}:EDM", {"sigma_max": Param(float, 80.0, "[1, 1000000]", "noise level to start from")}),

    Entry("prediction", "x0", f"{_PREDICTION}:X0"),
    Entry("prediction", "eps", f"{_PREDICTION}:Eps", traits=_traits("needs-signal")),
    Entry("prediction", "v", f"{_PREDICTION}:V"),
    Entry("prediction", "velocity", f"{_PREDICTION}:Velocity"),
    Entry("prediction", "score", f"{_PREDICTION}:Score", traits=_traits("needs-signal")),
    Entry("prediction", "edm", f"{_PREDICTION}:Edm", {"sigma_data": _SIGMA_DATA}),

    Entry("network", "unet", "ornstein.network.unet:UNet", {
        "channels": Param(tuple, (64, 128, 128), "[4, 8192]", "channels per level, from the image's size downwards", length=(1, 8)),
        "blocks": Param(int, 2, "[1, 32]", "residual blocks per level"),
        "attention": Param(tuple, (1,), "[0, 7]", "levels with self-attention; 0 is the image's size", length=(0, 8)),
        "head_width": Param(int, 32, "[1, 1024]", "channels per attention head"),
        "dropout": Param(float, 0.0, "[0, 1)", "probability in training"),
        "groups": Param(int, 32, "[1, 1024]", "of the normalisations, at most"),
        "patch": Param(int, 1, "[1, 16]", "side of the squares of pixels that become channels"),
    }, wired=("in_channels", "out_channels", "classes", "vector", "features", "checkpointing"), traits=_traits("image", "checkpointing")),
    Entry("network", "mlp", "ornstein.network.mlp:MLP", {
        "width": Param(int, 128, "[4, 65536]", "hidden width", multiple_of=2),
        "depth": Param(int, 4, "[1, 256]", "residual blocks"),
    }, wired=("dim", "classes", "vector", "features"), traits=_traits("points")),

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
    Entry("weighting", "edm", f"{_WEIGHTING}:EdmWeight", {"sigma_data": _SIGMA_DATA}),
    Entry("weighting", "sigmoid", f"{_WEIGHTING}:Sigmoid", {"bias": Param(float, 0.0, "[-20, 20]", "log-SNR of half the bound's weight")}),

    Entry("objective", "matching", "ornstein.objective.matching:Matching", {
        "condition_drop": Param(float, 0.0, "[0, 1]", "probability with which an example loses its condition"),
    }, parts={"times": ("times", "stratified"), "weighting": ("weighting", "simple")}),

    Entry("solver", "ddpm", f"{_SOLVERS}:Ancestral", {
        "spread": Param(float, None, "[0, 1]", "log-variance between the posterior's (0) and the forward one (1)", optional=True),
    }),
    Entry("solver", "ddim", f"{_SOLVERS}:DDIM", {"eta": Param(float, 0.0, "[0, 1]", "0 is deterministic, 1 is DDPM")}),
    Entry("solver", "euler", f"{_RUNGE_KUTTA}:euler", {"variable": Param(str, "time", help="what the rule steps in", choices=_VARIABLE)}),
    Entry("solver", "heun", f"{_RUNGE_KUTTA}:heun", {"variable": Param(str, "sigma", help="what the rule steps in", choices=_VARIABLE)}),
    Entry("solver", "dpm++2m", f"{_SOLVERS}:DPMSolverMultistep"),

    Entry("plan", "uniform", f"{_PLANS}:uniform", wired=_GRID),
    Entry("plan", "log-snr", f"{_PLANS}:log_snr", {"sigma_min": _SIGMA_MIN, "sigma_max": _SIGMA_MAX}, wired=_GRID),
    Entry("plan", "karras", f"{_PLANS}:karras", {
        "sigma_min": _SIGMA_MIN, "sigma_max": _SIGMA_MAX, "rho": Param(float, 7.0, "[1, 100]", "how much the steps crowd at low noise"),
    }, wired=_GRID),
    Entry("plan", "trailing", f"{_PLANS}:trailing", {
        "table": Param(int, 1000, "[1, 1000000]", "timesteps of the discrete schedule"),
    }, wired=_GRID),

    Entry("data", "digits", f"{_DATA}:digits", {"size": Param(int, 16, "[8, 64]", "pixels", multiple_of=8)}, traits=_traits("image")),
    Entry("data", "idx", f"{_DATA}:idx", {"path": _PATH, "size": Param(int, 28, *_PIXELS)}, traits=_traits("image")),
    Entry("data", "cifar10", f"{_DATA}:cifar10", {"path": _PATH, "size": Param(int, 32, *_PIXELS)}, traits=_traits("image")),
    Entry("data", "folder", f"{_DATA}:folder", {
        "path": _PATH,
        "size": Param(int, 64, *_PIXELS),
        "channels": Param(int, 3, help="1 for grey, 3 for colour", choices=(1, 3)),
        "on_bad_file": Param(str, "fail", help="what a file that cannot be used does", choices=("fail", "skip")),
        "test_fraction": Param(float, 0.1, "(0, 1)", "share of the images held out"),
    }, traits=_traits("image")),
    Entry("data", "points", f"{_DATA}:points", {
        "world": Param(str, "moons", help="the law they follow", choices=("moons", "rings", "spiral", "checkerboard", "mixture")),
        "n": Param(int, 10000, "[1, 10000000]", "points to train on"),
        "seed": Param(int, 0, "[0, 9007199254740991]", "of the points"),
    }, traits=_traits("points")),
)  # fmt: skip

_BY_KIND: dict[str, dict[str, Entry]] = {}
for _entry in _ENTRIES:
    _BY_KIND.setdefault(_entry.kind, {})[_entry.name] = _entry


def kinds() -> tuple[str, ...]:
    """Every kind of part."""
    return tuple(_BY_KIND)


def names(kind: str) -> tuple[str, ...]:
    """Names of one kind of part."""
    return tuple(_BY_KIND[kind])


def entry(kind: str, name: str) -> Entry:
    """The entry of a name. Raises UsageError with the nearest name where there is none."""
    known = _BY_KIND[kind]
    if name not in known:
        raise UsageError(f"There is no {kind} '{name}'; the nearest is '{nearest(name, known)}'.", f"Choose one of: {', '.join(known)}.")
    return known[name]


def load(part: Entry) -> Callable[..., Any]:
    """Import the class or function behind an entry."""
    module, attribute = part.target.split(":")
    target: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return target


def build(kind: str, section: Any, **wired: Any) -> Any:
    """Make the part that a recipe's section describes.

    Args:
        kind: what it is.
        section: anything with a `kind` attribute (the part's name) and the part's parameters as attributes.
        wired: the target's other arguments, parts included.
    """
    part = entry(kind, section.kind)
    return load(part)(**{name: getattr(section, name) for name in part.params}, **wired)


def likeness(word: str, other: str) -> float:
    """How alike two names are, from 0 to 1.3: letters in common order, more where one holds the other, 1 for its initials."""
    word, other = word[:64].lower(), other.lower()  # a name is short; what is not need not be compared whole
    if "_" in other and word == "".join(part[:1] for part in other.split("_")):
        return 1.0
    return difflib.SequenceMatcher(None, word, other).ratio() + (0.3 if word in other or other in word else 0.0)


def nearest(word: str, words: Iterable[str]) -> str:
    """The word most like the given one; there always is one, however far."""
    return max(words, key=lambda other: likeness(word, other))
