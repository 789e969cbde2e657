# SPDX-License-Identifier: Apache-2.0
r"""A moving average of the weights as a second network.

    theta_ema <- d theta_ema + (1 - d) theta,      d = min(decay, (1 + n) / (10 + n))

with n the number of averages made before. The warm-up keeps the random start out of short runs; n is therefore part of
the state, and losing it on resume would replay the warm-up. Buffers are copied, not averaged.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_AHEAD = 10


class Ema:
    """The averaged network, in evaluation mode and without gradients.

    Args:
        network: whose weights are averaged; its present weights are the start.
        decay: d after warm-up, in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @property
    def present_decay(self) -> float:
        """The decay that the next update will use."""
        return min(self.decay, (1 + self.updates) / (_AHEAD + self.updates))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Average the weights of `network` in."""
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1.0 - self.present_decay)
        for mine, other in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(other)
        self.updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights; `updates` travels beside them as a number."""
        return self.network.state_dict()

    def load_state_dict(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Take up an average of `updates` updates."""
        self.network.load_state_dict(tensors)
        self.updates = updates
