# SPDX-License-Identifier: Apache-2.0
"""Settings of torch that hold for the whole process. Only commands call this; the library sets nothing global."""

from __future__ import annotations

from typing import Any


def prepare(threads: int | None = None) -> dict[str, Any]:
    """Set the CPU threads and true float32 products; returns what holds, for run.json.

    torch's setting "medium" is not used although its matrix products stay exact and fast on some CPUs: the fused float32
    attention becomes slower with it, and a training step of a small U-Net took up to twice as long as with "highest".
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    return {"threads": torch.get_num_threads(), "matmul_precision": torch.get_float32_matmul_precision()}
