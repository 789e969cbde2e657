# SPDX-License-Identifier: Apache-2.0
"""The data set's invariants and identity, and the room's imports."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ornstein.data.dataset import Dataset


def images(n: int = 4, **changes) -> Dataset:
    raw = torch.arange(n * 3 * 4, dtype=torch.uint8).view(n, 3, 2, 2)
    return Dataset(**{"raw": raw, "labels": torch.arange(n) % 2, "class_names": ("a", "b"), "kind": "image", **changes})


def test_identity_depends_on_every_part_and_on_nothing_else():
    data = images()
    flipped = data.raw.clone()
    flipped[3, 2, 1, 1] ^= 1
    others = [
        images(raw=flipped),
        images(raw=data.raw.reshape(4, 1, 3, 4)),
        images(labels=torch.tensor([0, 1, 1, 1])),
        images(class_names=("a", "c")),
        images(labels=None, class_names=()),
        images(3),
        Dataset(torch.zeros(4, 2), None, (), "points"),
    ]
    identities = {data.identity, *(other.identity for other in others)}
    assert len(identities) == 1 + len(others)
    assert images().identity == data.identity
    assert images(raw=data.raw.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)).identity == data.identity


def test_select_keeps_order_and_labels():
    chosen = images().select(torch.tensor([3, 0]))
    assert len(chosen) == 2
    assert chosen.labels.tolist() == [1, 0]
    assert torch.equal(chosen.raw[0], images().raw[3])
    assert len(images().select(torch.tensor([], dtype=torch.int64)).identity) == 16


@pytest.mark.parametrize(
    "changes",
    [
        {"raw": torch.zeros(4, 3, 2, 2)},
        {"raw": torch.zeros(4, 12, dtype=torch.uint8)},
        {"kind": "points"},
        {"labels": None},
        {"class_names": ()},
        {"labels": torch.arange(3) % 2},
        {"labels": torch.tensor([0, 1, 2, 0])},
        {"labels": torch.tensor([0, 1, -1, 0])},
        {"labels": torch.zeros(4, dtype=torch.int32)},
    ],
)
def test_parts_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError):
        images(**changes)


def test_the_room_needs_no_torchvision_scikit_learn_or_network():
    code = (
        "import sys, socket\n"
        "sys.modules.update(torchvision=None, sklearn=None)\n"
        "def refuse(*a, **k): raise AssertionError('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "import ornstein.data.load as load, ornstein.data.fetch, ornstein.data.check\n"
        "print(len(load.digits(8).train) + len(load.points(n=10).test))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "902", done.stderr
