# SPDX-License-Identifier: Apache-2.0
"""`ornstein data`: fetch a public data set when asked to, and look at data before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ornstein.base.errors import DataError
from ornstein.cli.output import Json, emit, quiet_stdout

app = typer.Typer(help="Fetch data sets, and check data before training on it.", no_args_is_help=True)

_SHOWN = 10  # entries of a list that a reader is shown; --json has all


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="mnist, fashion-mnist or cifar10.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to put the files.")],
    mirror: Annotated[
        str | None, typer.Option("--mirror", metavar="URL", help="Folder with the same files, instead of the usual one.")
    ] = None,
    json: Json = False,
) -> None:
    """Download a data set and check every file against its SHA-256. The only command that uses the network."""
    from ornstein.cli.progress import display

    with quiet_stdout():
        from ornstein.data.fetch import fetch as download

        shown = display()
        try:
            files = download(name, out, mirror, lambda file, done, total: shown.update(file, done, total, "bytes"))
        finally:
            shown.close()
    kind = "cifar10" if name == "cifar10" else "idx"
    lines = [f"{len(files)} files in {out}", f"Next: ornstein train {'cifar10' if kind == 'cifar10' else 'mnist'} data.path={out}"]
    emit({"name": name, "out": str(out), "files": [str(file) for file in files]}, json, *lines)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An image folder, or a folder of IDX or CIFAR-10 files.")],
    json: Json = False,
) -> None:
    """Report what is in a data set: sizes, classes, duplicates, and files that cannot be used (exit code 3)."""
    with quiet_stdout():
        from ornstein.data.check import check as look

        report = look(path)
    emit(report, json, *_lines(report))
    if report["bad_files"]:
        raise typer.Exit(DataError.exit_code)


def _lines(report: dict[str, Any]) -> list[str]:
    """A report for a reader."""
    duplicates, bad = report["duplicates"], [f"  {file['path']}: {file['reason']}" for file in report["bad_files"]]
    lines = [f"{report['path']}: {report['images']} usable images ({report['kind']})"]
    lines += [
        f"{title}: {_counts(report[key])}" for key, title in (("sizes", "Sizes"), ("modes", "Modes"), ("classes", "Classes")) if report[key]
    ]
    if duplicates["groups"]:
        lines.append(f"Duplicates: {duplicates['extra']} images repeat another, for example {' = '.join(duplicates['examples'][0])}")
    if report["ignored"]:
        lines.append(f"Not taken for data: {len(report['ignored'])} files, for example {report['ignored'][0]}")
    if bad:
        lines += [f"Cannot be used: {len(bad)} files", *bad[:_SHOWN], *(["  ..."] if len(bad) > _SHOWN else [])]
    return lines if report["suggestion"] is None else [*lines, f"Train on it with: {report['suggestion']}"]


def _counts(counts: dict[str, int]) -> str:
    parts = [f"{name} {count}" for name, count in counts.items()]
    return ", ".join(parts[:_SHOWN]) + (", ..." if len(parts) > _SHOWN else "")
