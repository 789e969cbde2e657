# SPDX-License-Identifier: Apache-2.0
"""Every error a user can cause has two sentences and a documented exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ornstein.base import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.OrnsteinError("It broke.", "Mend it."), 1),
        (errors.UsageError("It broke.", "Mend it."), 2),
        (errors.SingularPrediction("It broke.", "Mend it."), 2),
        (errors.MissingExtra("tensorboard", "tensorboard", "to write logs"), 2),
        (errors.RecipeError([errors.Problem("train.steps", "must be > 0", 3)]), 2),
        (errors.DataError("It broke.", "Mend it.", Path("x.png")), 3),
        (errors.CheckpointError("It broke.", "Mend it."), 4),
        (errors.StorageError("It broke.", "Mend it."), 4),
        (errors.NonFiniteError("It broke.", "Mend it."), 5),
        (errors.Interrupted("It stopped.", "Resume it.", 2), 130),
        (errors.Interrupted("It stopped.", "Resume it.", 15), 143),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_code_and_sentences(error: errors.OrnsteinError, code: int) -> None:
    assert error.exit_code == code
    assert str(error) == f"{error.what} {error.fix}"
    assert error.fix


def test_a_missing_extra_gives_the_line_to_run() -> None:
    assert 'pip install "ornstein[tensorboard]"' in str(errors.MissingExtra("tb", "tensorboard", "to write logs"))


def test_a_recipe_error_carries_every_problem() -> None:
    problems = [errors.Problem("train.steps", "must be > 0", 3), errors.Problem("model", "is missing")]
    error = errors.RecipeError(problems, "digits.yaml")
    assert error.problems == problems
    assert "digits.yaml has 2 problems:" in str(error)
    assert "\n  train.steps (line 3): must be > 0\n  model: is missing\n" in str(error)
    assert "1 problem:" in str(errors.RecipeError(problems[:1]))
