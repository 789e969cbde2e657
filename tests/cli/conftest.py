# SPDX-License-Identifier: Apache-2.0
"""Calling commands inside the test process, and one tiny run that several tests read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_calls import Call, Outcome, short

from ornstein.cli.main import main


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        printed = capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Outcome(left.value.code, printed.out, printed.err)

    return run


@pytest.fixture(autouse=True)
def _restored_torch() -> Iterator[None]:
    """Commands set torch's threads and matrix products for the process; tests share one."""
    import torch

    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of twelve steps on points; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    with pytest.raises(SystemExit) as left:
        main(["train", "points", "--out", str(folder), *short()])
    assert left.value.code == 0
    return folder
