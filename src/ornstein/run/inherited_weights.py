# SPDX-License-Identifier: Apache-2.0
"""The weights a student begins with: those of its teacher, where the two networks are equal up to what they are told of the levels.

A network told more numbers gets weight zero for them, so that it begins as its teacher's function. A network whose waves of
the level have another length (`time_scale`) gets an embedding fitted to the teacher's along the schedule: the high waves of a
trained network are noise that its derivatives would multiply, and the fit leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ornstein.model.denoiser import Model
from ornstein.model.telling import OneTime, stacked
from ornstein.network.embedding import ConditionEmbedding

_WIDER = "embedding.first.weight"  # the one tensor of a network that grows with the numbers it is told
_LEVELS, _STEPS, _RATE = 512, 400, 1e-2  # of the fit
_EARLIEST = 1e-3


def start_from(student: Model, teacher: Model) -> bool:
    """Give the student the teacher's weights; False, and nothing done, where their networks differ."""
    begun = _grown(student.network.state_dict(), teacher.network.state_dict())
    if begun is None:
        return False
    own = {name: tensor.clone() for name, tensor in student.network.state_dict().items()}
    student.network.load_state_dict(begun)
    mine, other = _embedding(student.network), _embedding(teacher.network)
    if mine is not None and other is not None and mine.sinusoids.scale != other.sinusoids.scale:
        mine.first.weight.data.copy_(own[_WIDER])
        _fit(student, mine, teacher, other)
    return True


def _grown(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The weights in the shapes of `own`, with zeros for the numbers only the student is told; None where they do not fit."""
    if own.keys() != weights.keys():
        return None
    grown = {}
    for name, tensor in own.items():
        given = weights[name]
        if name == _WIDER and len(given) == len(tensor) and given.shape[1] < tensor.shape[1]:
            given = torch.cat([given, given.new_zeros(len(given), tensor.shape[1] - given.shape[1])], 1)
        if given.shape != tensor.shape:
            return None
        grown[name] = given
    return grown


def _embedding(network: nn.Module) -> ConditionEmbedding | None:
    found = getattr(network, "embedding", None)
    return found if isinstance(found, ConditionEmbedding) else None


def _fit(student: Model, mine: ConditionEmbedding, teacher: Model, other: ConditionEmbedding) -> None:
    """Fit the student's embedding of the level of x_t to the teacher's by least squares; what it is told beyond has weight zero."""
    schedule, dtype = teacher.process.schedule, mine.first.weight.dtype
    t = schedule.at(torch.linspace(_EARLIEST, schedule.noisiest, _LEVELS, dtype=torch.float64))
    numbers = stacked(OneTime()(teacher.prediction, t, None), mine.first.weight.new_empty(_LEVELS, 1))
    with torch.no_grad():
        goal = other.second(nn.functional.silu(other.first(other.sinusoids(numbers.to(dtype)))))
        waves = mine.sinusoids(numbers)
        goal_size = goal.square().mean()
    width = waves.shape[1]
    first = mine.first.weight.detach()[:, :width].clone().requires_grad_(True)
    fitted = [first, mine.first.bias, mine.second.weight, mine.second.bias]
    optimiser = torch.optim.Adam(fitted, lr=_RATE)
    for step in range(_STEPS):
        optimiser.param_groups[0]["lr"] = _RATE * (1.0 - step / _STEPS)
        got = mine.second(nn.functional.silu(nn.functional.linear(waves, first, mine.first.bias)))
        loss = (got - goal).square().mean() / goal_size
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        mine.first.weight.zero_()[:, :width] = first
    for parameter in mine.parameters():
        parameter.grad = None
