# SPDX-License-Identifier: Apache-2.0
"""YAML without its traps: what a recipe file says is what is meant, or it is refused with its line.

PyYAML reads YAML 1.1, in which `1e-4` is text, `no` is false, `1:30` is 90 and a key given twice silently keeps its last
value. Here scalars follow the core schema of YAML 1.2.2 (section 10.3.2): only true and false are booleans, and every
decimal number with or without an exponent is a number. Tags, dates and merge keys do not exist. Keys are text and unique.
The size of a file, the depth of its nesting and the number of its values (after aliases are followed) are bounded, so
that no file can occupy memory or time. The only exception that leaves this module is `RecipeError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from ornstein.base.errors import Problem, RecipeError

MAX_BYTES = 32 * 1024
MAX_DEPTH = 16
MAX_VALUES = 400
MAX_DIGITS = 64  # of one number; Python's own limit on whole numbers would raise at 4300

Path = tuple[str | int, ...]

_UNTAGGED = ""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TAGS = {"null": _NULL, "bool": _BOOL, "int": _INT, "float": _FLOAT}


@dataclass(frozen=True)
class Document:
    """A file's contents and where they stand.

    Args:
        data: the mapping at the top.
        lines: line number, from 1, of every key and list entry by its path.
        problems: duplicate keys, tags, keys that are no text and over-long numbers; what they stand at is left out or None.
    """

    data: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def scalar(text: str) -> Any:
    """The value that plain (unquoted) text means: None, bool, int, float or the text itself. Raises ValueError for endless numbers."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if len(text) > MAX_DIGITS and (_INT.fullmatch(text) or _FLOAT.fullmatch(text)):
        raise ValueError(f"a number of {len(text)} characters")
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def read(content: bytes, source: str = "The recipe") -> Document:
    """Read a YAML file that holds one mapping.

    Args:
        content: the bytes of the file, UTF-8.
        source: how errors name the file, as the start of a sentence.

    Raises RecipeError where it is no such file: too large or too deep, not UTF-8, not YAML, or not one mapping.
    """
    reader = _Reader(source)
    data = reader.value(reader.compose(content), (), 0)
    if not isinstance(data, dict):
        raise reader.refusal("is empty" if data is None else f"must be a mapping of keys to values, not {shown(data)}", 1)
    return Document(data, reader.lines, reader.problems)


def value_of(text: str, key: str) -> Any:
    """The value of an override: a flow list, mapping or quoted text where it starts like one, else a plain scalar taken literally.

    Raises RecipeError, with problems at `key`, where the value is not readable.
    """
    reader = _Reader("The command line")
    try:
        if text[:1] in ("[", "{", '"', "'"):
            value = reader.value(reader.compose(text.encode(errors="surrogatepass")), (), 0)
        else:
            value = scalar(text)
        found = [problem.message for problem in reader.problems]
    except RecipeError as error:
        found = [problem.message for problem in error.problems]
    except ValueError as error:
        found = [f"{error} is not a value"]
    if found:
        raise RecipeError([Problem(key, message) for message in found], reader.source)
    return value


def write(data: dict[str, Any]) -> str:
    """YAML text that `read` gives back as the same data: keys in their order, lists and plain parts on one line."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Loader(yaml.SafeLoader):
    """Builds nodes without guessing types; only a tag that was written out is kept."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        return _UNTAGGED

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep", problem_mark=self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Reader:
    """Turns the nodes of one file into values, with their lines, and collects what is wrong with them."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.lines: dict[Path, int] = {}
        self.count = 0

    def refusal(self, message: str, line: int | None = None) -> RecipeError:
        return RecipeError([Problem("(file)", message, line)], self.source)

    def compose(self, content: bytes) -> yaml.Node | None:
        """The node tree of the only document in the file."""
        if len(content) > MAX_BYTES:
            raise self.refusal(f"is {len(content)} bytes long; {MAX_BYTES} are the most that is read")
        try:
            # Decoded here: PyYAML would guess UTF-16 from the first bytes.
            loader = _Loader(content.decode("utf-8-sig"))
            node: yaml.Node | None = loader.get_single_node()
        except UnicodeDecodeError as error:
            raise self.refusal("is not UTF-8 text", content[: error.start].count(b"\n") + 1) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            message = ", ".join(part for part in (error.context, error.problem) if part)
            raise self.refusal(f"is not YAML: {message}", None if mark is None else mark.line + 1) from error
        except yaml.YAMLError as error:
            raise self.refusal(f"is not YAML: {str(error).splitlines()[0]}") from error
        except (ValueError, OverflowError) as error:  # PyYAML's own slips, such as "\UFFFFFFFF" in quotes
            raise self.refusal(f"is not YAML: {error}") from error
        return node

    def value(self, node: yaml.Node | None, path: Path, depth: int) -> Any:
        """The value of a node; problems inside it are noted and stand as None."""
        if node is None:
            return None
        line = node.start_mark.line + 1
        if depth >= MAX_DEPTH:  # an alias that holds itself; the composer has seen to the rest
            raise self.refusal(f"is nested more than {MAX_DEPTH} deep", line)
        self._count(line)
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            self._refuse_tag(node, path)
            return {key: self.value(child, (*path, key), depth + 1) for key, child in self._pairs(node, path)}
        if isinstance(node, yaml.SequenceNode):
            self._refuse_tag(node, path)
            return [self.value(child, (*path, i), depth + 1) for i, child in enumerate(node.value)]
        return self._scalar(node, path, line)

    def _pairs(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, yaml.Node]]:
        """Keys and nodes of a mapping, without keys that are no text or were given before."""
        first: dict[str, int] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            self._count(line)
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None or (key_node.style is None and not isinstance(self._scalar(key_node, path, line), str)):
                self._problem(path, f"has a key that is not text: {shown(key)}", line)
            elif key in first:
                self._problem((*path, key), f"is given twice; the first is on line {first[key]}", line)
            else:
                first[key] = line
                self.lines[(*path, key)] = line
                yield key, child

    def _scalar(self, node: Any, path: Path, line: int) -> Any:
        self._refuse_tag(node, path)
        if node.style is not None:  # quoted, or a block
            return node.value
        try:
            return scalar(node.value)
        except ValueError as error:
            self._problem(path, f"{error} is not a value", line)
            return None

    def _refuse_tag(self, node: yaml.Node, path: Path) -> None:
        if node.tag != _UNTAGGED:
            self._problem(path, f"carries the tag {shown(node.tag)}; tags are not used in recipes", node.start_mark.line + 1)

    def _count(self, line: int) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            raise self.refusal(f"holds more than {MAX_VALUES} keys and values", line)

    def _problem(self, path: Path, message: str, line: int) -> None:
        self.problems.append(Problem(dotted(path) or "(top)", message, line))


class _Dumper(yaml.SafeDumper):
    """Writes so that text which YAML 1.2 would read as something else is quoted; no anchors."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {  # noqa: RUF012 - PyYAML's class attribute
        None: [(f"tag:yaml.org,2002:{name}", re.compile(f"(?:{pattern.pattern})$")) for name, pattern in _TAGS.items()]
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        return super().represent_sequence(tag, sequence, True)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        simple = "kind" in mapping and not any(isinstance(value, dict) for value in mapping.values())
        return super().represent_mapping(tag, mapping, simple)


def dotted(path: Path) -> str:
    """A path as text: `network.channels.1`; keys that are no ordinary words are cut and escaped."""
    return ".".join(str(part) if str(part).isprintable() and len(str(part)) <= 60 else shown(part) for part in path)


def shown(value: object) -> str:
    """A value as an error shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
