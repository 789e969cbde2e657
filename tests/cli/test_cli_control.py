# SPDX-License-Identifier: Apache-2.0
"""The options of `ornstein sample` that steer a drawing, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_calls import Call, short

JUDGE = ("network={kind: point-encoder, width: 16, depth: 1}", "objective={kind: classification}")


def test_another_run_guides_and_is_named_in_the_result(call: Call, tiny_run: Path, tmp_path: Path) -> None:
    judge = tmp_path / "judge"
    words = [word for word in short(steps=3) if not word.startswith("network.")]
    assert call("train", "points", *words, *JUDGE, "--out", judge).code == 0
    for option, by in (("--classifier", "classifier"), ("--bad", "worse model")):
        other = judge if option == "--classifier" else f"{tiny_run}:6"
        out = tmp_path / by
        outcome = call("sample", tiny_run, option, other, "--guidance", 3, "--interval", "0.1:0.9", "-n", 2, "--out", out, "--json")
        assert outcome.code == 0
        assert (outcome.json["guidance_by"], outcome.json["guidance"]) == (by, 3.0)
        assert outcome.json["sample"]["guidance_interval"] == [0.1, 0.9]
        with np.load(out / "samples.npz", allow_pickle=False) as stored:
            assert json.loads(str(stored["parameters"]))["guidance_by"] == by
    outcome = call("sample", judge, "--out", tmp_path / "none")
    assert (outcome.code, "draws nothing" in outcome.err) == (2, True)
    outcome = call("diagnose", judge)
    assert (outcome.code, "is a classifier" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--interval", "0.5"], "no pair of times"),
        (["--interval", "0.9:0.1"], "guidance_interval"),
        (["--strength", 0.5], "--init FILE"),
        (["--init", "absent.png"], "draws points"),
        (["--task", "deblur:1"], "--init FILE"),
        (["--compose", "0:1,1:1"], "dropped conditions"),
        (["--bad", "nowhere"], "nowhere"),
        (["--bad", "nowhere", "--guidance", "nan"], "no scale"),
    ],
)
def test_what_cannot_be_served_is_refused(call: Call, tiny_run: Path, tmp_path: Path, words: list[object], said: str) -> None:
    outcome = call("sample", tiny_run, *words, "--out", tmp_path / "out")
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "out").exists()
