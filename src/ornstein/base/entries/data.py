# SPDX-License-Identifier: Apache-2.0
"""Data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ornstein.base.parts import REQUIRED, Entry, Param, Traits, traits

_DATA = "ornstein.data.load"
_PATH = Param(str, REQUIRED, help="folder of the files")
_PIXELS = ("[4, 1024]", "pixels on a side")


def _points_traits(values: Mapping[str, Any]) -> Traits:
    return frozenset({"points", "unlabelled"} if values.get("world") == "checkerboard" else {"points"})


ENTRIES = (
    Entry("data", "digits", f"{_DATA}:digits", {"size": Param(int, 16, "[8, 64]", "pixels", multiple_of=8)}, traits=traits("image")),
    Entry("data", "idx", f"{_DATA}:idx", {"path": _PATH, "size": Param(int, 28, *_PIXELS)}, traits=traits("image")),
    Entry("data", "cifar10", f"{_DATA}:cifar10", {"path": _PATH, "size": Param(int, 32, *_PIXELS)}, traits=traits("image")),
    Entry("data", "folder", f"{_DATA}:folder", {
        "path": _PATH,
        "size": Param(int, 64, *_PIXELS),
        "channels": Param(int, 3, help="1 for grey, 3 for colour", choices=(1, 3)),
        "on_bad_file": Param(str, "fail", help="what a file that cannot be used does", choices=("fail", "skip")),
        "test_fraction": Param(float, 0.1, "(0, 1)", "share of the images held out"),
    }, traits=traits("image")),
    Entry("data", "points", f"{_DATA}:points", {
        "world": Param(str, "moons", help="the law they follow", choices=("moons", "rings", "spiral", "checkerboard", "mixture")),
        "n": Param(int, 10000, "[1, 10000000]", "points to train on"),
        "seed": Param(int, 0, "[0, 9007199254740991]", "of the points"),
    }, traits=_points_traits),
)  # fmt: skip
