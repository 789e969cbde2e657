# SPDX-License-Identifier: Apache-2.0
"""A run: the folder that every command takes and returns. Torch-free; knows only names and small JSON files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ornstein.base.errors import UsageError
from ornstein.base.files import read_json, write_json, write_text
from ornstein.run.recipe import Recipe


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder, and its recipe and facts.

    Args:
        path: the folder.
    """

    path: Path

    @staticmethod
    def open(path: Path) -> RunFolder:
        """An existing run. Raises UsageError where the folder holds no recipe."""
        if not (path / "recipe.yaml").is_file():
            what = "has no recipe.yaml" if path.is_dir() else "does not exist"
            raise UsageError(f"{path} is not a run: it {what}.", "Give the folder that `ornstein train` made, for example runs/digits.")
        return RunFolder(path)

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def facts_file(self) -> Path:
        """run.json: what the run was made with."""
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def extractor(self) -> Path:
        """Folder of the feature extractor used by `evaluate`."""
        return self.path / "extractors" / "default"

    @property
    def samples(self) -> Path:
        """Folder of sample sets, one sub-folder each."""
        return self.path / "samples"

    @property
    def evaluation_file(self) -> Path:
        """Results of `evaluate`."""
        return self.path / "evaluation.json"

    @property
    def diagnostics_file(self) -> Path:
        """Results of `diagnose`."""
        return self.path / "diagnostics.json"

    @property
    def has_checkpoints(self) -> bool:
        """Whether training has saved anything."""
        return self.checkpoints.is_dir() and any(self.checkpoints.glob("step-*"))

    def recipe(self) -> Recipe:
        """The recipe of the run. Raises RecipeError where the file was damaged."""
        return Recipe.load(self.recipe_file)

    def facts(self) -> dict[str, Any]:
        """Contents of run.json; raises CheckpointError where it is damaged."""
        return read_json(self.facts_file)

    def write_recipe(self, recipe: Recipe) -> None:
        """Store the resolved recipe."""
        write_text(self.recipe_file, recipe.to_yaml())

    def add_facts(self, facts: dict[str, Any]) -> None:
        """Add to run.json, or replace what it says under the same names."""
        before = self.facts() if self.facts_file.exists() else {}
        write_json(self.facts_file, before | facts)
