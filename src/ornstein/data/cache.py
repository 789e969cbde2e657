# SPDX-License-Identifier: Apache-2.0
"""Prepared images kept between runs, one safetensors file per key, outside every data folder.

A cache is never needed: one that is missing, damaged or cannot be written costs the time to prepare the images again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ornstein.base.errors import StorageError
from ornstein.base.files import write_bytes


class Prepared(NamedTuple):
    """Images uint8 `(n, channels, size, size)` and the facts stored with them, as a JSON object."""

    images: Tensor
    facts: dict[str, Any]


def home() -> Path:
    """The folder of Ornstein's own files: `ORNSTEIN_HOME`, else `.ornstein` in the current folder."""
    return Path(os.environ.get("ORNSTEIN_HOME") or ".ornstein")


def location(key: str, data: Path) -> Path | None:
    """Where the images of a key are kept, or None where that would lie inside the data folder."""
    path = home() / "cache" / f"images-{key}.safetensors"
    return None if path.resolve().is_relative_to(data.resolve()) else path


def load(path: Path) -> Prepared | None:
    """What `store` wrote, or None where there is no such file or a byte of it has changed."""
    try:
        with safe_open(path, framework="pt") as file:
            header, images = file.metadata(), file.get_tensor("images")
        return Prepared(images, json.loads(header["facts"])) if header["sha256"] == _sha256(images, header["facts"]) else None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def store(path: Path, prepared: Prepared) -> bool:
    """Keep images and facts; False where the file cannot be written."""
    facts = json.dumps(prepared.facts)
    header = {"facts": facts, "sha256": _sha256(prepared.images, facts)}
    try:
        write_bytes(path, safetensors.torch.save({"images": prepared.images}, header))
    except StorageError:
        return False
    return True


def _sha256(images: UInt8[Tensor, "..."], facts: str) -> str:
    digest = hashlib.sha256(f"{tuple(images.shape)} {facts}".encode())
    digest.update(images.contiguous().view(-1).numpy().data)
    return digest.hexdigest()
