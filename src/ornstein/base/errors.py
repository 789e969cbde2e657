# SPDX-License-Identifier: Apache-2.0
"""Typed errors: one sentence of what happened and one of what to do.

Every error a user can cause is an `OrnsteinError`. Its exit code is what the command line returns; the table in the
README lists them. Anything else that escapes is a defect of Ornstein and may show a traceback.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class OrnsteinError(Exception):
    """Base of all errors a user can cause.

    Args:
        what: one sentence that says what happened, naming the file, field or value.
        fix: one sentence that says what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what} {fix}")
        self.what = what
        self.fix = fix


class UsageError(OrnsteinError):
    """A command, argument or combination that cannot be carried out."""

    exit_code = 2


class MissingExtra(UsageError):  # noqa: N818 - every error here is one; the names say which
    """An optional dependency is not installed.

    Args:
        package: the import name that is missing.
        extra: the extra of this package that brings it.
        purpose: what it is needed for, as the end of a sentence ("to write TensorBoard logs").
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"The package '{package}' is needed {purpose} and is not installed.", f'Run: pip install "ornstein[{extra}]"')


@dataclass(frozen=True)
class Problem:
    """One fault in a recipe: where it is (dotted path, and line of the YAML file if known) and what is wrong."""

    path: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.path} (line {self.line})" if self.line is not None else self.path
        return f"{where}: {self.message}"


class RecipeError(UsageError):
    """A recipe that is refused; carries every problem found, not only the first."""

    def __init__(self, problems: list[Problem], source: str = "The recipe") -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"{source} has {count}:{lines}\n", "Correct the keys named above and run the command again.")


class SingularPrediction(UsageError):  # noqa: N818
    """A prediction that does not determine x_0 at the asked level (d = alpha b - sigma a = 0)."""


class DataError(OrnsteinError):
    """A data file or folder that cannot be used; names its path."""

    exit_code = 3

    def __init__(self, what: str, fix: str, path: Path | None = None) -> None:
        super().__init__(what, fix)
        self.path = path


class CheckpointError(OrnsteinError):
    """A checkpoint, model file or run folder that cannot be read or is not what its manifest says."""

    exit_code = 4


class StorageError(CheckpointError):
    """A file that could not be written: disk full, read-only folder, no permission."""


class NonFiniteError(OrnsteinError):
    """Training stopped because loss, gradients or data were not finite."""

    exit_code = 5


class Interrupted(OrnsteinError):  # noqa: N818
    """A signal ended the command after it had saved its state.

    Args:
        signal_number: the signal received; the exit code is 128 + its number (130 for Ctrl-C, 143 for SIGTERM).
    """

    def __init__(self, what: str, fix: str, signal_number: int) -> None:
        super().__init__(what, fix)
        self.exit_code = 128 + signal_number
