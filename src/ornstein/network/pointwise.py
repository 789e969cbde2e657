# SPDX-License-Identifier: Apache-2.0
"""A 1x1 convolution y = W x + b at every pixel.

In bfloat16 on a CPU the convolution kernel spends most of its time reordering the image. One matrix product per sample
needs no reordering: from 8x8 pixels upwards it takes 0.5 to 0.9 of the time, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ornstein.network.precision import differentiated_forward

_FEWEST_PIXELS = 64
"""Pixels from which on one matrix product per sample is large enough to be the faster way."""


class Pointwise(nn.Conv2d):
    """`(batch, before, h, w)` to `(batch, after, h, w)`."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 1)

    def forward(self, x: Float[Tensor, "batch before h w"]) -> Float[Tensor, "batch after h w"]:
        """The product of our own has a derivative in reverse mode only; under `torch.func.jvp` it makes way for the convolution."""
        short = x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and not differentiated_forward(x)
        if short and x[0, 0].numel() >= _FEWEST_PIXELS:
            dtype = torch.get_autocast_dtype("cpu")
            assert self.bias is not None
            y: Tensor = _Product.apply(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype))  # type: ignore[no-untyped-call]
            return y
        return super().forward(x)


class _Product(torch.autograd.Function):
    """W x + b with the batch kept apart, forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        with torch.autocast("cpu", enabled=False):
            y = torch.baddbmm(bias[:, None], weight.flatten(1).expand(len(x), -1, -1), x.flatten(2))
        return y.view(len(x), len(weight), *x.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        pull = grad.flatten(2)
        with torch.autocast("cpu", enabled=False):
            back = weight.flatten(1).t().contiguous()
            grad_x = torch.bmm(back.expand(len(x), -1, -1), pull).view(x.shape)
            grad_weight = torch.bmm(pull, x.flatten(2).transpose(1, 2)).sum(0).view(weight.shape)
        return grad_x, grad_weight, pull.sum((0, 2))
