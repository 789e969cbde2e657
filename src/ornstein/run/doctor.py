# SPDX-License-Identifier: Apache-2.0
"""What a machine offers, by asking it, and whether a run folder is sound, by reading all of it."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from ornstein import __version__
from ornstein.base.errors import OrnsteinError
from ornstein.base.files import read_json, read_lines
from ornstein.run.folder import RunFolder

_SIZE = 1024  # rows and columns of the product that is timed
_PATIENCE = 0.4  # seconds given to one kind of number


def examine_machine() -> dict[str, Any]:
    """Cores, memory, GPUs, versions, extras, and measured rates of matrix products, as JSON values."""
    import torch

    rates = matrix_rates()
    gain = rates["bf16"] / rates["fp32"]
    advice = "train.precision=bf16 should pay here" if gain > 1.2 else "train.precision=fp32 is the better choice here"
    total, free = _memory()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {
        "ornstein": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gb": round(total / 1e9, 2),
        "memory_free_gb": round(free / 1e9, 2),
        "gpus": gpus + (["Apple GPU (MPS)"] if torch.backends.mps.is_available() else []),
        "matrix_products": rates,
        "advice": f"bf16 multiplies matrices {gain:.1f}x as fast as fp32: {advice}.",
        "extras": list(extras()),
    }


def matrix_rates() -> dict[str, float]:
    """Best rate in GFLOP/s of a square CPU matrix product in float32 and in bfloat16."""
    import torch

    full = torch.randn(_SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    half = full.to(torch.bfloat16)
    return {"fp32": _rate(lambda: full @ full), "bf16": _rate(lambda: half @ half)}


def _rate(product: Callable[[], Any]) -> float:
    """Best of the products that fit into the time given, after one that warms up."""
    product()
    best, start = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - start < _PATIENCE:
        begin = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - begin)
    return round(2.0 * _SIZE**3 / best / 1e9, 1)


def _memory() -> tuple[int, int]:
    """Bytes of memory: all, and free for a new program where the system says so (else all)."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    said = re.search(r"MemAvailable:\s+(\d+) kB", _text(Path("/proc/meminfo")))
    return total, int(said[1]) * 1024 if said else total


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def extras() -> Iterator[dict[str, Any]]:
    """Every extra of the installed package, with the packages of it that are missing and the line that installs them."""
    wanted: dict[str, list[str]] = {}
    for line in metadata.requires("ornstein") or ():
        package, extra = re.match(r"[A-Za-z0-9._-]+", line), re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if package and extra:
            wanted.setdefault(extra[1], []).append(package[0])
    for name, packages in sorted(wanted.items()):
        missing = [package for package in packages if not _installed(package)]
        yield {"name": name, "missing": missing, "install": f'pip install "ornstein[{name}]"'}


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def examine_run(folder: Path) -> dict[str, Any]:
    """Whether a run folder is sound: {"sound": bool, "findings": [{"what", "sound", "says"}]}.

    Every file that another command would read is read: the recipe, run.json, the logs, every checkpoint against its
    manifest, the pointer to the best one. Raises UsageError where the folder is no run.
    """
    findings = list(_findings(RunFolder.open(folder)))
    return {"sound": all(finding["sound"] for finding in findings), "findings": findings}


def _findings(run: RunFolder) -> Iterator[dict[str, Any]]:
    yield _finding("recipe.yaml", lambda: f"recipe {run.recipe().hash}")
    yield _finding("run.json", lambda: f"{len(run.facts())} entries")
    for name in ("metrics.jsonl", "times.jsonl"):
        if (run.path / name).exists():
            yield _finding(name, lambda name=name: f"{len(read_lines(run.path / name))} lines")  # type: ignore[misc]
    yield from _checkpoint_findings(run)
    for name in ("best.json", "evaluation.json"):
        if (run.path / name).exists():
            yield _finding(name, lambda name=name: f"{len(read_json(run.path / name))} entries")  # type: ignore[misc]
    left = sorted(path.relative_to(run.path) for path in run.path.rglob("*.tmp-*"))
    if left:
        yield {
            "what": str(left[0]),
            "sound": True,
            "says": f"{len(left)} left over by an interrupted write; the next training removes them",
        }


def _checkpoint_findings(run: RunFolder) -> Iterator[dict[str, Any]]:
    from ornstein.train.checkpoint import path_of, read, steps_in

    steps = steps_in(run.checkpoints)
    if not steps:
        yield {"what": "checkpoints", "sound": True, "says": "none yet"}
    for step in steps:
        path = path_of(run.checkpoints, step)
        yield _finding(f"checkpoints/{path.name}", lambda path=path: f"{sum(map(len, read(path).tensors.values()))} tensors as written")  # type: ignore[misc]


def _finding(what: str, look: Callable[[], str]) -> dict[str, Any]:
    """What looking at a file shows: its summary, or what is wrong with it."""
    try:
        return {"what": what, "sound": True, "says": look()}
    except OrnsteinError as error:
        return {"what": what, "sound": False, "says": f"{error.what.strip()} {error.fix}"}
