# SPDX-License-Identifier: Apache-2.0
"""Where a run computes and in which precision, checked before the first step by asking the machine, not its name."""

from __future__ import annotations

import torch

from ornstein.base.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")
_BF16_ERROR = 2.0**-6  # of a mean of products: a bfloat16 has 8 bits of significand, and the probe is a mean of 64


def resolve_device(name: str) -> torch.device:
    """The device of a word of `DEVICES`; auto takes CUDA, then MPS, then the CPU. Raises UsageError where there is none."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name not in DEVICES:
        raise UsageError(f"There is no device '{name}'.", f"Choose one of: {', '.join(DEVICES)}.")
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if present[kind])
    if not present[name]:
        what = f"Device {name} was asked for, but this torch finds none."
        raise UsageError(what, "Use train.device=auto, or install a torch build for it.")
    return torch.device(name)


def computes_bf16(device: torch.device) -> bool:
    """Whether a bfloat16 matrix product runs on the device and gives the right numbers."""
    a = torch.linspace(-1.0, 1.0, 64 * 64).reshape(64, 64)
    expected = a @ a.T / 64
    try:
        product = (a.to(device, torch.bfloat16) @ a.T.to(device, torch.bfloat16)).float().cpu() / 64
    except (RuntimeError, TypeError):
        return False
    return bool((product - expected).abs().max() < _BF16_ERROR)


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device computes wrongly, not at all, or far slower than another. Raises UsageError.

    fp16 needs loss scaling and is for CUDA cards without bf16; on a CPU it runs at a hundredth of the speed of bf16.
    """
    if precision == "fp16" and (device.type != "cuda" or computes_bf16(device)):
        what = f"Precision fp16 is refused on {device.type}."
        raise UsageError(what, "Use train.precision=bf16: as fast here or faster, and without loss scaling.")
    if precision == "bf16" and not computes_bf16(device):
        alternative = "fp16 or fp32" if device.type == "cuda" else "fp32"
        raise UsageError(f"Precision bf16 does not work on this {device.type} device.", f"Use train.precision={alternative}.")
