# SPDX-License-Identifier: Apache-2.0
"""The Inception network of FID: its graph by counts and by hand-computed parts, its resizing, and what is refused as weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ornstein.base.errors import CheckpointError
from ornstein.base.keys import generator_of
from ornstein.evaluate.inception import Inception, resized
from ornstein.evaluate.inception_network import InceptionV3, Mixed


def random_weights() -> dict[str, Tensor]:
    """Weights at which activations neither vanish nor explode."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in InceptionV3().state_dict().items() if not name.endswith("num_batches_tracked")}
    weights = {}
    for name, shape in shapes.items():
        draw = torch.randn(shape, generator=generator_of("inception", name))
        fan_in = max(1, shape[1:].numel())
        weights[name] = {"running_var": draw.abs() + 0.5, "running_mean": 0.1 * draw}.get(name.split(".")[-1], draw * (2 / fan_in) ** 0.5)
        if name.endswith("bn.weight"):
            weights[name] = 1 + 0.1 * draw
    return weights


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    safetensors.torch.save_file(random_weights(), path)
    return path


@pytest.fixture(scope="module")
def inception(file: Path) -> Inception:
    return Inception.load(file)


def test_the_graph_has_the_parameters_of_the_fid_network(inception: Inception) -> None:
    body = sum(p.numel() for name, p in inception.network.named_parameters() if not name.startswith("fc."))
    assert body == 21_785_568  # torchvision's Inception-v3 without its auxiliary and last layers
    assert inception.network.fc.weight.shape == (1008, 2048)
    blocks = {name: block.out for name, block in inception.network.named_children() if isinstance(block, Mixed)}
    assert list(blocks.values()) == [256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048]


def test_sizes_within_the_graph(inception: Inception) -> None:
    sizes: dict[str, int] = {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, name=name: sizes.update({name: out.shape[2]}))
        for name, block in inception.network.named_children()
        if name != "fc"
    ]
    features = inception.features(torch.randint(256, (1, 3, 40, 40), generator=generator_of("image")).to(torch.uint8))
    for hook in hooks:
        hook.remove()
    assert features.shape == (1, 2048)
    assert bool(features.isfinite().all())
    stem = [sizes[name] for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")]
    assert stem == [149, 147, 147, 73, 71]
    assert [sizes[name] for name in ("Mixed_5d", "Mixed_6a", "Mixed_6e", "Mixed_7a", "Mixed_7c")] == [35, 17, 17, 8, 8]


def test_a_convolution_normalises_by_what_is_stored(inception: Inception) -> None:
    conv = inception.network.Conv2d_3b_1x1
    x = torch.randn(2, 64, 3, 3, generator=generator_of("x"))
    y = torch.einsum("oi,nihw->nohw", conv.conv.weight[:, :, 0, 0], x)
    scale = conv.bn.weight / (conv.bn.running_var + 1e-3).sqrt()
    wanted = ((y - conv.bn.running_mean[:, None, None]) * scale[:, None, None] + conv.bn.bias[:, None, None]).clamp_min(0)
    torch.testing.assert_close(conv(x), wanted, rtol=1e-4, atol=1e-5)


def test_the_blocks_pool_as_the_fid_network_does(inception: Inception) -> None:
    """The last channels of a block come from its pool: average pools do not count the padding, the last pool takes the most."""
    ones = torch.ones(1, 2048, 4, 4)
    ones[0, :, 0, 0] = 5.0
    for name, wanted in (("Mixed_7c", 5.0), ("Mixed_5c", (5.0 + 3 * 1.0) / 4)):
        block = inception.network.get_submodule(name)
        assert isinstance(block, Mixed)
        seen = block.pool(ones[:, :3])
        assert float(seen[0, 0, 0, 0]) == pytest.approx(wanted)
        assert float(seen[0, 0, 3, 3]) == pytest.approx(1.0)  # a corner of ones: padding counted would lower it


def test_images_are_resized_by_whole_coordinates() -> None:
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    wide = resized(ramp, 8)[0, 0]
    assert wide[0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]  # output j reads j/2; beyond the last pixel stands the last
    assert torch.equal(wide, wide[:1].expand(8, 8))
    assert torch.equal(resized(ramp, 4), ramp)
    assert resized(ramp, 2)[0, 0, 0].tolist() == [0, 2]  # no smoothing


def test_grey_images_are_repeated_and_order_does_not_matter(inception: Inception) -> None:
    grey = torch.randint(256, (3, 1, 16, 16), generator=generator_of("grey")).to(torch.uint8)
    features = inception.features(grey)
    torch.testing.assert_close(inception.features(grey.repeat(1, 3, 1, 1)), features)
    torch.testing.assert_close(inception.features(grey.flip(0)).flip(0), features, rtol=1e-4, atol=1e-6)
    law = inception.log_probabilities(features)
    assert law.shape == (3, 1008)
    torch.testing.assert_close(law.exp().sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(law[:, 0] - law[:, 1], features @ (inception.network.fc.weight[0] - inception.network.fc.weight[1]).double())


def test_the_hash_is_of_the_weights(file: Path, inception: Inception, tmp_path: Path) -> None:
    assert Inception.load(file).hash == inception.hash
    assert inception.identity == f"Inception-v3 2048 {inception.hash}"
    weights = random_weights()
    weights["fc.bias"] = weights["fc.bias"] + 1e-3
    changed = tmp_path / "changed.safetensors"
    safetensors.torch.save_file(weights | {"Mixed_5b.branch1x1.bn.num_batches_tracked": torch.tensor(3)}, changed)
    assert Inception.load(changed).hash != inception.hash


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("Mixed_7c.branch_pool.conv.weight"), "'Mixed_7c.branch_pool.conv.weight' is missing"),
        (lambda w: w | {"AuxLogits.fc.weight": torch.ones(2)}, "'AuxLogits.fc.weight' does not belong"),
        (lambda w: w | {"fc.weight": torch.ones(1000, 2048)}, r"shape \(1000, 2048\) instead of \(1008, 2048\)"),
        (lambda w: w | {"fc.bias": torch.full((1008,), torch.nan)}, "finite"),
    ],
)
def test_other_weights_are_refused(tmp_path: Path, damage: Callable[[dict[str, Tensor]], dict[str, Tensor]], words: str) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(damage(random_weights()), path)
    with pytest.raises(CheckpointError, match=words):
        Inception.load(path)


def test_pickles_and_missing_files_are_refused_unread(tmp_path: Path) -> None:
    class Trap(nn.Module):
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save(Trap(), tmp_path / "weights.pth")
    for path in (tmp_path / "weights.pth", tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="safetensors"):
            Inception.load(path)
    assert not (tmp_path / "ran").exists()
