# SPDX-License-Identifier: Apache-2.0
"""The extractor: learns its classes, repeats itself, is named by its hash, and no damaged file is taken for it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.evaluate.extractor import Extractor, Layer, accuracy
from ornstein.evaluate.metrics import Samples
from ornstein.evaluate.pixels import pooled


def test_learns_classes_that_it_can_tell_in_fresh_images(extractor: Extractor, held_out: Samples) -> None:
    assert accuracy(extractor, held_out.images, held_out.labels) > 0.97
    predicted = extractor.predict(held_out.images)
    assert predicted.dtype == torch.int64
    assert accuracy(extractor, held_out.images, (predicted + 1) % 3) == 0


def test_features_are_few_finite_and_float64(extractor: Extractor, held_out: Samples) -> None:
    features = extractor.features(held_out.images)
    assert features.shape == (120, 64)
    assert features.dtype == torch.float64
    assert features.isfinite().all()


def test_fit_repeats_bit_for_bit_leaves_the_global_generator_alone_and_heeds_its_seed(extractor: Extractor, train: Samples) -> None:
    before = torch.get_rng_state()
    started = time.process_time()
    again = Extractor.fit(train.images, train.labels, 3, seed=0, pool=8)
    assert time.process_time() - started < 10
    assert torch.equal(before, torch.get_rng_state())
    assert again.hash == extractor.hash
    assert all(torch.equal(a, b) for one, two in zip(again.body, extractor.body, strict=True) for a, b in zip(one, two, strict=True))
    assert Extractor.fit(train.images, train.labels, 3, seed=1, pool=8).hash != extractor.hash


def test_hash_names_everything_that_changes_a_feature(extractor: Extractor) -> None:
    weight, bias = extractor.body[0]
    nudged = weight.clone()
    nudged[3, 5] = torch.nextafter(nudged[3, 5], torch.tensor(9.0))
    others = [
        replace(extractor, body=(Layer(nudged, bias), *extractor.body[1:])),
        replace(extractor, body=(Layer(weight.reshape(weight.shape[::-1]), bias), *extractor.body[1:])),
        replace(extractor, body=extractor.body[::-1]),
        replace(extractor, head=None),
        replace(extractor, inputs=replace(extractor.inputs, grid=7)),
        replace(extractor, inputs=replace(extractor.inputs, mean=extractor.inputs.mean + 1e-9)),
        replace(extractor, inputs=replace(extractor.inputs, scale=extractor.inputs.scale + 1e-9)),
    ]
    assert len({extractor.hash, *(other.hash for other in others)}) == 8
    assert extractor.hash in extractor.identity
    assert len(extractor.hash) == 16


def test_without_labels_features_are_principal_components(train: Samples) -> None:
    found = Extractor.fit(train.images, pool=8)
    features = found.features(train.images)
    pixels = (pooled(train.images, 8) - found.inputs.mean) / found.inputs.scale
    variances = torch.linalg.eigvalsh(torch.cov(pixels.T)).flip(0)
    assert torch.allclose(torch.cov(features.T), torch.diag(variances), atol=1e-4)
    assert features.mean(0).abs().max() < 1e-5
    with pytest.raises(UsageError, match="without labels"):
        found.predict(train.images)


def test_components_are_no_more_than_the_images_span(train: Samples) -> None:
    assert Extractor.fit(train.images[:5], pool=8).features(train.images).shape == (150, 4)


def test_takes_colour_images_of_any_size_and_small_ones(stripes: Callable[..., Samples]) -> None:
    colour = stripes(30, "colour", channels=3, side=21)
    found = Extractor.fit(colour.images, pool=8)
    assert found.inputs.pixels(colour.images).shape == (30, 192)
    with pytest.raises(UsageError, match="1 channels, the extractor takes 3"):
        found.features(colour.images[:, :1])
    tiny = Extractor.fit(torch.randint(256, (10, 1, 4, 5), dtype=torch.uint8), pool=8)
    assert tiny.inputs.pixels(torch.zeros(2, 1, 4, 5, dtype=torch.uint8)).shape == (2, 20)


def test_blank_images_do_not_divide_by_zero() -> None:
    assert Extractor.fit(torch.zeros(6, 1, 8, 8, dtype=torch.uint8)).features(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).eq(0).all()


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_refuses_labels_out_of_range(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        Extractor.fit(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor(labels), 3)


def test_grid_means_are_means_of_blocks_in_the_unit_range() -> None:
    images = torch.randint(256, (3, 2, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blocks = images.double().div(255).unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    assert torch.allclose(pooled(images, 8), blocks.flatten(1), rtol=1e-14)
    assert pooled(images[:0], 8).shape == (0, 128)
    assert pooled(images, 99).shape == (3, 512)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path, extractor: Extractor, train: Samples, held_out: Samples) -> None:
    for fitted in (extractor, Extractor.fit(train.images, pool=8)):
        fitted.save(tmp_path)
        loaded = Extractor.load(tmp_path)
        assert loaded.identity == fitted.identity
        assert torch.equal(loaded.features(held_out.images), fitted.features(held_out.images))


def spoiled(data: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    kind = chance.randrange(4)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes(min(64, len(data) - place)) + data[place + 64 :]
    if kind == 2:
        return data + b"\0"
    return data[:place] + bytes([data[place] ^ (1 << chance.randrange(8))]) + data[place + 1 :]


def test_no_damage_goes_unseen(tmp_path: Path, extractor: Extractor, held_out: Samples) -> None:
    extractor.save(tmp_path)
    features, chance, seen = extractor.features(held_out.images), random.Random(0), 0
    for file in ("extractor.safetensors", "extractor.json"):
        whole = (tmp_path / file).read_bytes()
        for _ in range(150):
            (tmp_path / file).write_bytes(damaged := spoiled(whole, chance))
            if damaged == whole:
                continue
            try:
                loaded = Extractor.load(tmp_path)
            except CheckpointError:
                seen += 1
            else:  # damage that leaves every value as it was, such as a space after the JSON
                assert loaded.hash == extractor.hash
                assert torch.equal(loaded.features(held_out.images), features)
        (tmp_path / file).write_bytes(whole)
    assert seen > 270


@pytest.mark.parametrize("file", ["extractor.safetensors", "extractor.json"])
def test_missing_files_are_named(tmp_path: Path, extractor: Extractor, file: str) -> None:
    extractor.save(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(CheckpointError, match=file if file.endswith("json") else str(tmp_path)):
        Extractor.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"layers": 1},
        {"layers": "two"},
        {"kind": "components"},
        {"channels": 3},
        {"grid": 4},
        {"mean": 0.5},
        {"hash": "0" * 16},
        {"extra": 1},
    ],
)
def test_changed_settings_are_refused(tmp_path: Path, extractor: Extractor, change: dict[str, object]) -> None:
    extractor.save(tmp_path)
    path = tmp_path / "extractor.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match="cannot be used"):
        Extractor.load(tmp_path)


@pytest.mark.parametrize("fault", ["left out", "left over", "other type", "not finite", "does not fit"])
def test_crafted_weights_are_refused_whatever_their_hash(tmp_path: Path, extractor: Extractor, fault: str) -> None:
    weight, bias = extractor.body[0]
    crafted = {
        "not finite": replace(extractor, body=(Layer(weight * torch.inf, bias), *extractor.body[1:])),
        "does not fit": replace(extractor, body=(Layer(weight[:5], bias[:5]), *extractor.body[1:])),
        "other type": replace(extractor, body=(Layer(weight.double(), bias), *extractor.body[1:])),
    }.get(fault, extractor)
    crafted.save(tmp_path)
    path = tmp_path / "extractor.safetensors"
    tensors = safetensors.torch.load_file(path)
    if fault == "left out":
        del tensors["head.bias"]
    if fault == "left over":
        tensors["body.2.weight"] = torch.zeros(1)
    path.write_bytes(safetensors.torch.save(tensors))
    with pytest.raises(CheckpointError, match="cannot be used"):
        Extractor.load(tmp_path)
