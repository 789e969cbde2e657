# SPDX-License-Identifier: Apache-2.0
"""`ornstein recipes`: the recipes that come with Ornstein."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ornstein.base.errors import UsageError
from ornstein.cli.output import Json, emit

app = typer.Typer(help="The recipes that come with Ornstein.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """List the shipped recipes, each with what it is."""
    from ornstein.run.recipe import shipped

    found = {name: _title(path) for name, path in shipped().items()}
    width = max(map(len, found), default=0)
    emit({"recipes": found}, json, *(f"{name:<{width}}  {title}" for name, title in found.items()))


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Print a shipped recipe."""
    text = _file(name).read_text(encoding="utf-8")
    emit({"name": name, "text": text}, json, text.rstrip("\n"))


@app.command()
def copy(
    name: Name,
    to: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; by default NAME.yaml here.")] = None,
    json: Json = False,
) -> None:
    """Copy a shipped recipe to a file of your own."""
    from ornstein.base.files import write_bytes

    source, target = _file(name), to or Path(f"{Path(name).name}.yaml")
    if target.exists():
        raise UsageError(f"{target} exists already.", "Give another file name after the recipe's.")
    write_bytes(target, source.read_bytes())
    emit({"file": str(target)}, json, f"Wrote {target}. Train it: ornstein train {target}")


def _file(name: str) -> Path:
    from ornstein.base.registry import nearest
    from ornstein.run.recipe import shipped

    known = shipped()
    if name not in known:
        near = f"; the nearest is '{nearest(name, known)}'" if known else ""
        raise UsageError(f"No recipe '{name}' is shipped{near}.", "List them: ornstein recipes list")
    return known[name]


def _title(path: Path) -> str:
    """The first line of a recipe's heading comment."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
