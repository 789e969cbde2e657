# SPDX-License-Identifier: Apache-2.0
"""Settings of torch that hold for the whole process. Only commands call this; the library sets nothing global."""

from __future__ import annotations

from typing import Any

EXACT = 1e-6
"""Largest relative error of a float32 matrix product that still counts as float32."""


def prepare(threads: int | None = None) -> dict[str, Any]:
    """Set the CPU threads and the fastest matrix product that is float32 in truth; returns what was set, for run.json.

    "medium" lets torch choose a kernel that may round its inputs to bfloat16. On CPUs without such units it chooses a
    float32 kernel that is up to twice as fast as the default one. Which it is, only a product tells.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium")
    error = _product_error()
    if not error <= EXACT:  # also where the product is no number
        torch.set_float32_matmul_precision("highest")
    return {"threads": torch.get_num_threads(), "matmul_precision": torch.get_float32_matmul_precision(), "matmul_error": error}


def _product_error() -> float:
    """Relative error of float32 matrix products of three shapes against float64, the largest."""
    import torch

    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for rows, inner, columns in ((64, 64, 64), (256, 256, 256), (32, 512, 128)):
        a = torch.randn(rows, inner, generator=generator, dtype=torch.float32)
        b = torch.randn(inner, columns, generator=generator, dtype=torch.float32)
        exact = a.double() @ b.double()
        worst = max(worst, float(((a @ b).double() - exact).norm() / exact.norm()))
    return worst
