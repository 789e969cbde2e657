# SPDX-License-Identifier: Apache-2.0
"""How a registry entry becomes a section of a recipe: one strict, frozen model per entry, chosen by its `kind`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, create_model
from pydantic_core import core_schema

from ornstein.base.parts import REQUIRED, Param
from ornstein.base.registry import entry, names

_DEEPEST = 3  # a schedule in a schedule in a schedule: deeper than anybody needs, and the sections stay finitely many
_TAG = "\0"  # marks a union's choice inside pydantic's error locations; no key can hold it


class Section(BaseModel):
    """A mapping in a recipe: every key known, every value of exactly its type, nothing changed afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)


class Part(Section):
    """A section that names a part. Its parameters are attributes beside `kind`."""

    kind: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def within(interval: str, multiple_of: int = 1) -> Any:
    """The pydantic field of numbers in an interval written like "(0, 1]", and multiples of a whole number if it is above 1."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    bounds: dict[str, Any] = {"gt" if interval[0] == "(" else "ge": low, "lt" if interval[-1] == ")" else "le": high}
    if multiple_of > 1:
        bounds["multiple_of"] = multiple_of
    return Field(allow_inf_nan=False, **bounds)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not hold control characters")
    return text


Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_printable)]
"""Text on one line that can be written to a file."""


def _one_of(choices: tuple[str | int, ...]) -> Callable[[int], int]:
    def check(value: int) -> int:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(map(str, choices))}, not {value}")
        return value

    return check


def _annotation(param: Param) -> Any:
    if param.type is tuple:
        shortest, longest = param.length
        numbers: Any = tuple[Annotated[int, within(param.within)], ...]
        # A YAML list arrives as a Python list, which strict mode would refuse for a tuple.
        return Annotated[numbers, Field(strict=False, min_length=shortest, max_length=longest)]
    if param.choices:
        # A literal of numbers would also take True for 1.
        return Literal[param.choices] if param.type is str else Annotated[param.type, AfterValidator(_one_of(param.choices))]
    one: Any = Text if param.type is str else Annotated[param.type, within(param.within, param.multiple_of)] if param.within else param.type
    return one | None if param.optional else one


@cache
def model_of(kind: str, name: str, depth: int = 0) -> type[Part]:
    """The section that names one part, `depth` parts of the same kind around it. Raises UsageError where there is no such part."""
    part = entry(kind, name)
    fields: dict[str, Any] = {"kind": (Literal[name], name)}
    for key, param in part.params.items():
        fields[key] = (_annotation(param), Field(... if param.default is REQUIRED else param.default, description=param.help))
    for key, (inner, default) in part.parts.items():
        below = depth + (inner == kind)
        fields[key] = (Annotated[Part, OneOf(inner, below)], part_of(inner, default, below))
    return create_model(f"{kind} {name}", __base__=Part, **fields)


def part_of(kind: str, name: str, depth: int = 0) -> Part:
    """The section of a part whose parameters all have defaults, with these."""
    return model_of(kind, name, depth).model_validate({})


def choices_of(kind: str, depth: int) -> list[str]:
    """Names that may stand `depth` parts of their own kind deep; from `_DEEPEST` on, only those that hold none themselves."""
    return [name for name in names(kind) if depth < _DEEPEST or all(inner != kind for inner, _ in entry(kind, name).parts.values())]


def _tag_of(value: Any) -> str | None:
    if isinstance(value, Part):
        return _TAG + value.kind
    return f"{_TAG}{value['kind']}" if isinstance(value, dict) and "kind" in value else None


@dataclass(frozen=True)
class OneOf:
    """Marks a field that holds any part of a kind, `depth` parts of that kind around it: `Annotated[Part, OneOf("solver")]`."""

    kind: str
    depth: int = 0

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """A union of the kind's sections, told apart by `kind`."""
        choices = {
            _TAG + name: handler.generate_schema(model_of(self.kind, name, self.depth)) for name in choices_of(self.kind, self.depth)
        }
        return core_schema.tagged_union_schema(choices, discriminator=_tag_of)


def without_tags(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """A pydantic error location as the path a user would write."""
    return tuple(step for step in location if not (isinstance(step, str) and step.startswith(_TAG)))


def mark_at(model: type[BaseModel], key: str) -> OneOf | None:
    """What part a field of a section holds, or None where it holds none."""
    field = model.model_fields.get(key)
    return None if field is None else next((mark for mark in field.metadata if isinstance(mark, OneOf)), None)


def kind_at(model: type[BaseModel], key: str) -> str | None:
    """The kind of part that a field of a section holds, or None where it holds no part."""
    mark = mark_at(model, key)
    return None if mark is None else mark.kind


def section_at(model: type[BaseModel], data: Any, path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The section that stands at a path of some data; None where there is none or its kind is unknown."""
    for key in path:
        data = data.get(key) if isinstance(data, dict) else None
        found = _inner(model, str(key), data.get("kind") if isinstance(data, dict) else None)
        if found is None:
            return None
        model = found
    return model


def _inner(model: type[BaseModel], key: str, name: Any) -> type[BaseModel] | None:
    """The section in a field, where a part is the one named, or the default one when no name is given."""
    mark = mark_at(model, key)
    field = model.model_fields.get(key)
    if mark is not None and field is not None:
        chosen = name if name is not None else getattr(field.default, "kind", None)
        return model_of(mark.kind, chosen, mark.depth) if chosen in choices_of(mark.kind, mark.depth) else None
    inner = None if field is None else field.annotation
    choices = (inner, *get_args(inner))  # a section that may be null is a union
    return next((choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel)), None)


def keys_below(model: type[BaseModel], data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path that may be written under a section, with the kinds that some data chooses."""
    for key in model.model_fields:
        yield (*path, key)
        value = data.get(key) if isinstance(data, dict) else None
        inner = _inner(model, key, value.get("kind") if isinstance(value, dict) else None)
        if inner is not None:
            yield from keys_below(inner, value, (*path, key))
