# SPDX-License-Identifier: Apache-2.0
"""A second set of weights beside the network in training: tensors of an objective's state, and so of every checkpoint.

They are handed on as values, never changed in place: a batch that is skipped, or a held-out evaluation, leaves no trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.base.errors import CheckpointError
from ornstein.model.denoiser import Model

State = dict[str, Any]


class _Held(nn.Module):
    """A network run with other weights."""

    def __init__(self, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._of, self._weights = (network,), dict(weights)  # a tuple, so that the network is no submodule

    def forward(self, *arguments: Any) -> Tensor:
        out: Tensor = torch.func.functional_call(self._of[0], self._weights, arguments)
        return out


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's parameters."""
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def held(state: State, prefix: str) -> dict[str, Tensor]:
    """The weights that a state holds under `prefix`/."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in state.items() if name.startswith(f"{prefix}/")}


def holding(state: State, prefix: str, weights: Mapping[str, Tensor]) -> State:
    """The state with weights under `prefix`/."""
    return state | {f"{prefix}/{name}": value for name, value in weights.items()}


def with_weights(model: Model, state: State, prefix: str) -> Model:
    """The model with the weights of the state. Raises CheckpointError where the state lacks some."""
    weights = held(state, prefix)
    for name, _ in model.network.named_parameters():
        if name not in weights:
            raise CheckpointError(f"The objective's state has no '{prefix}/{name}'.", "Use another checkpoint.")
    return model.replaced(network=_Held(model.network, weights))


@torch.no_grad()
def followed(state: State, prefix: str, network: nn.Module, decay: float) -> State:
    """The state with the weights under `prefix`/ moved towards the network's: w <- decay w + (1 - decay) network."""
    before = held(state, prefix)
    present = dict(network.named_parameters())
    return holding(state, prefix, {name: torch.lerp(old, present[name], 1.0 - decay) for name, old in before.items()})
