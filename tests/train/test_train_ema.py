# SPDX-License-Identifier: Apache-2.0
"""The average of the weights against its closed form, and which weights are decayed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from train_world import network, settings

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.train.ema import Ema
from ornstein.train.optimiser import adamw, check_state, decayed, load_state, state_tensors


def _line(value: float) -> nn.Linear:
    net = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(net.weight, value)
    return net


def test_warm_up_then_decay_closed_form() -> None:
    net = _line(0.0)
    ema = Ema(net, decay=0.5)
    expected = 0.0
    for n in range(30):
        nn.init.constant_(net.weight, float(n + 1))
        d = min(0.5, (1 + n) / (10 + n))
        assert ema.present_decay == d
        expected = d * expected + (1 - d) * (n + 1)
        ema.update(net)
        assert float(ema.network.weight) == pytest.approx(expected, rel=1e-14)
    assert ema.updates == 30


def test_constant_weights_are_reached_as_the_product_of_decays() -> None:
    net = _line(0.0)
    ema = Ema(net, decay=0.999)
    nn.init.constant_(net.weight, 1.0)
    left = 1.0
    for n in range(50):
        left *= (1 + n) / (10 + n)
        ema.update(net)
    assert 1.0 - float(ema.network.weight) == pytest.approx(left, rel=1e-10)


def test_the_update_count_is_part_of_the_state() -> None:
    net = _line(1.0)
    ema, other = Ema(net, 0.999), Ema(net, 0.999)
    for _ in range(20):
        ema.update(net)
    other.load_state_dict(ema.state_dict(), ema.updates)
    assert other.present_decay == ema.present_decay == 21 / 30
    other.load_state_dict(ema.state_dict(), 0)
    assert other.present_decay != ema.present_decay


def test_average_is_apart_from_the_network() -> None:
    net = network()
    ema = Ema(net, 0.9)
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())
    assert not ema.network.training
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 1.0
    ema.update(net)
    for mine, its in zip(ema.network.parameters(), net.parameters(), strict=True):
        assert torch.allclose(mine, its - 0.1, atol=1e-6)


def test_buffers_are_copied_not_averaged() -> None:
    net = nn.BatchNorm1d(3)
    ema = Ema(net, 0.9)
    net.running_mean += 5.0
    net.num_batches_tracked += 7
    ema.update(net)
    assert torch.equal(ema.network.running_mean, net.running_mean)
    assert int(ema.network.num_batches_tracked) == 7


def test_norms_biases_and_embedding_tables_are_not_decayed() -> None:
    net = nn.ModuleDict({"conv": nn.Conv2d(2, 3, 3), "norm": nn.GroupNorm(1, 3), "table": nn.Embedding(4, 3), "line": nn.Linear(3, 2)})
    assert decayed(net) == {"conv.weight", "line.weight"}
    assert "embedding.classes.weight" in dict(network().named_parameters())
    assert "embedding.classes.weight" not in decayed(network())
    optimizer = adamw(net, settings(weight_decay=0.3))
    by_decay = {group["weight_decay"]: {tuple(parameter.shape) for parameter in group["params"]} for group in optimizer.param_groups}
    assert by_decay == {0.3: {(3, 2, 3, 3), (2, 3)}, 0.0: {(3,), (2,), (4, 3)}}


def test_weights_below_float32_are_refused() -> None:
    with pytest.raises(UsageError, match="precision"):
        adamw(network().to(torch.bfloat16), settings())


def _trained(layout: torch.memory_format) -> tuple[nn.Conv2d, torch.optim.Optimizer]:
    net = nn.Conv2d(3, 4, 3).to(memory_format=layout)
    optimizer = adamw(net, settings())
    net(torch.ones(2, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    return net, optimizer


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_optimiser_state_comes_back_in_the_layout_of_the_weight(layout: torch.memory_format) -> None:
    net, optimizer = _trained(layout)
    stored = {name: tensor.contiguous().clone() for name, tensor in state_tensors(optimizer, net).items()}
    again = adamw(net, settings())
    load_state(again, net, stored)
    assert again.state[net.weight]["exp_avg"].stride() == net.weight.stride()
    for slot in ("exp_avg", "exp_avg_sq", "step"):
        assert torch.equal(again.state[net.weight][slot], optimizer.state[net.weight][slot])
    check_state(Path("f"), stored, net)


@pytest.mark.parametrize("harm", ["lacks", "shape", "dtype", "stranger", "step"])
def test_incomplete_optimiser_state_is_refused(harm: str) -> None:
    net, optimizer = _trained(torch.contiguous_format)
    stored = dict(state_tensors(optimizer, net))
    if harm == "lacks":
        del stored["exp_avg/bias"]
    elif harm == "stranger":
        stored["exp_avg/other"] = torch.zeros(1)
    elif harm == "shape":
        stored["exp_avg_sq/bias"] = torch.zeros(5)
    elif harm == "dtype":
        stored["exp_avg/bias"] = stored["exp_avg/bias"].double()
    else:
        stored["step/bias"] = torch.zeros(1)
    with pytest.raises(CheckpointError):
        check_state(Path("f"), stored, net)
