# SPDX-License-Identifier: Apache-2.0
"""Solvers and plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ornstein.base.parts import Entry, Param, Traits, traits

_SOLVERS, _RUNGE_KUTTA, _PLANS = "ornstein.sample.solvers", "ornstein.sample.runge_kutta", "ornstein.sample.plans"
_VARIABLE = ("time", "sigma", "log-snr")
_IN_SIGMA = Param(str, "sigma", help="what the rule steps in", choices=_VARIABLE)
_IN_LOG_SNR = Param(str, "log-snr", help="what the rule steps in", choices=_VARIABLE)
_SIGMA_MIN = Param(float, 0.002, "(0, 1000]", "sigma/alpha of the last level before clean data")
_SIGMA_MAX = Param(float, 80.0, "(0, 1000000]", "sigma/alpha to start from where the schedule ends in pure noise")
_RHO = Param(float, 7.0, "[1, 100]", "how much the steps crowd at low noise")
_GRID = ("schedule", "moves")
_DETOURS = "ornstein.sample.detours"
_ON_KARRAS = {"base": ("plan", "karras")}
_MULTISTEP, _EXPONENTIAL = "ornstein.sample.multistep", "ornstein.sample.exponential"
_ORDER, _TAU = "evaluations that a move looks back on, its own included", Param(float, 1.0, "[0, 10]", "scale of the noise; 0 is the ODE")
_CORRECTOR = Param(bool, True, help="whether moves are made again once the evaluation at their end is known")
_STAGES = Param(int, 2, "[2, 3]", "evaluations of a move, and its order")



def _noisy(name: str, *words: str) -> Callable[[Mapping[str, Any]], Traits]:
    """These traits, and "stochastic" where the parameter that scales fresh noise is above 0."""
    return lambda values: frozenset({*words, *(("stochastic",) if values.get(name, 0.0) > 0.0 else ())})


ENTRIES = (
    Entry("solver", "ddpm", f"{_SOLVERS}:Ancestral", {
        "spread": Param(float, None, "[0, 1]", "log-variance between the posterior's (0) and the forward one (1)", optional=True),
    }, traits=traits("stochastic")),
    Entry("solver", "ddim", f"{_SOLVERS}:DDIM", {"eta": Param(float, 0.0, "[0, 1]", "0 is deterministic, 1 is DDPM")},
          traits=_noisy("eta", "flow-map")),
    Entry("solver", "euler", f"{_RUNGE_KUTTA}:euler", {"variable": Param(str, "time", help="what the rule steps in", choices=_VARIABLE)}),
    Entry("solver", "heun", f"{_RUNGE_KUTTA}:heun", {"variable": _IN_SIGMA}),
    Entry("solver", "midpoint", f"{_RUNGE_KUTTA}:midpoint", {"variable": _IN_SIGMA}),
    Entry("solver", "rk4", f"{_RUNGE_KUTTA}:rk4", {"variable": _IN_SIGMA}),
    Entry("solver", "dopri5", "ornstein.sample.adaptive:DormandPrince", {
        "tolerance": Param(float, 1e-3, "(0, 1]", "error per step, absolute and relative"),
        "variable": _IN_LOG_SNR,
    }, traits=traits("adaptive")),
    Entry("solver", "dpm++2m", f"{_EXPONENTIAL}:dpm_solver_2m"),
    Entry("solver", "dpm++3m", f"{_EXPONENTIAL}:dpm_solver_3m"),
    Entry("solver", "dpm++2m-sde", f"{_EXPONENTIAL}:dpm_solver_2m_sde", {"tau": _TAU}, traits=_noisy("tau")),
    Entry("solver", "dpm++3m-sde", f"{_EXPONENTIAL}:dpm_solver_3m_sde", {"tau": _TAU}, traits=_noisy("tau")),
    Entry("solver", "unipc", f"{_EXPONENTIAL}:unipc", {
        "order": Param(int, 2, "[1, 4]", _ORDER),
        "corrector": _CORRECTOR,
        "moment": Param(str, "b2", help="how two points are weighed", choices=("b1", "b2", "exact")),
    }),
    Entry("solver", "deis", f"{_EXPONENTIAL}:deis", {
        "order": Param(int, 3, "[1, 4]", _ORDER),
        "variable": Param(str, "log-snr", help="what the polynomials are in", choices=("log-snr", "sigma")),
    }),
    Entry("solver", "sa", f"{_EXPONENTIAL}:sa_solver", {
        "order": Param(int, 3, "[1, 4]", _ORDER), "tau": _TAU, "corrector": _CORRECTOR,
    }, traits=_noisy("tau")),
    Entry("solver", "ipndm", f"{_MULTISTEP}:ipndm", {"order": Param(int, 4, "[1, 4]", _ORDER)}),
    Entry("solver", "default", f"{_EXPONENTIAL}:angular", {
        "order": Param(int, 4, "[1, 6]", _ORDER), "scale": Param(float, 1.4, "[0.01, 100]", "a guess of the data's standard deviation"),
    }),
    Entry("solver", "dpm-solver", "ornstein.sample.singlestep:dpm_solver", {"order": _STAGES}),
    Entry("solver", "dpm++s", "ornstein.sample.singlestep:dpm_solver_pp", {"order": _STAGES}),

    Entry("plan", "uniform", f"{_PLANS}:uniform", wired=_GRID),
    Entry("plan", "log-snr", f"{_PLANS}:log_snr", {"sigma_min": _SIGMA_MIN, "sigma_max": _SIGMA_MAX}, wired=_GRID),
    Entry("plan", "karras", f"{_PLANS}:karras", {
        "sigma_min": _SIGMA_MIN, "sigma_max": _SIGMA_MAX, "rho": _RHO,
    }, wired=_GRID),
    Entry("plan", "default", f"{_PLANS}:angle", {
        "scale": Param(float, 0.75, "[0.01, 100]", "sigma/alpha about which the steps crowd"),
        "power": Param(float, 1.6, "[1, 10]", "how much they crowd at either side"),
    }, wired=_GRID),
    Entry("plan", "trailing", f"{_PLANS}:trailing", {
        "table": Param(int, 1000, "[1, 1000000]", "timesteps of the discrete schedule"),
    }, wired=_GRID),
    Entry("plan", "churn", f"{_DETOURS}:churn", {
        "amount": Param(float, 40.0, "[0, 1000000]", "fresh noise in all, shared out over the moves (S_churn)"),
        "sigma_min": Param(float, 0.05, "[0, 1000000]", "lowest sigma/alpha that is churned"),
        "sigma_max": Param(float, 50.0, "(0, 1000000]", "highest sigma/alpha that is churned"),
        "inflation": Param(float, 1.003, "[0.5, 2]", "standard deviation of the fresh noise (S_noise)"),
    }, parts=_ON_KARRAS, wired=("schedule",)),
    Entry("plan", "restart", f"{_DETOURS}:restart", {
        "sigma_min": Param(float, 0.06, "(0, 1000000]", "sigma/alpha to go up from"),
        "sigma_max": Param(float, 0.3, "(0, 1000000]", "sigma/alpha to go up to"),
        "moves": Param(int, 4, "[1, 1000]", "of every way down"),
        "repeats": Param(int, 1, "[1, 1000]", "ways down"),
        "rho": _RHO,
    }, parts=_ON_KARRAS, wired=("schedule",)),
    Entry("plan", "resample", f"{_DETOURS}:resample", {
        "length": Param(int, 10, "[1, 1000]", "moves that are made again"),
        "times": Param(int, 10, "[1, 1000]", "how often they are made"),
    }, parts={"base": ("plan", "uniform")}),
)  # fmt: skip
