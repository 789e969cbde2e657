# SPDX-License-Identifier: Apache-2.0
r"""Along which flow a student is made consistent: the x_0 that gives the direction of the path through x_t.

With D = E[x_0 | x_t] the path is the probability flow, and D is what a teacher knows: distillation. With the clean
example itself the direction is right in the mean only, over all examples that lead through x_t; for losses whose target is
linear in D that is enough, and no teacher is needed: training (Song et al. 2023, arXiv 2303.01469, theorem 2).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ornstein.model.condition import Cond
from ornstein.model.denoiser import Denoiser
from ornstein.objective.distill.moves import joined, moved, spread, where
from ornstein.process.level import Level


class Drift(ABC):
    """Gives the direction of the path."""

    @abstractmethod
    def at(self, clean: Tensor, x: Tensor, t: Level, cond: Cond) -> Tensor:
        """The x_0 whose DDIM move is tangent to the path at x_t.

        Args:
            clean: the example that x was made from.
            x: x_t, `(batch, ...)`.
            t: its level, of tensors `(batch,)`.
            cond: what is known of the samples.
        """

    @abstractmethod
    def between(self, clean: Tensor, x: Tensor, t: Level, r: Level, cond: Cond) -> Tensor:
        """The x_0 whose DDIM move from t to r follows the path."""


class FromData(Drift):
    """The straight line of fixed (x_0, eps) through the example."""

    def at(self, clean: Tensor, x: Tensor, t: Level, cond: Cond) -> Tensor:
        """The example."""
        return clean

    def between(self, clean: Tensor, x: Tensor, t: Level, r: Level, cond: Cond) -> Tensor:
        """The example: the DDIM move with it is exact."""
        return clean


class FromTeacher(Drift):
    """The probability flow of a teacher, which is not differentiated.

    Args:
        teacher: a denoiser, guided or not.
        moves: equal steps in time that `between` takes.
    """

    def __init__(self, teacher: Denoiser, moves: int = 1) -> None:
        self.teacher, self.moves = teacher, moves

    @torch.no_grad()
    def at(self, clean: Tensor, x: Tensor, t: Level, cond: Cond) -> Tensor:
        """The teacher's estimate."""
        x0: Tensor = self.teacher(x, t, cond).x0
        return x0

    @torch.no_grad()
    def between(self, clean: Tensor, x: Tensor, t: Level, r: Level, cond: Cond) -> Tensor:
        """The trapezoidal rule in alpha/sigma, in which DDIM is Euler: the mean of the estimates at both ends, of second order.

        Where r is clean the far end says nothing new, and one estimate is left. Several moves are joined to one.
        """
        schedule, start = self.teacher.process.schedule, torch.as_tensor(t.t)
        here, x0 = t, None
        for move in range(1, self.moves + 1):
            last = move == self.moves
            there = r if last else schedule.at(start + (torch.as_tensor(r.t) - start) * (move / self.moves))
            step = self._step(clean, x, here, there, cond)
            x0 = step if x0 is None else joined(x0, step, t, here, there)
            if not last:
                x, here = moved(self.teacher.process, x, step, here, there), there
        assert x0 is not None
        return x0

    def _step(self, clean: Tensor, x: Tensor, t: Level, r: Level, cond: Cond) -> Tensor:
        near = self.at(clean, x, t, cond)
        last = torch.as_tensor(r.sigma) == 0.0
        x_r = torch.where(spread(last, x), x, moved(self.teacher.process, x, near, t, r))
        return 0.5 * (near + self.at(clean, x_r, where(last, t, r), cond))
