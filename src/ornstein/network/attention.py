# SPDX-License-Identifier: Apache-2.0
"""V softmax(K^T Q / sqrt(d)) for queries, keys and values packed as a 1x1 convolution leaves them: tokens last.

Long sequences, and all on other devices than CPUs, go to torch's fused kernel. On CPUs it fails short ones: in bfloat16
its backward pass takes ten times as long as in float32, and where float32 matrix products are set to "medium" it takes
twenty times as long for 16 tokens. So short sequences go through the formula; in bfloat16 with a backward pass of our
own, scores and softmax in float32, the probabilities P (row i: what token i attends to) and every other product in
bfloat16 with float32 sums, which has the fused kernel's error. With O = V P^T, dO its gradient and S = Q^T K / sqrt(d):

    dV = dO P,   dP = dO^T V,   dS = P (dP - sum_j(P dP)),   dQ = K dS^T / sqrt(d),   dK = Q dS / sqrt(d)

The batch is taken in pieces whose scores stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ornstein.network.precision import differentiated_forward

_LONGEST = 64
"""Tokens up to which the formula in float32 is as fast as the fused kernel at its best."""

_LONGEST_BFLOAT16 = 512
"""Tokens up to which keeping P (tokens^2 numbers per head) is cheaper than the fused kernel in float32."""

_SCORES_AT_ONCE = 1 << 20
"""Scores computed per piece: 4 MiB in float32."""


def attend(qkv: Float[Tensor, "batch 3 heads width tokens"]) -> Float[Tensor, "batch heads_width tokens"]:
    """Attention of every token to every token, head by head, heads one after the other in the result.

    Our own bfloat16 kernel and the fused one have derivatives in reverse mode only; under `torch.func.jvp` the formula is used.
    """
    tokens = qkv.shape[-1]
    if differentiated_forward(qkv):
        return _formula(qkv)
    if qkv.device.type != "cpu":
        return _fused(qkv)
    if qkv.dtype == torch.bfloat16:
        if tokens > _LONGEST_BFLOAT16:
            return _fused(qkv.float()).to(qkv.dtype)
        mixed: Tensor = _InBfloat16.apply(qkv)  # type: ignore[no-untyped-call]
        return mixed
    return _formula(qkv) if tokens <= _LONGEST else _fused(qkv)


def _formula(qkv: Tensor) -> Tensor:
    query, key, value = qkv.unbind(1)
    p = torch.softmax((query * query.shape[-2] ** -0.5).transpose(-1, -2) @ key, dim=-1)
    return (value @ p.transpose(-1, -2)).flatten(1, 2)


def _fused(qkv: Tensor) -> Tensor:
    query, key, value = qkv.transpose(-1, -2).contiguous().unbind(1)  # the kernel wants a token's numbers side by side
    with torch.autocast(qkv.device.type, enabled=False):
        return functional.scaled_dot_product_attention(query, key, value).transpose(-1, -2).flatten(1, 2)


class _InBfloat16(torch.autograd.Function):
    """The bfloat16 products of the module's docstring; saves `qkv` and P."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor) -> Tensor:
        batch, _, heads, width, tokens = qkv.shape
        out = qkv.new_empty(batch, heads, width, tokens)
        probabilities = qkv.new_empty(batch, heads, tokens, tokens)
        with torch.autocast("cpu", enabled=False):
            for rows in _pieces(qkv):
                query, key, value = _by_head(qkv[rows])
                scores = torch.bmm(query.float().mul_(width**-0.5).transpose(1, 2), key.float())
                p = probabilities[rows].view(-1, tokens, tokens).copy_(torch.softmax(scores, dim=-1))
                torch.bmm(value, p.transpose(1, 2), out=out[rows].view(-1, width, tokens))
        ctx.save_for_backward(qkv, probabilities)
        return out.flatten(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> Tensor:
        qkv, probabilities = ctx.saved_tensors
        _, _, heads, width, tokens = qkv.shape
        grad_out, grad = grad_out.contiguous(), torch.empty_like(qkv)
        with torch.autocast("cpu", enabled=False):
            for rows in _pieces(qkv):
                query, key, value = _by_head(qkv[rows])
                p = probabilities[rows].view(-1, tokens, tokens)
                pull = grad_out[rows].view(-1, width, tokens)
                grad_p = torch.bmm(pull.transpose(1, 2), value)
                grad_scores = torch.ops.aten._softmax_backward_data(grad_p, p, -1, p.dtype)
                piece = query.new_empty(3, *query.shape)
                torch.bmm(key, grad_scores.transpose(1, 2), out=piece[0])
                torch.bmm(query, grad_scores, out=piece[1])
                piece[:2].mul_(width**-0.5)
                torch.bmm(pull, p, out=piece[2])
                grad[rows] = piece.view(3, -1, heads, width, tokens).transpose(0, 1)
        return grad


def _pieces(qkv: Tensor) -> Iterator[slice]:
    batch, _, heads, _, tokens = qkv.shape
    size = max(1, _SCORES_AT_ONCE // (heads * tokens**2))
    return (slice(start, start + size) for start in range(0, batch, size))


def _by_head(qkv: Tensor) -> Tensor:
    """`(batch, 3, heads, width, tokens)` to `(3, batch * heads, width, tokens)`."""
    return qkv.transpose(0, 1).reshape(3, -1, *qkv.shape[3:])
