# SPDX-License-Identifier: Apache-2.0
"""The embedded digits: contents, split, and enlargement that keeps the cell means."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch.nn.functional import interpolate

from ornstein.base.errors import UsageError
from ornstein.data import load
from ornstein.data.digits import block_means, enlarged, stored


def test_the_asset_is_the_published_one():
    ink, labels, _ = stored()
    assert ink.shape == (1797, 8, 8)
    assert (int(ink.min()), int(ink.max())) == (0, 16)
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    contents = ink.numpy().tobytes() + labels.to(torch.uint8).numpy().tobytes()
    assert hashlib.sha256(contents).hexdigest() == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_the_split_is_fixed_and_balanced():
    _, labels, train = stored()
    assert len(train) == len(train.unique()) == 900
    assert torch.equal(train, train.sort().values)
    shares = labels[train].bincount() - 900 * labels.bincount() / 1797
    assert shares.abs().max() < 1.0
    split = load.digits(8)
    assert (len(split.train), len(split.test)) == (900, 897)
    assert (split.train.identity, split.test.identity) == ("d5d1e29c79b574f9", "e18978acec67c316")
    both = torch.cat([split.train.raw, split.test.raw]).flatten(1)
    assert len(both.unique(dim=0)) == 1797, "no image lies in both parts"


def test_the_default_size_is_pinned():
    split = load.digits()
    assert split.train.raw.shape[1:] == (1, 16, 16)
    assert (split.train.identity, split.test.identity) == ("fe2cfdaa400d4710", "2aaaf903158efdb9")
    assert split.train.class_names == tuple("0123456789")


@pytest.mark.parametrize("size", [8, 16, 24, 32])
def test_cell_means_of_every_image_give_the_ink_back(size):
    ink = stored().ink
    images = enlarged(ink, size)
    assert images.shape == (1797, 1, size, size)
    means = block_means(images)
    assert torch.equal(means.round().to(torch.uint8).view(-1, 8, 8), ink)
    # Rounding to uint8 moves no pixel, so no mean, by more than half a level of 16/255.
    assert (means - ink.flatten(1)).abs().max() <= (0.5 + 1e-3) * 16 / 255


def test_enlarged_images_are_smooth_and_not_blocks():
    ink = stored().ink[:200]
    smooth = enlarged(ink, 16).float()
    blocks = interpolate(ink[:, None].float() * 255 / 16, scale_factor=2)

    def roughness(images):
        return images.diff(n=2, dim=-1).square().mean() + images.diff(n=2, dim=-2).square().mean()

    assert roughness(smooth) < 0.6 * roughness(blocks)


def test_flat_and_extreme_ink():
    for value in (0, 8, 16):
        images = enlarged(torch.full((1, 8, 8), value, dtype=torch.uint8), 16)
        assert images.unique().tolist() == [(value * 255 + 8) // 16]
    lone = torch.zeros(1, 8, 8, dtype=torch.uint8)
    lone[0, 3, 4] = 16
    images = enlarged(lone, 32)
    assert (images[0, 0, 12:16, 16:20] == 255).all()
    assert images.sum() == 255 * 16


def test_block_means_of_floats_and_larger_cells():
    images = torch.zeros(2, 1, 32, 32)
    images[1, 0, 4:8, 0:4] = 255.0 / 2
    means = block_means(images)
    assert means.shape == (2, 64)
    assert means[1, 8] == pytest.approx(8.0)
    assert means.sum() == pytest.approx(8.0)


@pytest.mark.parametrize("size", [0, 4, 12, 72, -8])
def test_other_sizes_are_refused(size):
    with pytest.raises(UsageError, match="multiple of 8"):
        load.digits(size)
