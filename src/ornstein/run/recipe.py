# SPDX-License-Identifier: Apache-2.0
"""A recipe: everything that decides a run, as one frozen value that is checked whole before torch is imported.

`Recipe.load` reads a YAML file, a shipped recipe or a run folder, applies `dotted.key=value` words, and either gives a
recipe in which every key is known, of its type, in its range and in no contradiction to another, or raises one
`RecipeError` that lists every problem with dotted path, line and nearest valid name.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from ornstein.base.errors import DataError, Problem, RecipeError, UsageError
from ornstein.base.files import digest_of
from ornstein.base.registry import nearest
from ornstein.run import yaml_strict
from ornstein.run.inheritance import inherit
from ornstein.run.overrides import apply
from ornstein.run.recipe_parts import OneOf, Part, Section, Text, part_of, within
from ornstein.run.recipe_problems import problems_of
from ornstein.run.recipe_rules import breaches

_COUNT = "[1, 1000000000]"
_SEED = Annotated[int, within("[0, 9007199254740991]")]  # 2^53 - 1: what JSON keeps exactly
_GUIDANCE = Annotated[float, within("[0, 100]")]
_MOVES = Annotated[int, within("[1, 10000]")]
_SHARE = Annotated[float, within("[0, 1]")]
_SOLVER, _PLAN = part_of("solver", "dpm++2m"), part_of("plan", "uniform")


def _in_order(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError(f"the first time {interval[0]:g} is above the second {interval[1]:g}")
    return interval


def _known_format(number: int) -> int:
    if number != 1:
        raise ValueError(f"must be 1, the only format that this version of Ornstein reads; not {yaml_strict.shown(number)}")
    return number


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise ValueError(f"must be 1 to 64 letters, digits, '.', '_' or '-', as it names a folder; not {yaml_strict.shown(name)}")
    return name


class Train(Section):
    """How to train; the keys are those of `ornstein.train.settings.TrainSettings`, which explains them."""

    steps: Annotated[int, within(_COUNT)] = 2000
    batch_size: Annotated[int, within("[1, 1048576]")] = 64
    micro_batch: Annotated[int, within("[1, 1048576]")] | None = None
    learning_rate: Annotated[float, within("(0, 10]")] = 1e-3
    warmup: Annotated[int, within("[0, 1000000000]")] = 100
    decay: Literal["cosine", "constant"] = "cosine"
    weight_decay: Annotated[float, within("[0, 10]")] = 0.01
    beta1: Annotated[float, within("[0, 1)")] = 0.9
    beta2: Annotated[float, within("[0, 1)")] = 0.99
    clip: Annotated[float, within("(0, 1000000]")] = 1.0
    ema_decay: Annotated[float, within("[0, 1)")] = 0.999
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    seed: _SEED = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Annotated[int, within("[1, 1024]")] | None = None
    checkpoint_every: Annotated[int, within(_COUNT)] = 500
    keep: Annotated[int, within("[1, 1000]")] = 2
    evaluate_every: Annotated[int, within(_COUNT)] = 250
    log_every: Annotated[int, within(_COUNT)] = 10
    max_minutes: Annotated[float, within("(0, 1000000]")] | None = None
    max_skips: Annotated[int, within("[1, 1000000]")] = 10
    gradient_checkpointing: bool = False
    tensorboard: bool = False


class Sample(Section):
    """How `ornstein sample` draws when nothing else is said.

    Args:
        solver, plan: the rule and the levels.
        steps: moves.
        guidance: scale of classifier-free guidance; 1 is the conditional model alone.
        guidance_interval: times t between which guidance acts.
        guidance_rescale: share of the conditional answer's spread that guidance is given back.
        micro_batch: rows computed together; part of what decides a sample's bits.
        seed: of the first sample.
    """

    solver: Annotated[Part, OneOf("solver")] = _SOLVER
    plan: Annotated[Part, OneOf("plan")] = _PLAN
    steps: _MOVES = 10
    guidance: _GUIDANCE = 1.0
    guidance_interval: Annotated[tuple[_SHARE, _SHARE], Field(strict=False), AfterValidator(_in_order)] = (0.0, 1.0)
    guidance_rescale: _SHARE = 0.0
    micro_batch: Annotated[int, within("[1, 65536]")] = 64
    seed: _SEED = 0


class Evaluate(Section):
    """How `ornstein evaluate` draws.

    Args:
        draws: independent draws of as many samples as there are test data.
        solver, plan: the rule and the levels of the unguided figures; the guided ones are drawn with those of `sample`.
        steps: moves of the unguided figures.
        guided_steps: moves of the guided ones.
        guided_draws: draws of the guided ones, at most `draws`.
        guidance: scale of the guided ones.
        few_steps: numbers of moves at which a student is measured too, beside its teacher.
    """

    draws: Annotated[int, within("[1, 100]")] = 5
    solver: Annotated[Part, OneOf("solver")] = _SOLVER
    plan: Annotated[Part, OneOf("plan")] = _PLAN
    steps: _MOVES = 50
    guided_steps: _MOVES = 10
    guided_draws: Annotated[int, within("[1, 100]")] = 2
    guidance: _GUIDANCE = 1.0
    few_steps: Annotated[tuple[_MOVES, ...], Field(strict=False, max_length=8)] = ()


class Teacher(Section):
    """The model that a student learns from, and starts from where their networks are equal.

    Args:
        run: a run folder; or a recipe, which is trained first into RUN/teacher.
        guidance: scale of classifier-free guidance with which the teacher is asked.
        pairs: how many pairs of noise and data it draws by its own sampler, where the objective is made of such.
    """

    run: Text
    guidance: _GUIDANCE = 1.0
    pairs: Annotated[int, within("[10, 10000000]")] = 2048


class Recipe(Section):
    """A whole recipe; sections of parts have their parameters as attributes beside `kind`."""

    format: Annotated[int, AfterValidator(_known_format)] = 1
    name: Annotated[str, AfterValidator(_plain_name)]
    teacher: Teacher | None = None
    data: Annotated[Part, OneOf("data")]
    schedule: Annotated[Part, OneOf("schedule")]
    prediction: Annotated[Part, OneOf("prediction")]
    network: Annotated[Part, OneOf("network")]
    objective: Annotated[Part, OneOf("objective")] = part_of("objective", "matching")
    train: Train = Train()
    sample: Sample = Sample()
    evaluate: Evaluate = Evaluate()

    @staticmethod
    def load(source: Path | str, overrides: Sequence[str] = ()) -> Recipe:
        """The recipe of a file, of a run folder, or of a shipped name, with overrides.

        Args:
            source: path of a YAML file or run folder, or a name that `shipped` lists.
            overrides: words `dotted.key=value`.

        Raises RecipeError with every problem found, or UsageError where there is no such recipe.
        """
        return Recipe._load(source, overrides, ())

    @staticmethod
    def _load(source: Path | str, overrides: Sequence[str], students: tuple[str, ...]) -> Recipe:
        path = find(source)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.", "Check the file's permissions.", path) from error
        return Recipe.parse(yaml_strict.read(content, str(path)), overrides, str(path), students or (str(source),))

    @staticmethod
    def parse(
        document: yaml_strict.Document, overrides: Sequence[str] = (), source: str = "The recipe", students: tuple[str, ...] = ()
    ) -> Recipe:
        """The recipe that a document and overrides describe; raises RecipeError with every problem found, `source` named.

        What the document leaves to its teacher is taken from there; `students` are the recipes that wait for this one.
        """

        def taught(run: str, waiting: tuple[str, ...]) -> dict[str, Any]:
            return Recipe._load(run, (), waiting).model_dump(mode="json")

        given, unknown = inherit(document.data, overrides, taught, students)
        data, touched, problems = apply(Recipe, given, overrides)
        problems = [*document.problems, *unknown, *problems]
        named = {problem.path for problem in problems}

        def line_of(path: yaml_strict.Path) -> int | None:
            if any(path[: len(key)] == key for key in touched):
                return None
            # A key that is missing has no line; the section it is missing from has.
            return next((document.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in document.lines), None)

        recipe, found = _validated(data, line_of)
        if recipe is not None:
            for rule, message in breaches(recipe):
                if not any(_overlap(key, path) for key in rule.keys for path in found):
                    key = tuple(rule.keys[0].split("."))
                    found[key] = Problem(rule.keys[0], message, line_of(key))
        problems += [problem for problem in found.values() if problem.path not in named]
        if recipe is None or problems:
            raise RecipeError(sorted(problems, key=lambda problem: problem.line or 0), source)
        return recipe

    def override(self, words: Sequence[str]) -> Recipe:
        """This recipe with overrides; raises RecipeError."""
        return Recipe.parse(yaml_strict.Document(self.model_dump(mode="json")), words)

    def to_yaml(self) -> str:
        """The whole recipe with every default written out, as a file that `load` gives back unchanged."""
        return yaml_strict.write(self.model_dump(mode="json"))

    @cached_property
    def hash(self) -> str:
        """Identity of the recipe: 16 hexadecimal digits over every value, defaults included."""
        return digest_of(self.model_dump(mode="json"))


def changed(old: Recipe, new: Recipe) -> list[str]:
    """Dotted keys in which two recipes differ, keys that only one of them has included."""
    before, after = dict(_leaves(old.model_dump(mode="json"))), dict(_leaves(new.model_dump(mode="json")))
    missing = object()
    return [key for key in {**before, **after} if before.get(key, missing) != after.get(key, missing)]


def shipped() -> dict[str, Path]:
    """The recipes that come with Ornstein, by name: inside an installed package, or beside the sources of an editable one.

    A name is the path below their folder without ending; `quick/NAME` is NAME in three minutes on two cores.
    """
    packaged = Path(str(resources.files("ornstein"))) / "recipes"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[3] / "recipes"
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find(source: Path | str) -> Path:
    """The recipe file that a word on the command line means. Raises UsageError with the nearest shipped name."""
    path = Path(source)
    if (path / "recipe.yaml").is_file():
        return path / "recipe.yaml"
    if path.is_file():
        return path
    known = shipped()
    if str(source) in known:
        return known[str(source)]
    near = f"; the nearest that is shipped is '{nearest(path.stem, known)}'" if known else ""
    cure = "Give the path of a YAML file, a run folder, or a name from `ornstein recipes list`."
    raise UsageError(f"There is no recipe '{source}'{near}.", cure)


def _validated(data: dict[str, Any], line_of: Any) -> tuple[Recipe | None, dict[yaml_strict.Path, Problem]]:
    """The recipe and no problems; or the problems, with the recipe that is left when what they name is taken out, if any."""
    try:
        return Recipe.model_validate(data), {}
    except ValidationError as error:
        problems = problems_of(error, Recipe, data, line_of)
    rest = copy.deepcopy(data)
    for path in problems:
        _remove(rest, path)
    try:
        return Recipe.model_validate(rest), problems
    except ValidationError:
        return None, problems


def _remove(data: Any, path: yaml_strict.Path) -> None:
    """Take out the key at a path; for a list entry, the whole list."""
    keys = path[: next((i for i, key in enumerate(path) if isinstance(key, int)), len(path))]
    for key in keys[:-1]:
        data = data.get(key) if isinstance(data, dict) else None
    if keys and isinstance(data, dict):
        data.pop(keys[-1], None)


def _overlap(dotted: str, path: yaml_strict.Path) -> bool:
    """Whether a key and a path are the same or one lies within the other."""
    key = tuple(dotted.split("."))
    shorter = min(len(key), len(path))
    return key[:shorter] == path[:shorter]


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value
