# SPDX-License-Identifier: Apache-2.0
"""softmax(Q K^T / sqrt(d)) V for queries, keys and values packed as one projection leaves them.

Everywhere but in bfloat16 on a CPU this is torch's fused kernel. There its backward pass takes ten times as long as in
float32, so short sequences go through matrix products of our own: scores and softmax in float32, the probabilities P
and every other product in bfloat16 (its sums in float32), which has the fused kernel's error. With dO the gradient of
the output and S = Q K^T / sqrt(d):

    dV = P^T dO,   dP = dO V^T,   dS = P (dP - sum(P dP)),   dQ = dS K / sqrt(d),   dK = dS^T Q / sqrt(d)

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

_LONGEST = 512
"""Tokens up to which keeping P (tokens^2 numbers per head) is cheaper than the fused kernel in float32."""

_SCORES_AT_ONCE = 1 << 20
"""Scores computed per piece: 4 MiB in float32."""


def attend(qkv: Float[Tensor, "batch tokens 3 heads width"]) -> Float[Tensor, "batch tokens heads_width"]:
    """Attention of every token to every token, head by head, heads side by side in the result.

    In bfloat16 on a CPU it has a first derivative in reverse mode only.
    """
    if qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16:
        if qkv.shape[1] <= _LONGEST:
            mixed: Tensor = _ShortAttention.apply(qkv)  # type: ignore[no-untyped-call]
            return mixed
        return _fused(qkv.float()).to(qkv.dtype)
    return _fused(qkv)


def _fused(qkv: Tensor) -> Tensor:
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    with torch.autocast(qkv.device.type, enabled=False):
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class _ShortAttention(torch.autograd.Function):
    """The bfloat16 products of the module's docstring; saves `qkv` and P."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor) -> Tensor:
        batch, tokens, _, heads, width = qkv.shape
        out = qkv.new_empty(batch, tokens, heads, width)
        probabilities = qkv.new_empty(batch, heads * tokens, tokens)
        with torch.autocast("cpu", enabled=False):
            for rows in _pieces(qkv):
                query, key, value = _by_head(qkv[rows])
                scores = torch.bmm(query.float(), key.float().transpose(1, 2)).mul_(width**-0.5)
                weights = torch.softmax(scores, dim=-1).to(qkv.dtype)
                probabilities[rows] = weights.view(-1, heads * tokens, tokens)
                out[rows] = torch.bmm(weights, value).view(-1, heads, tokens, width).transpose(1, 2)
        ctx.save_for_backward(qkv, probabilities)
        return out.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> Tensor:
        qkv, probabilities = ctx.saved_tensors
        _, tokens, _, heads, width = qkv.shape
        grad = torch.empty_like(qkv)
        with torch.autocast("cpu", enabled=False):
            for rows in _pieces(qkv):
                query, key, value = _by_head(qkv[rows])
                weights = probabilities[rows].view(-1, tokens, tokens)
                grad_piece = grad_out[rows].view(-1, tokens, heads, width).transpose(1, 2).reshape(-1, tokens, width)
                grad_weights = torch.bmm(grad_piece, value.transpose(1, 2))
                grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, qkv.dtype)
                by_head = torch.empty_like(query).expand(3, -1, -1, -1).contiguous()
                torch.bmm(grad_scores, key, out=by_head[0]).mul_(width**-0.5)
                torch.bmm(grad_scores.transpose(1, 2), query, out=by_head[1]).mul_(width**-0.5)
                torch.bmm(weights.transpose(1, 2), grad_piece, out=by_head[2])
                grad[rows] = by_head.view(3, -1, heads, tokens, width).permute(1, 3, 0, 2, 4)
        return grad


def _pieces(qkv: Tensor) -> Iterator[slice]:
    batch, tokens, _, heads, _ = qkv.shape
    size = max(1, _SCORES_AT_ONCE // (heads * tokens**2))
    return (slice(start, start + size) for start in range(0, batch, size))


def _by_head(qkv: Tensor) -> Tensor:
    """`(batch, tokens, 3, heads, width)` to `(3, batch * heads, tokens, width)`, contiguous."""
    return qkv.permute(2, 0, 3, 1, 4).reshape(3, -1, qkv.shape[1], qkv.shape[4])
