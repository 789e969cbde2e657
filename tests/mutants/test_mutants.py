# SPDX-License-Identifier: Apache-2.0
"""The tests notice when a formula breaks: each mutant of the table is run against its tests, which must fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutant_table import MUTANTS, Mutant

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PACKAGE = ROOT / "src" / "ornstein"
FAST = ("model/guidance.py",)
"""Mutants of these files are run in the default suite too."""


def _name(mutant: Mutant) -> str:
    return f"{mutant.file}: {mutant.new}"


def _case(mutant: Mutant) -> pytest.ParameterSet:  # type: ignore[name-defined]
    return pytest.param(mutant, id=_name(mutant), marks=() if mutant.file in FAST else pytest.mark.slow)


def _run(package: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python with a copy of the package before the installed one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_every_row_names_one_place_and_existing_tests(mutant: Mutant) -> None:
    assert (PACKAGE / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert all((TESTS / test.split("::")[0]).exists() for test in mutant.tests)


@pytest.mark.parametrize("mutant", [_case(mutant) for mutant in MUTANTS])
def test_mutant_is_killed(mutant: Mutant, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "ornstein", ignore=shutil.ignore_patterns("__pycache__"))
    broken = tmp_path / "ornstein" / mutant.file
    broken.write_text(broken.read_text().replace(mutant.old, mutant.new))
    assert _run(tmp_path, "-c", "import ornstein; print(ornstein.__file__)").stdout.startswith(str(tmp_path))
    run = _run(tmp_path, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *(str(TESTS / test) for test in mutant.tests))
    assert run.returncode == 1, f"{_name(mutant)} survived {mutant.tests}:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
