# SPDX-License-Identifier: Apache-2.0
r"""Where on the noise axis the loss and its gradient come from.

A fixed set of draws (example, t, noise) of the objective is sorted by t and cut into groups of equal size. With g_k the part of
the mean gradient g = sum_k g_k that group k contributes,

    loss share      sum of its losses / sum of all losses
    gradient share  |g_k| / sum_j |g_j|
    pull            <g_k, g> / |g|^2        which part of the whole it stands for; negative where it pulls against the rest

and each of the three sums to 1. The optimiser sees |g_k| as the groups' loudness: a level with a large loss but a small
share of the gradient is one that nothing more is learned from. Norms of few draws are mostly noise, so compare at equal count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ornstein.base.keys import Keys
from ornstein.model.denoiser import Model
from ornstein.objective.record import Batch, Objective


class Share(NamedTuple):
    """One group of draws: mean, lowest and highest t, number of draws, mean loss, and the three shares."""

    t: float
    low: float
    high: float
    draws: int
    loss: float
    loss_share: float
    gradient_share: float
    pull: float


def shares(
    objective: Objective, model: Model, batch: Batch, keys: Keys, groups: int = 10, micro_batch: int = 64, progress: float = 1.0
) -> list[Share]:
    """The groups, cleanest first.

    Needs memory for `groups` gradients. The model's parameters are left as they were, without gradients.

    Args:
        objective: whose loss is taken apart.
        model: its network in evaluation mode.
        batch: clean data and conditions, at least `groups` of them.
        keys: one per example; they decide t and noise.
        groups: how many.
        micro_batch: examples in one pass.
        progress: share of the training done, for objectives that change with it.
    """
    with torch.no_grad():
        records = [_record(objective, model, batch, keys, rows, progress) for rows in torch.split(torch.arange(len(batch.x0)), micro_batch)]
    t, losses = torch.cat([t for t, _, _ in records]).cpu(), torch.cat([each for _, each, _ in records]).cpu()
    parts = t.argsort(stable=True).tensor_split(groups)
    gradients = []
    with _trained(model.network) as parameters:
        for part in parts:
            total = [torch.zeros_like(parameter) for parameter in parameters]
            for rows in torch.split(part, micro_batch):
                _, _, loss = _record(objective, model, batch, keys, rows, progress)
                found = torch.autograd.grad(loss * (len(rows) / len(t)), parameters, allow_unused=True, materialize_grads=True)
                total = [one + more for one, more in zip(total, found, strict=True)]
            gradients.append(total)
    products = _gram(gradients)
    norms, pulls, mass = products.diagonal().sqrt(), products.sum(1), losses.sum()
    return [
        Share(
            float(t[part].mean()),
            float(t[part].min()),
            float(t[part].max()),
            len(part),
            float(losses[part].mean()),
            float(losses[part].sum() / mass),
            float(norms[k] / norms.sum()),
            float(pulls[k] / pulls.sum()),
        )
        for k, part in enumerate(parts)
    ]


def _record(objective: Objective, model: Model, batch: Batch, keys: Keys, rows: Tensor, progress: float) -> tuple[Tensor, Tensor, Tensor]:
    """t, loss of each example, and the loss to differentiate, of some rows."""
    chosen = Keys(tuple(keys.pairs[i] for i in rows.tolist()), keys.purpose)
    record, _ = objective(model, Batch(batch.x0[rows], batch.cond.take(rows)), chosen, progress, objective.init())
    return record.t, record.per_example, torch.stack(list(record.losses.values())).sum()


@contextmanager
def _trained(network: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The network's parameters, open to gradients meanwhile."""
    parameters = list(network.parameters())
    before = [parameter.requires_grad for parameter in parameters]
    try:
        network.requires_grad_(True)
        with torch.enable_grad():
            yield parameters
    finally:
        for parameter, wanted in zip(parameters, before, strict=True):
            parameter.requires_grad_(wanted)


def _gram(gradients: Sequence[Sequence[Tensor]]) -> Tensor:
    """Inner products of all pairs, float64, tensor by tensor."""
    pairs = (torch.stack([part.flatten() for part in same]).double() for same in zip(*gradients, strict=True))
    return torch.stack([rows @ rows.T for rows in pairs]).sum(0).cpu()
