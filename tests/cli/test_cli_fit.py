# SPDX-License-Identifier: Apache-2.0
"""`ornstein fit-solver` from the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

from cli_calls import Call


def test_fit_and_use(call: Call, tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    told = call("fit-solver", run, "--evaluations", 3, "--seconds", 4, "--json")
    assert told.code == 0
    assert told.json["error"]["fitted"] < told.json["error"]["unfitted"]
    assert Path(told.json["stored"]) == run / "solvers" / "evaluations-3.json"
    used = call("sample", run, "--evaluations", 3, "-n", 2, "--out", tmp_path / "out")
    assert used.code == 0
    assert "fitted for 3 evaluations" in used.err
    words = call("fit-solver", run, "--evaluations", 2, "--seconds", 2)
    assert "fitted, 2 evaluations" in words.out


def test_what_cannot_be_fitted_is_a_sentence(call: Call, tiny_run: Path, tmp_path: Path) -> None:
    for words in (["fit-solver", tiny_run, "--evaluations", 99], ["fit-solver", tmp_path], ["fit-solver", tiny_run, "--seconds", "0"]):
        outcome = call(*words)
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err
