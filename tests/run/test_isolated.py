# SPDX-License-Identifier: Apache-2.0
"""The core works with no network, no torchvision, no extras and a home folder it may not write to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from run_world import DIGITS

# A sitecustomize that closes every way out: sockets, and packages the core must not need.
WALLS = """
import builtins, socket, sys

class Closed(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("the core opened a socket")

socket.socket = Closed
for name in ("torchvision", "tensorboard", "diffusers", "sklearn", "scipy", "matplotlib", "pytest", "hypothesis", "beartype"):
    sys.modules[name] = None
"""


def enclosed(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`ornstein WORDS` behind the walls, with an empty home that is read-only."""
    walls, home = tmp_path / "walls", tmp_path / "home"
    walls.mkdir(exist_ok=True)
    (walls / "sitecustomize.py").write_text(WALLS)
    home.mkdir(exist_ok=True)
    home.chmod(0o500)
    source = Path(__file__).parents[2] / "src"
    env = {**os.environ, "PYTHONPATH": f"{walls}{os.pathsep}{source}", "HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "ornstein", *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert list(home.iterdir()) == []
    return done


def test_train_sample_and_measure_behind_walls(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(DIGITS)
    for words in (["train", "tiny.yaml", "--out", "run"], ["sample", "run", "-n", "2", "--out", "drawn"], ["evaluate", "run"]):
        done = enclosed(tmp_path, *words)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "drawn" / "samples.npz").exists()


def test_a_missing_extra_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(DIGITS)
    done = enclosed(tmp_path, "train", "tiny.yaml", "--out", "run", "train.tensorboard=true")
    assert done.returncode == 2
    assert 'pip install "ornstein[tensorboard]"' in done.stderr
    assert "Traceback" not in done.stderr
