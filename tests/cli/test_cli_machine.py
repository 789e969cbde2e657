# SPDX-License-Identifier: Apache-2.0
"""Process-wide settings: threads, and products that are float32 in truth."""

from __future__ import annotations

import torch

from ornstein.cli import machine


def test_threads_are_set_and_reported() -> None:
    torch.set_num_threads(2)
    assert machine.prepare(1)["threads"] == 1 == torch.get_num_threads()
    torch.set_num_threads(2)
    assert machine.prepare(None)["threads"] == 2 == torch.get_num_threads()


def test_products_are_float32_afterwards() -> None:
    torch.set_float32_matmul_precision("medium")
    assert machine.prepare(1)["matmul_precision"] == torch.get_float32_matmul_precision() == "highest"
    a = torch.randn(128, 300, generator=torch.Generator().manual_seed(1))
    exact = a.double() @ a.double().T
    assert float(((a @ a.T).double() - exact).norm() / exact.norm()) < 1e-6
