# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from network_world import Given, levels, normal
from torch import Tensor
from torch.nn import functional

from ornstein.base.errors import UsageError
from ornstein.network import attention
from ornstein.network.attention import attend
from ornstein.network.blocks import Downsample, GroupNorm, NormSiLU, ResidualBlock, SelfAttention, Upsample
from ornstein.network.condition import NULL_LABEL, Condition
from ornstein.network.embedding import ClassEmbedding, ConditionEmbedding, Sinusoids
from ornstein.network.pointwise import Pointwise
from ornstein.network.precision import autocast_for


def test_sinusoids_are_cosines_and_sines_of_falling_frequencies() -> None:
    t = torch.tensor([[0.25], [0.9]], dtype=torch.float64)
    rates = torch.tensor([1.0, 0.01], dtype=torch.float64)
    angles = 100.0 * t * rates
    cosine_first = torch.cat([angles.cos(), angles.sin()], 1)
    torch.testing.assert_close(Sinusoids(4, scale=100.0)(t), cosine_first)
    torch.testing.assert_close(Sinusoids(4, scale=100.0, sine_first=True)(t), cosine_first.roll(2, 1))
    shifted = Sinusoids(4, scale=100.0, frequency_shift=1.0)(t)  # the last frequency is exactly 1 / max_period
    torch.testing.assert_close(shifted[:, 1], torch.cos(100.0 * t[:, 0] / 10000.0))


def test_sinusoids_stay_float32_and_take_several_numbers() -> None:
    two = torch.tensor([[0.3, 0.7]])
    waves = Sinusoids(8)
    assert waves(two.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(waves(two), torch.cat([waves(two[:, :1]), waves(two[:, 1:])], 1))


def test_a_dropped_class_has_a_row_of_its_own_and_unknown_classes_are_refused() -> None:
    table = ClassEmbedding(3, 5)
    assert torch.equal(table(torch.tensor([NULL_LABEL, 2, 0])), table.weight[[3, 2, 0]])
    for wrong in (3, 4, -2):
        with pytest.raises(IndexError):
            table(torch.tensor([wrong]))


def test_a_condition_the_network_does_not_take_is_an_error() -> None:
    plain = ConditionEmbedding(8, 4)
    assert plain(levels(2), Given()).shape == (2, 8)
    with pytest.raises(UsageError, match="classes=K"):
        plain(levels(2), Given(label=torch.tensor([0, 1])))
    with pytest.raises(UsageError, match="vector=D"):
        plain(levels(2), Given(vector=torch.ones(2, 3)))
    assert isinstance(Given(), Condition)


@pytest.mark.parametrize(("channels", "groups", "used"), [(12, 32, 4), (32, 32, 32), (48, 32, 16), (5, 2, 1)])
def test_group_norm_is_its_formula(channels: int, groups: int, used: int) -> None:
    x = normal(3, channels, 4, 6).double()
    for kind, activation in ((GroupNorm, torch.nn.Identity()), (NormSiLU, torch.nn.SiLU())):
        norm = kind(channels, groups).double()
        norm.weight.data, norm.bias.data = normal(channels).double(), normal(channels, seed=3).double()
        grouped = x.reshape(3, used, -1)
        unit = (grouped - grouped.mean(-1, keepdim=True)) / (grouped.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        expected = activation(unit.reshape(x.shape) * norm.weight[:, None, None] + norm.bias[:, None, None])
        torch.testing.assert_close(norm(x), expected)


def test_upsampling_is_repetition_then_convolution() -> None:
    layer = Upsample(5).double()
    x = normal(2, 5, 3, 4).double().requires_grad_()
    expected = functional.conv2d(functional.interpolate(x, scale_factor=2.0), layer.weight, layer.bias, padding=1)
    y = layer(x)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    inputs = (x, layer.weight, layer.bias)
    for one, other in zip(
        torch.autograd.grad(y.square().sum(), inputs), torch.autograd.grad(expected.square().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-10)


def test_downsampling_is_a_convolution_of_stride_two() -> None:
    layer, x = Downsample(4), normal(2, 4, 6, 8)
    torch.testing.assert_close(layer(x), functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=1))


def test_a_residual_block_starts_as_its_shortcut() -> None:
    x, e = normal(2, 8, 4, 4), normal(2, 6)
    assert torch.equal(ResidualBlock(8, 8, 6, 4, 0.0)(x, e), x)
    block = ResidualBlock(8, 12, 6, 4, 0.0)
    assert torch.equal(block(x, e), block.shortcut(x))
    assert torch.equal(SelfAttention(8, 4, 4)(x), x)


def _exact(qkv: Tensor) -> Tensor:
    q, k, v = qkv.double().transpose(-1, -2).unbind(1)
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)
    return (weights @ v).transpose(-1, -2).flatten(1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("longest", [64, 8])
def test_attention_is_its_formula(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, longest: int) -> None:
    monkeypatch.setattr(attention, "_LONGEST", longest)
    qkv = normal(2, 3, 4, 8, 9).to(dtype)
    torch.testing.assert_close(attend(qkv).double(), _exact(qkv), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("longest", "at_once"), [(512, 1 << 20), (512, 2 * 4 * 16**2), (8, 1)])
def test_bfloat16_attention_loses_little_beyond_its_rounding(monkeypatch: pytest.MonkeyPatch, longest: int, at_once: int) -> None:
    monkeypatch.setattr(attention, "_LONGEST_BFLOAT16", longest)
    monkeypatch.setattr(attention, "_SCORES_AT_ONCE", at_once)
    leaf = (2.0 * normal(5, 3, 4, 8, 16)).bfloat16().requires_grad_()
    pull = normal(5, 32, 16, seed=4).bfloat16()
    y, exact = attend(leaf), _exact(leaf)
    (gradient,) = torch.autograd.grad(y, leaf, pull)
    (true,) = torch.autograd.grad(exact, leaf, pull.double())
    assert _distance(y, exact) < 0.003  # one rounding to bfloat16 costs 0.0016; scores in bfloat16 would give 0.004
    assert _distance(gradient, true) < 0.006


def _distance(one: Tensor, exact: Tensor) -> float:
    return float(((one - exact).double().norm() / exact.double().norm()).detach())


@pytest.mark.parametrize("space", [(3, 5), (32, 2)])
def test_pointwise_is_a_one_by_one_convolution_in_every_precision(space: tuple[int, int]) -> None:
    layer, x, pull = Pointwise(6, 7), normal(4, 6, *space).requires_grad_(), normal(4, 7, *space, seed=4)
    inputs = (x, layer.weight, layer.bias)
    expected = torch.einsum("oi,bihw->bohw", layer.weight.flatten(1), x) + layer.bias[:, None, None]
    true = (expected, *torch.autograd.grad(expected, inputs, pull))
    for precision, tolerance in (("fp32", 1e-6), ("bf16", 0.006)):
        with autocast_for(precision, "cpu"):
            y = layer(x)
        for one, exact in zip((y, *torch.autograd.grad(y, inputs, pull.to(y.dtype))), true, strict=True):
            assert _distance(one, exact) < tolerance
