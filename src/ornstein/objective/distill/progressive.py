# SPDX-License-Identifier: Apache-2.0
r"""Progressive distillation: halve the number of DDIM moves, again and again (Salimans & Ho 2022, arXiv 2202.00512).

In stage k the student learns n = first / 2^k equal moves in time, the nodes t_i = i/n of the noisiest time. Its target at
t_i is the x_0 whose one move to t_{i-1} is two moves of half the length by its teacher (algorithm 2, written with `moves`):
the given one in the first stage, then the student that the stage before has left, averaged. The stages share the training
equally. The weight of the paper is max(SNR, 1): at the first node, where alpha may be 0, SNR alone would learn nothing.
"""

from __future__ import annotations

from typing import Any

import torch

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Denoiser, Model
from ornstein.objective.distill.follow import followed, held, holding, weights_of, with_weights
from ornstein.objective.distill.moves import factor, joined, moved, output_for
from ornstein.objective.distill.spans import levels
from ornstein.objective.record import Batch, LossRecord, Objective
from ornstein.objective.weighting import Weighting

_TEACHER, _AVERAGE = "teacher", "average"


class Progressive(Objective):
    """Distillation in stages; the student is sampled with DDIM on a uniform plan.

    Args:
        weighting: weight on the squared error of x_0.
        teacher: of the first stage.
        first: moves of the first student, a multiple of `last` by a power of 2.
        last: moves of the last one.
        decay: of the average that becomes the next teacher, in [0, 1).
    """

    def __init__(self, weighting: Weighting, teacher: Denoiser, first: int = 16, last: int = 1, decay: float = 0.98) -> None:
        self.weighting, self.teacher, self.first, self.last, self.decay = weighting, teacher, first, last, decay
        self.stages = (first // last).bit_length()

    def init(self) -> dict[str, Any]:
        """The stage, and the progress at which the average was last moved; -1 before the first batch."""
        return {"stage": 0, "seen": -1.0}

    def __call__(self, model: Model, batch: Batch, keys: Keys, progress: float, state: dict[str, Any]) -> tuple[LossRecord, dict[str, Any]]:
        """Loss of one batch; see `Objective`."""
        state = self._followed(model, progress, state)
        (clean, cond), process = batch, model.process
        moves = self.first >> state["stage"]
        node = (keys.of("node").uniform() * moves).floor().clamp_max(moves - 1) + 1.0
        unit = process.schedule.noisiest / moves
        t, middle, s = levels(process.schedule, node * unit, (node - 0.5) * unit, (node - 1.0) * unit)
        x = process.corrupt(clean, process.draw(clean.shape[1:], keys.of("noise")).to(clean), t)
        teacher = self.teacher if state["stage"] == 0 else with_weights(model, state, _TEACHER)
        with torch.no_grad():
            first = teacher(x, t, cond, middle).x0
            then = teacher(moved(process, x, first, t, middle), middle, cond, s).x0
            goal = joined(first, then, t, middle, s)
        error = (model.raw(x, t, cond, s) - output_for(model, goal, x, t)).square().flatten(1).mean(1)
        per_example = factor(model, self.weighting, t, torch.ones_like(node), x) * error
        parts = {"moves": float(moves)}
        return LossRecord({"model": per_example.mean()}, per_example.detach().double(), node * unit, parts), state

    def _followed(self, model: Model, progress: float, state: dict[str, Any]) -> dict[str, Any]:
        """The state at this progress: the average moved once per update, and made the teacher where a stage begins."""
        if not model.network.training or progress == state["seen"]:
            return state
        stage = min(int(progress * self.stages), self.stages - 1)
        if state["seen"] < 0.0:
            return holding(state, _AVERAGE, weights_of(model.network)) | {"stage": stage, "seen": progress}
        state = followed(state, _AVERAGE, model.network, self.decay)
        if stage > state["stage"]:
            # A copy: a file of tensors holds no memory twice.
            state = holding(state, _TEACHER, {name: tensor.clone() for name, tensor in held(state, _AVERAGE).items()})
        return state | {"stage": stage, "seen": progress}
