# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from network_world import CLASSES, Given, labels, levels, normal, shaken, small_unet
from torch import Tensor, nn

from ornstein.base.errors import UsageError
from ornstein.network.mlp import MLP, ResidualLayer
from ornstein.network.precision import autocast_for
from ornstein.network.unet import UNet


@pytest.mark.parametrize(
    ("channels", "blocks", "attention", "size"),
    [((16,), 1, (), (5, 7)), ((16, 32), 2, (0, 1), (8, 4)), ((32, 16, 48), 1, (2,), (8, 12))],
)
def test_the_output_has_the_size_of_the_image(
    channels: tuple[int, ...], blocks: int, attention: tuple[int, ...], size: tuple[int, int]
) -> None:
    network = UNet(2, 4, channels, blocks, attention, head_width=8)
    assert network(normal(3, 2, *size), levels(3)).shape == (3, 4, *size)


def test_patches_are_channels_inside() -> None:
    patched, plain = small_unet(patch=2), shaken(lambda: UNet(12, 12, (16, 32), 1, head_width=8, groups=8, classes=CLASSES))
    x, t = normal(2, 3, 8, 12), levels(2)
    inside = x.reshape(2, 3, 4, 2, 6, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 12, 4, 6)
    outside = plain(inside, t).reshape(2, 3, 2, 2, 4, 6).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 8, 12)
    assert torch.equal(patched(x, t), outside)
    with pytest.raises(UsageError, match="multiples of 4"):
        patched(normal(2, 3, 8, 10), t)


def test_an_untrained_network_returns_zero() -> None:
    assert UNet(channels=(32,), attention=())(normal(2, 3, 8, 8), levels(2)).abs().max() == 0
    assert MLP()(normal(5, 2), levels(5)).abs().max() == 0


def test_a_layer_of_the_perceptron_starts_as_the_identity() -> None:
    assert torch.equal(ResidualLayer(8)(normal(5, 8), normal(5, 8, seed=3)), normal(5, 8))


def test_every_parameter_gets_a_gradient() -> None:
    network = small_unet(vector=3)
    network(normal(5, 3, 8, 8), levels(5), Given(torch.tensor([0, 1, 2, 3, -1]), normal(5, 3))).square().sum().backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert silent == []
    assert network.embedding.classes is not None
    assert bool(network.embedding.classes.weight.grad.any(dim=1).all())  # the null row too


@pytest.mark.parametrize("kind", ["unet", "mlp"])
def test_rows_of_a_batch_do_not_see_each_other(kind: str) -> None:
    network = small_unet() if kind == "unet" else shaken(lambda: MLP(2, 32, 2, CLASSES))
    x = normal(4, 3, 8, 8) if kind == "unet" else normal(4, 2)
    t, cond = levels(4), labels(4)
    y = network(x, t, cond)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(network(x[order], t[order], Given(cond.label[order])), y[order], rtol=1e-4, atol=1e-5)
    x[1:] = 100.0
    torch.testing.assert_close(network(x, t, cond)[0], y[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["unet", "mlp"])
def test_level_class_and_vector_reach_the_output(kind: str) -> None:
    network = small_unet(vector=2) if kind == "unet" else shaken(lambda: MLP(2, 32, 2, CLASSES, vector=2))
    x = normal(1, 3, 8, 8) if kind == "unet" else normal(1, 2)
    t, label, vector = torch.tensor([[0.5]]), torch.tensor([1]), torch.ones(1, 2)
    ways = [
        network(x, t, Given(label, vector)),
        network(x, t + 0.01, Given(label, vector)),
        network(x, t, Given(label + 1, vector)),
        network(x, t, Given(torch.tensor([-1]), vector)),
        network(x, t, Given(label, 2 * vector)),
    ]
    for i, first in enumerate(ways):
        for second in ways[:i]:
            assert (first - second).abs().max() > 1e-3
    torch.testing.assert_close(network(x, t), network(x, t, Given(torch.tensor([-1]), torch.zeros(1, 2))))


def _gradients(network: nn.Module, x: Tensor, precision: str) -> tuple[Tensor, list[Tensor]]:
    with autocast_for(precision, "cpu"):
        y = network(x, levels(len(x)), labels(len(x)))
    return y, list(torch.autograd.grad(y.float().square().sum(), [x, *network.parameters()]))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputing_changes_no_output_and_no_gradient(precision: str) -> None:
    kept, recomputed = small_unet(), small_unet(checkpointing=True)
    x = normal(4, 3, 8, 8).requires_grad_()
    saved: list[int] = []
    y, gradients = _gradients(kept, x, precision)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda tensor: tensor):
        again, others = _gradients(recomputed, x, precision)
    assert torch.equal(y, again)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 * float(one.abs().max()))
    stored: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: stored.append(tensor.numel()) or tensor, lambda tensor: tensor):
        _gradients(kept, x, precision)
    assert sum(saved) < 0.5 * sum(stored)


def test_double_precision_runs_through() -> None:
    network, x, t = small_unet(), normal(2, 3, 8, 8), levels(2)
    y = network(x, t, labels(2))
    exact = network.double()(x.double(), t.double(), labels(2))
    assert exact.dtype == torch.float64
    torch.testing.assert_close(y.double(), exact, rtol=1e-3, atol=1e-4)


def test_dropout_acts_in_training_only() -> None:
    network, x, t = small_unet(dropout=0.5), normal(2, 3, 8, 8), levels(2)
    assert not torch.equal(network(x, t), network(x, t))
    network.eval()
    assert torch.equal(network(x, t), network(x, t))


def test_impossible_shapes_are_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="level 2"):
        UNet(channels=(32, 32), attention=(2,))
    with pytest.raises(UsageError, match="heads of 32"):
        UNet(channels=(32, 48), attention=(0,))  # the middle attends at the last level's width
    UNet(channels=(48, 32), attention=(1,))  # level 0 has no heads
    with pytest.raises(UsageError, match="multiples of 4"):
        UNet(channels=(32, 32, 32))(normal(1, 3, 8, 6), levels(1))


def test_names_in_the_state_are_plain_and_hold_every_tensor() -> None:
    names = set(small_unet().state_dict())
    assert {"input.weight", "down.0.layers.0.block.conv1.weight", "down.0.resize.weight", "middle.0.attention.qkv.bias"} <= names
    assert {"up.1.layers.1.block.shortcut.weight", "embedding.classes.weight", "norm.weight", "output.bias"} <= names
    assert names == {name for name, _ in small_unet().named_parameters()}


def test_the_perceptron_has_forward_derivatives() -> None:
    network = shaken(lambda: MLP(3, 16, 2, CLASSES)).double()
    x, t, cond = normal(2, 3).double(), levels(2).double(), labels(2)
    columns = [torch.func.jvp(lambda x: network(x, t, cond), (x,), (torch.eye(3).double()[i].expand(2, 3),))[1] for i in range(3)]
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x, t, cond).sum(0), x)
    torch.testing.assert_close(torch.stack(columns), jacobian.permute(2, 1, 0))


def test_the_unet_has_forward_derivatives() -> None:
    network, x, t = small_unet().double(), normal(1, 3, 4, 4).double(), levels(1).double()
    v, h = normal(1, 3, 4, 4, seed=5).double(), 1e-5
    _, slope = torch.func.jvp(lambda x: network(x, t), (x,), (v,))
    numeric = (network(x + h * v, t) - network(x - h * v, t)) / (2 * h)
    torch.testing.assert_close(slope, numeric, rtol=1e-5, atol=1e-6)
