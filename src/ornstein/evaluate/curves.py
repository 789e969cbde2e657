# SPDX-License-Identifier: Apache-2.0
"""What is left of an image at a noise level: the one-shot estimate of x_0, and where sampling from there ends.

Test images are corrupted to a level t, with the same noise at every level, and then either estimated by one call of the
denoiser or denoised by a solver from t on. Near t = 0 both give the image back; near t = 1 the estimate is the mean of all
images that are possible, and sampling gives another image. In between lies the level at which the model decides what it
is looking at (Ho et al. 2020, arXiv 2006.11239, section 4.3, show it in pictures).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ornstein.base.keys import Keys
from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.process.level import Level
from ornstein.process.schedule import Schedule
from ornstein.sample.loop import sample
from ornstein.sample.noise import SampleNoise
from ornstein.sample.protocol import Plan, Solver


def middles(schedule: Schedule, count: int) -> tuple[Level, ...]:
    """Levels in the middle of `count` equal parts of the schedule's time, the cleanest first."""
    return tuple(schedule.at(schedule.noisiest * (i + 0.5) / count) for i in range(count))


def estimates(model: Denoiser, x0: Tensor, cond: Cond | None, keys: Keys, levels: Sequence[Level], rows: int) -> Iterator[Tensor]:
    """For each level the denoiser's estimates of x_0 `(n, ...)` at x_t, in batches of `rows`."""
    noise = model.process.draw(x0.shape[1:], keys.of("noise")).to(x0)
    for level in levels:
        parts = []
        for start in range(0, len(x0), rows):
            piece = slice(start, start + rows)
            with torch.no_grad():
                x = model.process.corrupt(x0[piece], noise[piece], level)
                parts.append(model(x, level, None if cond is None else cond.take(piece)).x0)
        yield torch.cat(parts)


def reconstructions(
    model: Denoiser,
    solver: Solver,
    plan: Plan,
    x0: Tensor,
    cond: Cond | None,
    seeds: Sequence[int],
    levels: Sequence[Level],
    rows: int,
) -> Iterator[Tensor]:
    """For each level where sampling from x_t ends `(n, ...)`: the plan is entered at the level and walked from there.

    Args:
        model, solver: as for sampling.
        plan: levels of floats, from noisy to clean; restarts in it are left out.
        x0: clean data.
        cond: condition of each.
        seeds: one per example, for all of its noise.
        levels: where to start.
        rows: examples in a batch.
    """
    noise = model.process.draw(x0.shape[1:], SampleNoise(seeds).prior_keys()).to(x0)
    for level in levels:
        below = tuple(node for node in plan if isinstance(node, Level) and float(node.t) < float(level.t))
        parts = []
        for start in range(0, len(x0), rows):
            piece = slice(start, start + rows)
            x = model.process.corrupt(x0[piece], noise[piece], level)
            given = None if cond is None else cond.take(piece)
            [last] = deque(sample(model, solver, (level, *below), x, SampleNoise(seeds[piece]), given), maxlen=1)
            parts.append(last.x)
        yield torch.cat(parts)
