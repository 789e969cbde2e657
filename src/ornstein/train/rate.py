# SPDX-License-Identifier: Apache-2.0
r"""The learning rate as a pure function of the number n of optimiser updates made before.

    n < warmup:  rate (n + 1) / warmup
    cosine:      rate (1 + cos(pi (n - warmup) / (steps - warmup))) / 2        (Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5)
    constant:    rate

It depends on nothing else: not on ranks, accumulation or the length of a data loader.
"""

from __future__ import annotations

import math

from ornstein.train.settings import TrainSettings


def learning_rate(settings: TrainSettings, update: int) -> float:
    """Learning rate of update number `update` (the first is 0); the cosine stays at its end, 0, beyond `steps`."""
    if update < settings.warmup:
        return settings.learning_rate * (update + 1) / settings.warmup
    if settings.decay == "constant":
        return settings.learning_rate
    share = (update - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))


def rate_change(old: TrainSettings, new: TrainSettings, update: int) -> str:
    """One sentence on what continuing with `new` instead of `old` at `update` does to the learning rate."""
    before, after = learning_rate(old, update), learning_rate(new, update)
    last = max(new.steps - 1, update)
    if before == after and learning_rate(old, last) == learning_rate(new, last):
        return f"The learning rate is unchanged: {after:.3g} at update {update}."
    return (
        f"The learning rate at update {update} becomes {after:.3g} instead of {before:.3g} "
        f"and ends at {learning_rate(new, last):.3g} at update {last}."
    )
