# SPDX-License-Identifier: Apache-2.0
"""With equal weights the U-Net is diffusers' `UNet2DModel`. Runs where diffusers is: `.venv-bench/bin/python -m pytest tests/network`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from ornstein.network.unet import UNet

pytest.importorskip("diffusers", reason="diffusers lives in .venv-bench (make bench-install)")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _peers import diffusers_unet, from_diffusers


@pytest.mark.parametrize(("channels", "attention", "size"), [((32, 64), (1,), 8), ((64, 64, 32), (0, 2), 16), ((32, 64, 64), (), 12)])
def test_equal_weights_give_equal_outputs_and_gradients(channels: tuple[int, ...], attention: tuple[int, ...], size: int) -> None:
    generator = torch.Generator().manual_seed(1)
    peer = diffusers_unet(channels, attention, 16, size)
    for parameter in peer.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    ours = UNet(channels=channels, attention=attention, head_width=16)
    ours.load_state_dict(from_diffusers(peer.state_dict()))
    x = torch.randn(2, 3, size, size, generator=generator)
    steps = torch.tensor([3, 741])
    y, expected = ours(x, steps[:, None] / 1000.0), peer(x, steps).sample
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    y.square().mean().backward()
    expected.square().mean().backward()
    theirs = from_diffusers({name: parameter.grad for name, parameter in peer.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name], rtol=1e-3, atol=1e-5 * float(theirs[name].abs().max()) + 1e-7)
