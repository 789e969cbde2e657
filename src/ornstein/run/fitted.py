# SPDX-License-Identifier: Apache-2.0
"""Fitted solvers as a run keeps them: `RUN/solvers/evaluations-N.json`, good for one checkpoint and one guidance."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

from ornstein.base.errors import CheckpointError, UsageError
from ornstein.base.files import read_json
from ornstein.run.folder import RunFolder
from ornstein.run.recipe import Recipe
from ornstein.run.trained import Trained
from ornstein.sample.draw import Sampler
from ornstein.sample.rules import Rule
from ornstein.sample.tabled import Shares

FORMAT = 1


class Stored(NamedTuple):
    """A fitted solver as a run keeps it.

    Args:
        rule: levels and rows.
        guidance: every guidance setting it was fitted for.
        model_hash: hash of the weights it was fitted to.
        document: the whole file.
    """

    rule: Rule
    guidance: dict[str, Any]
    model_hash: str
    document: dict[str, Any]


def file_of(run: RunFolder, evaluations: int) -> Path:
    """Where a run keeps its solver of so many evaluations."""
    return run.path / "solvers" / f"evaluations-{evaluations}.json"


def guidance_of(recipe: Recipe) -> dict[str, Any]:
    """Every guidance setting of a recipe's `sample` section."""
    return {key: value for key, value in recipe.sample.model_dump(mode="json").items() if key.startswith("guidance")}


def stored(run: RunFolder, evaluations: int) -> Stored | None:
    """The run's fitted solver of so many evaluations, or None. Raises CheckpointError where the file is damaged."""
    path = file_of(run, evaluations)
    if not path.exists():
        return None
    document = read_json(path)
    try:
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']} instead of {FORMAT}")
        ratios = tuple(float(ratio) for ratio in document["ratios"])
        rows = [Shares(float(row["pull"]), tuple(float(share) for share in row["estimates"])) for row in document["rows"]]
        rule = Rule(ratios, tuple(rows))
        falls = all(before > after > 0.0 for before, after in zip((math.inf, *ratios), ratios, strict=False))
        if not falls or len(rule.shares) != evaluations or len(ratios) != evaluations - 1:
            raise ValueError("levels and rows that do not fit together")
        rule.solver  # noqa: B018 - refuses rows that are no rule
        return Stored(rule, dict(document["guidance"]), str(document["model_hash"]), document)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        what = f"{path} holds no fitted solver ({type(error).__name__}: {error})."
        raise CheckpointError(what, f"Fit it again: ornstein fit-solver {run.path} --evaluations {evaluations}") from error


def with_fitted(run: RunFolder, model: Trained, recipe: Recipe, evaluations: int, made: Sampler) -> tuple[Sampler, dict[str, Any], str]:
    """A sampler with the run's fitted solver of so many evaluations put in, what pictures then say, and a sentence on it.

    Where there is none the sampler comes back with no words and no sentence; where there is one for another checkpoint or guidance,
    with the reason. Raises CheckpointError where the file is damaged.
    """
    found = stored(run, evaluations)
    if found is None:
        return made, {}, ""
    if found.model_hash != model.hash:
        reason = f"was fitted to the weights {found.model_hash}, and these are {model.hash}"
        return made, {}, f"The fitted solver is not used: it {reason}."
    if found.guidance != guidance_of(recipe):
        reason = f"was fitted for {_words(found.guidance)}, and {_words(guidance_of(recipe))} was asked for"
        return made, {}, f"The fitted solver is not used: it {reason}."
    sentence = f"Using the solver fitted for {evaluations} evaluations of this checkpoint and guidance; --solver overrides it."
    return with_rule(made, found.rule), words_of(recipe, found.rule), sentence


def with_rule(made: Sampler, rule: Rule) -> Sampler:
    """The sampler with a fitted solver in the place of its own."""
    return made._replace(solver=rule.solver, plan=rule.plan(made.model.process.schedule))


def words_of(recipe: Recipe, rule: Rule) -> dict[str, Any]:
    """What pictures drawn with a fitted solver say instead of the recipe's solver and plan."""
    steps = len(rule.shares)
    rows = [{"pull": row.pull, "estimates": list(row.estimates)} for row in rule.shares]
    fitted = {"steps": steps, "solver": {"kind": "fitted", "rows": rows}, "plan": {"kind": "fitted", "ratios": list(rule.ratios)}}
    return {"steps": steps, "solver": "fitted", "plan": "fitted", "sample": recipe.sample.model_dump(mode="json") | fitted}


def _words(guidance: dict[str, Any]) -> str:
    """Guidance settings in a few words."""
    scale = guidance.get("guidance", 1.0)
    rest = [f"{key.removeprefix('guidance_')} {value}" for key, value in guidance.items() if key != "guidance"]
    return f"guidance {scale:g}" + (f" ({', '.join(rest)})" if rest else "")
