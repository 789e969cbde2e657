# SPDX-License-Identifier: Apache-2.0
"""Networks can be differentiated forward, whatever kernels they use otherwise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ornstein.network.attention import attend
from ornstein.network.pointwise import Pointwise
from ornstein.network.precision import autocast_for, differentiated_forward
from ornstein.network.unet import UNet


def numbers(*shape: int, key: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(key), dtype=torch.float64)


@pytest.mark.parametrize("tokens", [16, 100])
def test_attention_has_the_derivative_of_its_formula(tokens: int) -> None:
    """100 tokens go through the fused kernel otherwise, which has none."""
    x, v = numbers(2, 3, 2, 4, tokens), numbers(2, 3, 2, 4, tokens, key=1)
    y, tangent = torch.func.jvp(attend, (x,), (v,))
    torch.testing.assert_close(y, attend(x))
    h = 1e-6
    torch.testing.assert_close(tangent, (attend(x + h * v) - attend(x - h * v)) / (2 * h), rtol=1e-6, atol=1e-8)


def test_a_u_net_has_the_derivative_of_its_differences() -> None:
    network = UNet(1, 1, (8, 8), 1, (0,), 8, groups=4, features=2).double().eval()
    for parameter in network.parameters():  # the last convolutions start at zero
        parameter.data += 0.1 * numbers(*parameter.shape, key=parameter.numel())
    x, v, features = numbers(2, 1, 12, 12), numbers(2, 1, 12, 12, key=1), numbers(2, 2, key=2) * 1e-3
    _, tangent = torch.func.jvp(network, (x, features), (v, 1e-3 * torch.ones_like(features)))
    h = 1e-5
    ahead, behind = (network(x + sign * h * v, features + sign * h * 1e-3) for sign in (1, -1))
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-6)


def test_short_precision_makes_way_for_kernels_with_a_derivative() -> None:
    layer, x = Pointwise(4, 4), numbers(2, 4, 8, 8).float()
    with autocast_for("bf16", "cpu"):
        y, tangent = torch.func.jvp(layer, (x,), (x,))
    torch.testing.assert_close(tangent.float(), layer(x) - layer.bias[:, None, None], rtol=0.05, atol=0.05)  # type: ignore[index]
    assert y.dtype == torch.bfloat16
    assert not differentiated_forward(x)
