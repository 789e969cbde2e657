# SPDX-License-Identifier: Apache-2.0
"""In which numbers a network computes: one word, turned into one context manager.

Weights, gradients and optimiser state are float32 always. Inside `autocast_for("bf16", device)` convolutions and linear
maps multiply bfloat16 copies of their weights, made once per forward pass; statistics of normalisations, softmax and
every sum over pixels stay float32, since a bfloat16 has only 8 bits of significand.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from ornstein.base.errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPE = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_for(precision: str, device: torch.device | str) -> torch.autocast:
    """A context manager for the forward pass of a network.

    Args:
        precision: "fp32" (switches an outer context off), "bf16", or "fp16" (CUDA only; its gradients need a scaler).
        device: where the network is.

    Raises UsageError for another word, and for "fp16" away from CUDA, where it is emulated at a hundredth of the speed.
    """
    kind = torch.device(device).type
    if precision not in get_args(Precision):
        raise UsageError(f"There is no precision '{precision}'.", f"Choose one of: {', '.join(get_args(Precision))}.")
    if precision == "fp16" and kind != "cuda":
        raise UsageError(f"Precision fp16 is not usable on {kind}.", "Choose bf16, which is fast there and needs no loss scaling.")
    return torch.autocast(kind, dtype=_DTYPE.get(precision, torch.bfloat16), enabled=precision != "fp32")


def differentiated_forward(x: Tensor) -> bool:
    """Whether x carries a tangent (`torch.func.jvp`): kernels without a forward derivative must then make way for formulas."""
    return unpack_dual(x).tangent is not None  # type: ignore[no-untyped-call]
