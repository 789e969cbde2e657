# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from network_world import labels, levels, normal, small_unet
from torch import Tensor

from ornstein.base.errors import UsageError
from ornstein.network.precision import autocast_for


def test_bfloat16_stays_close_and_leaves_master_weights_alone() -> None:
    network, x = small_unet(), normal(4, 3, 8, 8)
    exact = network(x, levels(4), labels(4))
    with autocast_for("bf16", "cpu"):
        y = network(x, levels(4), labels(4))
    assert y.dtype == torch.bfloat16
    assert 1e-4 < (y - exact).norm() / exact.norm() < 0.03
    y.float().square().sum().backward()
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in network.parameters()} == {torch.float32}


def test_fp32_switches_an_outer_context_off() -> None:
    network, x = small_unet(), normal(2, 3, 8, 8)
    exact = network(x, levels(2))
    with autocast_for("bf16", "cpu"), autocast_for("fp32", "cpu"):
        assert torch.equal(network(x, levels(2)), exact)


def test_words_that_mean_no_precision_here_are_refused() -> None:
    with pytest.raises(UsageError, match="fp32, bf16, fp16"):
        autocast_for("float32", "cpu")
    for device in ("cpu", "mps"):
        with pytest.raises(UsageError, match="bf16"):
            autocast_for("fp16", device)


def _losses(precision: str, steps: int) -> Tensor:
    """A regression of x_0 = sin-like stripes from x_0 + noise: the same data and start for every precision."""
    network = small_unet(channels=(8, 16))
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, fused=True)
    generator = torch.Generator().manual_seed(7)
    phase = torch.linspace(0, 6.28, 8)
    losses = []
    for _ in range(steps):
        angle = torch.rand(12, 1, 1, 1, generator=generator) * 6.28
        clean = torch.sin(phase[None, None, :, None] + phase + angle).expand(12, 3, 8, 8)
        t = torch.rand(12, 1, generator=generator)
        noisy = clean + t[:, :, None, None] * torch.randn(clean.shape, generator=generator)
        with autocast_for(precision, "cpu"):
            y = network(noisy, t)
        loss = (y.float() - clean).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def test_training_in_bfloat16_follows_training_in_float32() -> None:
    single, half = _losses("fp32", 40), _losses("bf16", 40)
    assert single[-10:].mean() < 0.3 * single[:5].mean()
    torch.testing.assert_close(half[-20:].mean(), single[-20:].mean(), rtol=0.05, atol=0.0)
