# SPDX-License-Identifier: Apache-2.0
"""Process-wide settings: threads, and a fast matrix product only while it is exact."""

from __future__ import annotations

import pytest
import torch

from ornstein.cli import machine


def test_threads_are_set_and_reported() -> None:
    torch.set_num_threads(2)
    assert machine.prepare(1)["threads"] == 1 == torch.get_num_threads()
    torch.set_num_threads(2)
    assert machine.prepare(None)["threads"] == 2 == torch.get_num_threads()


def test_what_is_reported_is_what_holds() -> None:
    made = machine.prepare(1)
    assert made["matmul_precision"] == torch.get_float32_matmul_precision()
    assert (made["matmul_precision"] == "medium") == (made["matmul_error"] <= machine.EXACT)
    assert 0.0 < made["matmul_error"] < 1e-2


def test_products_are_float32_afterwards() -> None:
    machine.prepare(1)
    a = torch.randn(128, 300, generator=torch.Generator().manual_seed(1))
    exact = a.double() @ a.double().T
    assert float(((a @ a.T).double() - exact).norm() / exact.norm()) < machine.EXACT


CASES = [(3e-7, "medium"), (1e-6, "medium"), (1.1e-6, "highest"), (2e-3, "highest"), (float("nan"), "highest")]


@pytest.mark.parametrize(("error", "kept"), CASES)
def test_a_product_that_rounds_is_switched_off(monkeypatch: pytest.MonkeyPatch, error: float, kept: str) -> None:
    monkeypatch.setattr(machine, "_product_error", lambda: error)
    assert machine.prepare(1)["matmul_precision"] == kept == torch.get_float32_matmul_precision()


def test_the_probe_sees_rounded_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guard is for: a kernel that rounds its inputs to bfloat16."""
    exact = torch.Tensor.__matmul__

    def rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return exact(a.bfloat16().float(), b.bfloat16().float()) if a.dtype == torch.float32 else exact(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert machine._product_error() > 1e-4
