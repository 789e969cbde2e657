# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: folders that are whole or absent.

    checkpoints/step-N/   model.safetensors  ema.safetensors  optimizer.safetensors  state.json  manifest.json

`manifest.json` is written last and holds size and SHA-256 of every other file and a digest of itself; the folder is filled
under a temporary name, forced to the disk and renamed. A folder without a valid manifest does not exist for the reader, which
takes the newest valid one and names those it skips. Old ones are pruned only after a new one is in place. Names inside a
checkpoint never hold the step, and the names in a manifest are compared, never followed: no file decides what is opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.base.errors import CheckpointError, StorageError
from ornstein.base.files import atomic_folder, read_json, write_bytes, write_json
from ornstein.train.tensors import Stamp, read_tensors, stamp_of, strict_json, write_tensors

FORMAT = 1
PARTS = ("model", "ema", "optimizer")
_FILES = frozenset({*(f"{part}.safetensors" for part in PARTS), "state.json"})
_JSON_LIMIT = 1 << 20
_FIX = "Use another checkpoint, or restore this one from a copy."


class Checkpoint(NamedTuple):
    """What a valid checkpoint holds.

    Args:
        path: its folder.
        step: batches the run had trained on.
        tensors: named tensors of each part that was asked for.
        state: the numbers beside them.
        manifest: who wrote it: format, recipe hash, versions, stamps.
    """

    path: Path
    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    manifest: dict[str, Any]


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in the folder of checkpoints."""
    return folder / f"step-{step}"


def steps_in(folder: Path) -> list[int]:
    """Steps of which the folder has a checkpoint, valid or not, ascending."""
    matches = [re.fullmatch(r"step-(0|[1-9][0-9]{0,17})", path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in matches if match)


def save(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], identity: Mapping[str, Any]
) -> Path:
    """Write one checkpoint.

    Args:
        folder: the folder of checkpoints.
        step: batches trained on.
        tensors: the tensors of each of `PARTS`.
        state: JSON values.
        identity: what the manifest says beside the stamps (recipe hash, code version).

    Returns its folder. Raises StorageError, leaving nothing behind, where the system refuses a write.
    """
    with atomic_folder(path_of(folder, step)) as place:
        stamps = {f"{part}.safetensors": write_tensors(place / f"{part}.safetensors", tensors[part]) for part in PARTS}
        text = _text({"step": step, **state})
        write_bytes(place / "state.json", text)
        stamps["state.json"] = stamp_of(text)
        manifest: dict[str, Any] = {"format": FORMAT, "identity": dict(identity), "torch": torch.__version__}
        manifest["files"] = {name: stamp._asdict() for name, stamp in sorted(stamps.items())}
        write_bytes(place / "manifest.json", _text({**manifest, "digest": _digest(manifest)}))
    return path_of(folder, step)


def read(path: Path, parts: Iterable[str] = PARTS) -> Checkpoint:
    """Read and check one checkpoint; parts not asked for are neither read nor checked.

    Raises CheckpointError, naming the file, for anything that is not exactly what was written.
    """
    manifest = _read_manifest(path / "manifest.json")
    stamps = {name: Stamp(**stamp) for name, stamp in manifest["files"].items()}
    state = _read_checked(path / "state.json", stamps["state.json"])
    step = state.get("step")
    if type(step) is not int or path.name != f"step-{step}":
        raise CheckpointError(f"{path} holds the state of step {step}.", "Give the folder its own name back.")
    tensors = {part: read_tensors(path / f"{part}.safetensors", stamps[f"{part}.safetensors"]) for part in parts}
    return Checkpoint(path, step, tensors, state, manifest)


def newest_valid(
    folder: Path,
    report: Callable[[str], None],
    accept: Callable[[Checkpoint], None] = lambda checkpoint: None,
    parts: Iterable[str] = PARTS,
) -> Checkpoint | None:
    """The newest checkpoint that can be used; None where the folder has none at all.

    Args:
        folder: the folder of checkpoints.
        report: is told of every invalid one in a sentence.
        accept: raises CheckpointError for one that is whole but does not fit.
        parts: what to read of it.

    Raises CheckpointError where there are checkpoints and none is valid.
    """
    faults = []
    for step in reversed(steps_in(folder)):
        try:
            checkpoint = read(path_of(folder, step), parts)
            accept(checkpoint)
        except CheckpointError as error:
            faults.append(error.what)
            report(f"Checkpoint {path_of(folder, step)} is skipped: {error.what}")
            continue
        return checkpoint
    if faults:
        raise CheckpointError(f"No checkpoint in {folder} is valid: {' '.join(faults)}", "Restore one from a copy, or start the run again.")
    return None


def prune(folder: Path, keep: int, also: Iterable[int] = ()) -> list[int]:
    """Remove all but the `keep` newest checkpoints and those of the steps in `also`; returns the steps removed."""
    steps = steps_in(folder)
    removed = sorted(set(steps[: max(len(steps) - keep, 0)]) - set(also))
    for step in removed:
        # The manifest goes first, so that a removal cut short leaves an invalid checkpoint and not a wrong one.
        with contextlib.suppress(OSError):
            (path_of(folder, step) / "manifest.json").unlink()
        shutil.rmtree(path_of(folder, step), ignore_errors=True)
    return removed


def withdraw(folder: Path, step: int) -> None:
    """Remove the checkpoint of a step, to write another of the same step. Raises StorageError."""
    try:
        (path_of(folder, step) / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(path_of(folder, step))
    except OSError as error:
        what = f"Could not replace {path_of(folder, step)}: {error.strerror or error}."
        raise StorageError(what, "Make the folder writable.") from error


def set_aside(folder: Path, beyond: int) -> list[Path]:
    """Rename every checkpoint newer than the step `beyond`, which the reader has found invalid; returns the new names.

    Raises StorageError.
    """
    moved = []
    for step in steps_in(folder):
        if step > beyond:
            path = path_of(folder, step)
            names = (path.with_name(f"{path.name}.invalid-{count}") for count in range(1, 1_000_000))
            try:
                moved.append(path.rename(next(name for name in names if not name.exists())))
            except OSError as error:
                raise StorageError(f"Could not rename {path}: {error.strerror or error}.", "Make the folder writable.") from error
    return moved


def point_to_best(run: Path, step: int | None, heldout: float | None) -> None:
    """Name the checkpoint with the lowest held-out loss in `run/best.json`, or remove that file where there is none yet."""
    if step is None:
        (run / "best.json").unlink(missing_ok=True)
    else:
        write_json(run / "best.json", {"step": step, "heldout": heldout})


def load_weights(
    run: Path, which: str = "ema", step: int | str = "best", report: Callable[[str], None] = lambda sentence: None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a run, for sampling, evaluation or another run's start.

    Args:
        run: the run folder.
        which: "ema" for the averaged weights, "model" for the last ones.
        step: a step, "newest", or "best" (lowest held-out loss; the newest where no evaluation has named one).
        report: is told of invalid checkpoints that were passed over.

    Returns (tensors on the CPU, state); `state["step"]` says which checkpoint it is. Raises CheckpointError.
    """
    folder, parts = run / "checkpoints", (which,)
    if step == "best" and (run / "best.json").exists():
        try:
            step = _best_step(run)
            checkpoint = read(path_of(folder, step), parts)
            return checkpoint.tensors[which], checkpoint.state
        except CheckpointError as error:
            report(f"The best checkpoint is passed over: {error.what}")
            step = "newest"
    if isinstance(step, int):
        checkpoint = read(path_of(folder, step), parts)
        return checkpoint.tensors[which], checkpoint.state
    newest = newest_valid(folder, report, parts=parts)
    if newest is None:
        raise CheckpointError(f"{run} has no checkpoint yet.", f"Train it first: ornstein train {run} --resume")
    return newest.tensors[which], newest.state


def _best_step(run: Path) -> int:
    step = read_json(run / "best.json").get("step")
    if type(step) is not int or step < 0:
        raise CheckpointError(f"{run / 'best.json'} names no step.", "Delete it; the newest checkpoint is used then.")
    return step


def _text(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(dict(manifest))).hexdigest()


def _bytes_of(path: Path) -> bytes:
    try:
        if not path.is_file() or path.stat().st_size > _JSON_LIMIT:
            raise CheckpointError(f"{path} is {'too large' if path.is_file() else 'missing'}.", _FIX)
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} could not be read: {error.strerror or error}.", _FIX) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    text = _bytes_of(path)
    manifest = strict_json(path, text)
    if not isinstance(manifest, dict) or "digest" not in manifest:
        raise CheckpointError(f"{path} is not a manifest.", _FIX)
    if type(manifest.get("format")) is int and manifest["format"] > FORMAT:
        raise CheckpointError(f"{path} has format {manifest['format']}; this version reads up to {FORMAT}.", "Install a newer Ornstein.")
    # The text must be the one this module writes, so that no byte of it can change unnoticed.
    digest = manifest.pop("digest")
    try:
        damaged = digest != _digest(manifest) or text != _text({**manifest, "digest": digest})
    except RecursionError:
        damaged = True
    if damaged:
        raise CheckpointError(f"{path} is damaged: its digest differs.", _FIX)
    if manifest.get("format") != FORMAT or not _are_stamps(manifest.get("files")):
        raise CheckpointError(f"{path} does not describe the files of a checkpoint.", _FIX)
    return manifest


def _are_stamps(files: Any) -> bool:
    """Whether a JSON value gives exactly a size and a SHA-256 for exactly the files of a checkpoint."""
    if not isinstance(files, dict) or files.keys() != _FILES:
        return False
    kinds = {"size": int, "sha256": str}
    return all(isinstance(stamp, dict) and {key: type(value) for key, value in stamp.items()} == kinds for stamp in files.values())


def _read_checked(path: Path, stamp: Stamp) -> dict[str, Any]:
    text = _bytes_of(path)
    if stamp_of(text) != stamp:
        raise CheckpointError(f"{path} is not the file its manifest describes.", _FIX)
    state = strict_json(path, text)
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds no state.", _FIX)
    return state
