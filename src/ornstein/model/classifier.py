# SPDX-License-Identifier: Apache-2.0
r"""Classifier guidance (Dhariwal & Nichol 2021, arXiv 2105.05233, section 4.2): Bayes' rule at every noise level.

    grad log p(x_t | y) = grad log p(x_t) + scale grad log p(y | x_t)

By Tweedie's formula alpha x_0 = x_t + sigma^2 grad log p(x_t), so in the only currency between parts

    x_0 <- x_0 + scale (sigma^2 / alpha) grad log p(y | x_t).

With the exact classifier, scale 1 turns the unconditional denoiser into the conditional one. The classifier has to know
noisy data at every level; `ornstein.objective.classification` trains one. Where alpha = 0, x_t says nothing about the
class and the gradient is zero, so the answer is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.model.guidance import ALWAYS, Interval, acts_at
from ornstein.process.estimate import Gaussian
from ornstein.process.level import Level, over

Classifier: TypeAlias = Callable[[Tensor, Level], Tensor]
"""x_t `(batch, ...)` and its level -> logits `(batch, classes)`, differentiable in x_t; `Model.raw` of a trained one."""


class ClassifierGuided(Denoiser):
    """Move a denoiser's answer up the gradient of a noisy classifier for the class of each sample.

    Args:
        denoiser: the base; `Unconditioned(model)` for Bayes' rule, a conditional model to sharpen what it says itself.
        classifier: logits of noisy data.
        scale: guidance scale, >= 0; 0 is the base alone.
        interval: times t between which guidance acts.
    """

    def __init__(self, denoiser: Denoiser, classifier: Classifier, scale: float = 1.0, interval: Interval = ALWAYS) -> None:
        self.denoiser, self.classifier, self.scale, self.interval = denoiser, classifier, scale, interval
        self.process = denoiser.process

    def __call__(self, x: Tensor, level: Level, cond: Cond | None = None, towards: Level | None = None) -> Gaussian:
        """Guided estimate; samples without a label are left as they are. See `Denoiser`."""
        base: Gaussian = self.denoiser(x, level, cond, towards)
        label = None if cond is None else cond.label
        if label is None or self.scale == 0.0 or level.is_noise or not acts_at(self.interval, level):
            return base
        gradient = class_gradient(self.classifier, x, level, label)
        return base._replace(x0=base.x0 + over(self._factor(level), x) * gradient)

    def _factor(self, level: Level) -> float | Tensor:
        """scale sigma^2 / alpha; 0 for samples where alpha = 0 or guidance does not act."""
        if not isinstance(level.t, Tensor):
            return self.scale * level.sigma**2 / level.alpha
        acts = (level.t >= self.interval[0]) & (level.t <= self.interval[1]) & (torch.as_tensor(level.alpha) > 0.0)
        return torch.where(acts, self.scale * level.sigma**2 / level.alpha, 0.0)


def class_gradient(classifier: Classifier, x: Tensor, level: Level, label: Tensor) -> Tensor:
    """Gradient in x_t of log p(label | x_t), of x's shape; zero for samples whose label is negative.

    It is itself differentiable where the caller asks for gradients of x.
    """
    nested = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad():
        place = x if nested else x.detach().requires_grad_()
        log_probs = classifier(place, level).log_softmax(1)
        told = log_probs.gather(1, label.clamp_min(0)[:, None])[:, 0]
        total = torch.where(label >= 0, told, torch.zeros_like(told)).sum()
        (gradient,) = torch.autograd.grad(total, place, create_graph=nested)
    return gradient
