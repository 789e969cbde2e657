# SPDX-License-Identifier: Apache-2.0
"""Formulas broken on purpose, and the tests that must notice.

One row per mutant: the file under `src/ornstein`, an expression that occurs in it exactly once, what it becomes, and the
test files (or single tests) that have to fail. Add a row for a formula whose silent change would spoil results.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change of one expression."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant("base/keys.py", "seed_of(seed, self.purpose, draw)", "seed_of(seed, self.purpose)", ("base/test_base_keys.py",)),
    Mutant("base/files.py", "temporary.replace(path)", "path.write_bytes(data)", ("base/test_base_files.py",)),
    Mutant("base/files.py", "self._handle.truncate(before)", "pass", ("base/test_base_files.py",)),
    Mutant("process/schedule.py", "torch.expm1(2.0 * self.log_alpha(t)", "torch.expm1(self.log_alpha(t)", ("process/test_schedules.py",)),
    Mutant("process/schedule.py", "slope = 2.0 * (alpha_rate", "slope = (alpha_rate", ("process/test_schedules.py",)),
    Mutant("process/gaussian.py", "forward * s.sigma**2 / t.sigma**2", "forward * s.sigma / t.sigma", ("process/test_reverse_law.py",)),
    Mutant("process/gaussian.py", "root(t.sigma**2 - (ratio * s.sigma) ** 2)", "root(t.sigma**2 - s.sigma**2)",
           ("process/test_reverse_law.py",)),
    Mutant("model/prediction.py", "(self._determinant(a, b, level) / level.sigma) ** 2", "(self._determinant(a, b, level)) ** 2",
           ("model/test_predictions.py",)),
    Mutant("model/prediction.py", "-level.alpha * self.sigma_data / total", "-self.sigma_data / total", ("model/test_predictions.py",)),
    Mutant("model/guidance.py", "base.x0 + scale * (told.x0", "told.x0 + scale * (told.x0", ("model/test_guidance.py",)),
    Mutant("model/guidance.py", "wanted / present, 1.0", "present / wanted, 1.0", ("model/test_guidance_kinds.py",)),
    Mutant("model/classifier.py", "self.scale * level.sigma**2 / level.alpha\n", "self.scale * level.sigma / level.alpha\n",
           ("model/test_classifier_guidance.py",)),
    Mutant("model/inverse.py", "(alpha * self.data_std) ** 2 + sigma**2", "(alpha * self.data_std) ** 2 + sigma",
           ("model/test_inverse_problems.py",)),
    Mutant("model/inverse.py", "1.0 - float(t.alpha * s.sigma / (s.alpha * t.sigma)) ** 2", "1.0 - float(s.sigma / t.sigma) ** 2",
           ("model/test_inverse_problems.py",)),
    Mutant("exact/posterior.py", "std**2 * gain @ gain.mT", "std * gain @ gain.mT", ("exact/test_posterior.py",)),
    Mutant("sample/start.py", "else node).t < level.t", "else node).t <= level.t", ("sample/test_start.py",)),
    Mutant("model/condition.py", "keys.uniform() < probability", "keys.uniform()[:1] < probability", ("model/test_conditions.py",)),
    Mutant("exact/mixture.py", "self._variances * parts.z / parts.variance", "parts.z / parts.variance", ("exact/test_mixture.py",)),
    Mutant("sample/exponential.py", "slope = 0.5 * b * step[part] / step", "slope = 0.5 * b / step[part] * step",
           ("sample/test_equivalences.py",)),
    Mutant("sample/spaces.py", "np.exp(-(self.tau**2) * step)", "np.exp(-self.tau * step)", ("sample/test_multistep.py",)),
    Mutant("sample/exponential.py", "self.order + 1, 1)", "self.order, 1)", ("sample/test_multistep.py",)),
    Mutant("sample/spaces.py", "weights = -path.alpha[1:, None] * np.exp(-places)", "weights = -path.alpha[1:, None] * np.exp(places)",
           ("sample/test_multistep.py",)),
    Mutant("sample/multistep.py", "x = _sum(base, rows[at - 1].corrected", "x = _sum(base, rows[at].corrected",
           ("sample/test_multistep.py",)),
    Mutant("sample/multistep.py", "kept = (new, *past", "kept = (moved, *past", ("sample/test_orders.py",)),
    Mutant("sample/adaptive.py", "(71 / 57600, 0.0,", "(-71 / 57600, 0.0,", ("sample/test_adaptive.py",)),
    Mutant("sample/runge_kutta.py", "((), (1.0,)), (0.5, 0.5), 2)", "((), (1.0,)), (0.75, 0.25), 2)", ("sample/test_orders.py",)),
    Mutant("sample/rules.py", "p * held + r * newest", "r * newest", ("sample/test_fitted.py",)),
    Mutant("sample/least_squares.py", ".tril() * point.gaps()", ".triu() * point.gaps()", ("sample/test_fitted.py",)),
    Mutant("sample/noise.py", "Keys.for_seeds(self._seeds, self._move,", "Keys.for_seeds(self._seeds, 0,", ("sample/test_loop.py",)),
    Mutant("sample/brownian.py", "math.sqrt((p - a) * (b - p) / (b - a))", "math.sqrt((p - a) * (b - p)) / (b - a)",
           ("sample/test_brownian.py",)),
    Mutant("sample/brownian.py", "(c / (1.0 - c)) ** 4", "(c / (1.0 - c)) ** 2", ("sample/test_brownian.py",)),
    Mutant("base/counter.py", "for _ in range(2):", "for _ in range(0):", ("base/test_base_counter.py",)),
    Mutant("sample/detours.py", "ratio * (1.0 + gamma)", "ratio + gamma", ("sample/test_detours.py",)),
    Mutant("sample/draw.py", "range(block * self.micro_batch, (block + 1) * self.micro_batch)",
           "range(block * self.micro_batch, block * self.micro_batch + max(rows) + 1)", ("sample/test_draw.py",)),
    Mutant("objective/weighting.py", "ratio * level.sigma_rate - level.alpha_rate", "ratio * level.sigma_rate + level.alpha_rate",
           ("objective/test_weightings.py",)),
    Mutant("objective/times.py", "draw % strata", "draw // strata", ("objective/test_times.py",)),
    Mutant("objective/matching.py", "weighting(view.level) / model.prediction", "weighting(view.level) * model.prediction",
           ("objective/test_matching.py",)),
    Mutant("objective/distill/moves.py", "s.sigma / r.sigma * reach(t, r)", "s.sigma / t.sigma * reach(t, r)",
           ("objective/test_distill_stationary.py",)),
    Mutant("objective/distill/identity.py", "t.alpha_rate - t.alpha * ratio", "t.alpha_rate + t.alpha * ratio",
           ("objective/test_distill_stationary.py",)),
    Mutant("objective/distill/progressive.py", "(node - 0.5) * unit", "(node - 0.4) * unit", ("objective/test_distill_stationary.py",)),
    Mutant("objective/distill/drift.py", "0.5 * (near +", "0.6 * (near +", ("objective/test_distill_stationary.py",)),
    Mutant("objective/distill/guidance.py", "untold + over(scale, x)", "told + over(scale, x)", ("objective/test_distill_stationary.py",)),
    Mutant("objective/matching.py", "twice = 2.0 * losses", "twice = 0.0 * losses", ("process/test_learned.py",)),
    Mutant("objective/loss_aware.py", "1.0 / (bins * share)", "torch.ones_like(share)", ("objective/test_loss_aware.py",)),
    Mutant("objective/hybrid.py", "view, y.detach(), spread)", "view, y, spread)", ("objective/test_minimisers.py",)),
    Mutant("objective/sliced.py", "2.0 / self.directions", "1.0 / self.directions", ("objective/test_minimisers.py",)),
    Mutant("process/wrapped.py", "self.factor * sigma / size", "sigma / size", ("process/test_wrapped.py",)),
    Mutant("process/steps.py", "process.reverse_law(Gaussian(x0), x, t, s).kl", "process.reverse_law(Gaussian(x0), x, t, s, 0.5).kl",
           ("process/test_step_kl.py",)),
    Mutant("train/ema.py", "1.0 - self.present_decay", "self.present_decay", ("train/test_train_ema.py",)),
    Mutant("train/ema.py", "self.updates = updates", "self.updates = 0", ("train/test_train_ema.py",)),
    Mutant("train/rate.py", "(update + 1) / settings.warmup", "update / settings.warmup", ("train/test_train_rate.py",)),
    Mutant("evaluate/distances.py", "- 2 * cross", "- cross", ("evaluate/test_evaluate_distances.py",)),
    Mutant("evaluate/information.py", "0.5 * softplus(", "softplus(", ("evaluate/test_evaluate_information.py",)),
    Mutant("evaluate/intervals.py", "self.draws / (self.draws + 1)", "1 / 2", ("evaluate/test_evaluate_intervals.py",)),
    Mutant("evaluate/straightness.py", "chord / (u[-1] - u[0])", "chord", ("evaluate/test_evaluate_paths.py",)),
    Mutant("evaluate/shares.py", "(len(rows) / len(t))", "(1 / len(t))", ("evaluate/test_evaluate_shares.py",)),
    Mutant("evaluate/inception_network.py", "count_include_pad=False", "count_include_pad=True", ("evaluate/test_evaluate_inception.py",)),
    Mutant("evaluate/distances.py", "/ (len(y) - same)", "/ len(y)", ("evaluate/test_evaluate_distances.py",)),
)  # fmt: skip
