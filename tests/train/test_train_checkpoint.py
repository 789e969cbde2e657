# SPDX-License-Identifier: Apache-2.0
"""The folder protocol: any corruption is detected and named, the newest valid checkpoint is taken, nothing is pruned early."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from train_world import splice

from ornstein.base.errors import CheckpointError, StorageError
from ornstein.train import checkpoint
from ornstein.train.checkpoint import load_weights, newest_valid, path_of, prune, read, save, set_aside, steps_in

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
IDENTITY = {"recipe": "0123456789abcdef", "ornstein": "0.1.0"}


def _tensors(step: int) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    return {part: {"w": torch.randn(30, 40, generator=generator), "b": torch.randn(7, generator=generator)} for part in checkpoint.PARTS}


def _save(folder: Path, *steps: int) -> Path:
    for step in steps:
        save(folder, step, _tensors(step), {"seed": 3, "loss": 0.1}, IDENTITY)
    return folder


def _newest(folder: Path) -> tuple[int, list[str]]:
    said: list[str] = []
    found = newest_valid(folder, said.append)
    assert found is not None
    return found.step, said


def test_what_is_saved_is_read(place: Path) -> None:
    found = read(save(place, 12, _tensors(12), {"seed": 3, "loss": 0.1}, IDENTITY))
    assert (found.step, found.state) == (12, {"step": 12, "seed": 3, "loss": 0.1})
    assert sorted(path.name for path in found.path.iterdir()) == sorted(FILES)
    for part, named in _tensors(12).items():
        assert all(torch.equal(found.tensors[part][name], tensor) for name, tensor in named.items())
    assert found.manifest["identity"] == IDENTITY
    assert (found.manifest["format"], found.manifest["torch"]) == (1, torch.__version__)


def test_names_inside_never_hold_the_step(place: Path) -> None:
    _save(place, 987654)
    inside = list((place / "step-987654").rglob("*"))
    assert not any("987654" in path.name for path in inside)
    assert not any(b"987654" in path.read_bytes() for path in inside if path.suffix == ".safetensors")


def test_a_step_is_saved_once(place: Path) -> None:
    before = {path: path.read_bytes() for path in _save(place, 5).rglob("*.json")}
    with pytest.raises(StorageError, match="step-5"):
        save(place, 5, _tensors(6), {}, IDENTITY)
    assert {path: path.read_bytes() for path in place.rglob("*.json")} == before
    assert not list(place.glob("*.tmp-*"))


def test_the_manifest_is_written_last_and_everything_is_synced_before_the_rename(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str]] = []
    sync, rename = os.fsync, os.rename

    def synced(handle: int) -> None:
        calls.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name.split(".tmp-")[0]))
        sync(handle)

    def renamed(source: Any, target: Any) -> None:
        calls.append(("rename", Path(target).name))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    _save(place, 1)
    before, after = calls[: calls.index(("rename", "step-1"))], calls[calls.index(("rename", "step-1")) + 1 :]
    assert {name for kind, name in before if kind == "sync"} >= {*FILES, "step-1"}
    assert after == [("sync", place.name)]
    first = {name: calls.index(("sync", name)) for name in FILES}
    assert max(first, key=lambda name: first[name]) == "manifest.json"


def test_prune_keeps_the_newest_and_the_best(place: Path) -> None:
    _save(place, 2, 4, 6, 8, 10)
    assert prune(place, 2, also=[4]) == [2, 6]
    assert steps_in(place) == [4, 8, 10]
    assert prune(place, 5) == []


def test_a_removal_cut_short_leaves_an_invalid_checkpoint(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(place, 2, 4)
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    prune(place, 1)
    with pytest.raises(CheckpointError, match="manifest"):
        read(path_of(place, 2))


def test_other_names_are_not_checkpoints(place: Path) -> None:
    _save(place, 3)
    for name in ("step-4.tmp-77", "step-5.invalid-1", "step-06", "step--1", "step-", "step-x", "step-٣", "stale"):
        (place / name).mkdir()
    assert steps_in(place) == [3]
    assert steps_in(place / "absent") == []


def test_invalid_ones_are_set_aside_not_deleted(place: Path) -> None:
    _save(place, 1, 2, 3)
    (place / "step-3.invalid-1").mkdir()
    assert [path.name for path in set_aside(place, 1)] == ["step-2.invalid-1", "step-3.invalid-2"]
    assert steps_in(place) == [1]
    assert (place / "step-2.invalid-1" / "manifest.json").exists()


# -- R5: corruption -------------------------------------------------------------------------------------------------------


def _flip(place: Path, chance: random.Random) -> str:
    name = chance.choice(FILES)
    data = bytearray((place / "step-2" / name).read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    (place / "step-2" / name).write_bytes(data)
    return name


def _truncate(place: Path, chance: random.Random) -> str:
    name = chance.choice(FILES)
    data = (place / "step-2" / name).read_bytes()
    (place / "step-2" / name).write_bytes(data[: chance.randrange(len(data))])
    return name


def _lengthen(place: Path, chance: random.Random) -> str:
    name = chance.choice(FILES)
    with (place / "step-2" / name).open("ab") as handle:
        handle.write(bytes(chance.choice([b"\0", b"\n", b" ", b"{}"])) * chance.randrange(1, 9))
    return name


def _zero_page(place: Path, chance: random.Random) -> str:
    name = chance.choice(FILES)
    data = bytearray((place / "step-2" / name).read_bytes())
    start = chance.randrange(0, len(data), 4096)
    end = min(start + 4096, len(data))
    data[start:end] = bytes(end - start)
    (place / "step-2" / name).write_bytes(data)
    return name


def _remove(place: Path, chance: random.Random) -> str:
    name = chance.choice(FILES)
    (place / "step-2" / name).unlink()
    return name


def _swap_within(place: Path, chance: random.Random) -> str:
    one, other = chance.sample([place / "step-2" / name for name in FILES], 2)
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)
    return "step-2"


def _swap_between(place: Path, chance: random.Random) -> str:
    name = chance.choice(FILES)
    (place / "step-2" / name).write_bytes((place / "step-1" / name).read_bytes())
    return "step-2"


def _all_from_another(place: Path, chance: random.Random) -> str:
    shutil.rmtree(place / "step-2")
    shutil.copytree(place / "step-1", place / "step-2")
    return "step-2"


HARMS: list[Callable[[Path, random.Random], str]] = [
    *(_flip, _flip, _flip, _flip, _truncate, _truncate, _lengthen, _zero_page, _remove),
    *(_swap_within, _swap_between, _all_from_another),
]


def test_1000_corruptions_are_all_detected_and_named(place: Path) -> None:
    chance = random.Random(20)
    _save(place, 1, 2)
    good = {name: (place / "step-2" / name).read_bytes() for name in FILES}
    seen = dict.fromkeys((harm.__name__ for harm in HARMS), 0)
    for _ in range(1000):
        harm = chance.choice(HARMS)
        name = harm(place, chance)
        step, said = _newest(place)
        assert step == 1, harm
        assert len(said) == 1
        assert "step-2" in said[0]
        assert name in said[0], (harm, said)
        seen[harm.__name__] += 1
        for file, data in good.items():
            (place / "step-2" / file).write_bytes(data)
        assert min(seen.values()) > 0 or sum(seen.values()) < 500
    assert _newest(place) == (2, [])


def test_every_single_bit_of_the_manifest_counts(place: Path) -> None:
    _save(place, 2)
    path = place / "step-2" / "manifest.json"
    good = path.read_bytes()
    for at in range(len(good)):
        for bit in range(8):
            path.write_bytes(good[:at] + bytes([good[at] ^ (1 << bit)]) + good[at + 1 :])
            with pytest.raises(CheckpointError):
                checkpoint._read_manifest(path)


def test_nothing_valid_and_nothing_at_all(place: Path) -> None:
    assert newest_valid(place / "none", pytest.fail) is None
    _save(place, 1, 2)
    for step in (1, 2):
        (path_of(place, step) / "ema.safetensors").unlink()
    said: list[str] = []
    with pytest.raises(CheckpointError, match=r"(?s)No checkpoint.*step-2/ema.*step-1/ema"):
        newest_valid(place, said.append)
    assert len(said) == 2


def test_one_that_does_not_fit_is_skipped_like_one_that_is_broken(place: Path) -> None:
    def small(found: checkpoint.Checkpoint) -> None:
        if found.step > 1:
            raise CheckpointError("It does not fit.", "")

    _save(place, 1, 2)
    said: list[str] = []
    found = newest_valid(place, said.append, small)
    assert found is not None
    assert found.step == 1
    assert "It does not fit." in said[0]


# -- R6, R7: hostile manifests ----------------------------------------------------------------------------------------------


def _resealed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """A manifest changed by someone who knows how its digest is made."""
    manifest = json.loads(path.read_bytes())
    del manifest["digest"]
    change(manifest)
    path.write_bytes(checkpoint._text({**manifest, "digest": checkpoint._digest(manifest)}))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["files"].update({"../../x": {"size": 1, "sha256": "0" * 64}}),
        lambda m: m["files"].update({"/etc/passwd": m["files"].pop("ema.safetensors")}),
        lambda m: m["files"].pop("state.json"),
        lambda m: m["files"]["ema.safetensors"].update(size=True),
        lambda m: m["files"]["ema.safetensors"].update(size="9"),
        lambda m: m["files"]["ema.safetensors"].update(path="../x"),
        lambda m: m["files"]["ema.safetensors"].pop("sha256"),
        lambda m: m["files"].update({"state.json": None}),
        lambda m: m.update(files=[]),
        lambda m: m.update(format=0),
        lambda m: m.update(format="1"),
        lambda m: m.pop("format"),
    ],
)
def test_resealed_manifests_open_nothing_else(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    _save(place, 2)
    _resealed(place / "step-2" / "manifest.json", change)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        read(place / "step-2")


def test_a_newer_format_says_so(place: Path) -> None:
    _save(place, 2)
    _resealed(place / "step-2" / "manifest.json", lambda manifest: manifest.update(format=2))
    with pytest.raises(CheckpointError, match="newer Ornstein"):
        read(place / "step-2")


def test_a_state_of_another_step_is_refused(place: Path) -> None:
    _save(place, 2).joinpath("step-2").rename(place / "step-7")
    with pytest.raises(CheckpointError, match="state of step 2"):
        read(place / "step-7")


def test_a_huge_manifest_is_not_read(place: Path) -> None:
    _save(place, 2)
    (place / "step-2" / "manifest.json").write_bytes(b"[" * (2 << 20))
    with pytest.raises(CheckpointError, match="too large"):
        read(place / "step-2")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_KEYS = st.sampled_from(["format", "identity", "torch", "files", "digest"])
@pytest.mark.slow
def test_25000_manifests_spliced_at_random(place: Path) -> None:
    chance = random.Random(8)
    path = _save(place, 2) / "step-2" / "manifest.json"
    good = path.read_bytes()
    for _ in range(25_000):
        text = splice(good, chance)
        path.write_bytes(text)
        if chance.random() < 0.5:
            with contextlib.suppress(ValueError, AttributeError, KeyError, TypeError, CheckpointError):
                _resealed(path, lambda manifest: None)
        began = time.monotonic()
        try:
            found = read(place / "step-2")
        except CheckpointError:
            continue
        finally:
            assert time.monotonic() - began < 1.0
        assert found.manifest["files"] == json.loads(good)["files"]


_DEEP = b'{"digest":' + b"[" * 900 + b"]" * 900 + b"}"
_TEXTS = [b"", b"[" * 5000, b"{" * 5000, b'{"a":' * 5000, b'{"digest":"","format":1e999}', b'{"digest":"","format":NaN}', b"\xff", _DEEP]


def test_fuzzed_manifests(place: Path) -> None:
    path = _save(place, 2) / "step-2" / "manifest.json"
    good = json.loads(path.read_bytes())

    @settings(max_examples=100, deadline=1000)
    @given(changes=st.dictionaries(_KEYS | st.text(max_size=8), _JSON, min_size=1, max_size=3), sealed=st.booleans())
    def holds(changes: dict[str, Any], sealed: bool) -> None:
        manifest = good | changes
        path.write_bytes(json.dumps(manifest).encode())
        if sealed:
            del manifest["digest"]
            with contextlib.suppress(ValueError):  # NaN cannot be sealed
                path.write_bytes(checkpoint._text({**manifest, "digest": checkpoint._digest(manifest)}))
        try:
            found = read(place / "step-2")
        except CheckpointError:
            return
        assert set(found.manifest["files"]) == {*FILES} - {"manifest.json"}
        assert all(torch.equal(found.tensors["ema"][name], tensor) for name, tensor in _tensors(2)["ema"].items())

    holds()


@pytest.mark.parametrize("text", _TEXTS)
def test_manifests_that_are_no_manifests(place: Path, text: bytes) -> None:
    _save(place, 2)
    (place / "step-2" / "manifest.json").write_bytes(text)
    with pytest.raises(CheckpointError, match="manifest"):
        read(place / "step-2")


def test_manifests_of_any_depth(place: Path) -> None:
    """From Python 3.12 on the parser follows deeper than the writer that the digest needs."""
    path = _save(place, 2) / "step-2" / "manifest.json"
    for depth in [10, 500, *range(900, 1000, 3), 2000, 5000]:
        path.write_bytes(b'{"digest":"","files":' + b"[" * depth + b"]" * depth + b"}")
        with pytest.raises(CheckpointError, match="manifest"):
            checkpoint._read_manifest(path)


# -- weights for others -------------------------------------------------------------------------------------------------------


def _equal(found: dict[str, torch.Tensor], part: str, step: int) -> bool:
    return all(torch.equal(found[name], tensor) for name, tensor in _tensors(step)[part].items())


def test_load_weights(place: Path) -> None:
    _save(place / "checkpoints", 1, 2, 3)
    assert load_weights(place)[1]["step"] == 3  # no evaluation has named a best one yet
    checkpoint.point_to_best(place, 2, 0.25)
    weights, state = load_weights(place)
    assert _equal(weights, "ema", 2)
    assert state["step"] == 2
    assert _equal(load_weights(place, "model", 1)[0], "model", 1)
    assert load_weights(place, step="newest")[1]["step"] == 3
    checkpoint.point_to_best(place, None, None)
    assert load_weights(place)[1]["step"] == 3


def test_load_weights_passes_a_broken_best_over_and_says_so(place: Path) -> None:
    _save(place / "checkpoints", 1, 2)
    checkpoint.point_to_best(place, 1, 0.25)
    (place / "checkpoints" / "step-1" / "ema.safetensors").write_bytes(b"")
    said: list[str] = []
    assert load_weights(place, report=said.append)[1]["step"] == 2
    assert "step-1" in said[0]
    (place / "best.json").write_text('{"step": "../../x"}')
    assert load_weights(place, report=said.append)[1]["step"] == 2
    assert "best.json" in said[1]


def test_load_weights_of_nothing(place: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        load_weights(place)
    with pytest.raises(CheckpointError, match="step-4"):
        load_weights(place, step=4)


def test_only_the_part_that_is_asked_for_is_read(place: Path) -> None:
    _save(place / "checkpoints", 1)
    (place / "checkpoints" / "step-1" / "optimizer.safetensors").write_bytes(b"broken")
    assert _equal(load_weights(place)[0], "ema", 1)
    with pytest.raises(CheckpointError, match="optimizer"):
        read(place / "checkpoints" / "step-1")
