# SPDX-License-Identifier: Apache-2.0
"""Devices and precisions are refused by what the machine does, before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from train_world import trainer

from ornstein.base.errors import UsageError
from ornstein.train import device

CPU = torch.device("cpu")


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert device.resolve_device("auto").type == expected


def test_absent_and_unknown_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"train\.device=auto"):
        device.resolve_device("cuda")
    with pytest.raises(UsageError, match="auto, cpu, cuda, mps"):
        device.resolve_device("gpu")


def test_bf16_is_probed_by_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.computes_bf16(CPU)
    device.check_precision("bf16", CPU)
    monkeypatch.setattr(device, "_BF16_ERROR", 1e-9)  # a bfloat16 product is not that exact: the probe sees real numbers
    with pytest.raises(UsageError, match="precision=fp32"):
        device.check_precision("bf16", CPU)


def test_a_device_that_fails_the_product_has_no_bf16() -> None:
    assert not device.computes_bf16(torch.device("meta"))


def test_fp16_is_refused_on_a_cpu_and_where_bf16_works(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="precision=bf16"):
        device.check_precision("fp16", CPU)
    with pytest.raises(UsageError, match="precision=bf16"):
        trainer(place / "run", precision="fp16")
    monkeypatch.setattr(device, "computes_bf16", lambda where: True)
    with pytest.raises(UsageError, match="precision=bf16"):
        device.check_precision("fp16", torch.device("cuda"))
    monkeypatch.setattr(device, "computes_bf16", lambda where: False)
    device.check_precision("fp16", torch.device("cuda"))
    with pytest.raises(UsageError, match="fp16 or fp32"):
        device.check_precision("bf16", torch.device("cuda"))
