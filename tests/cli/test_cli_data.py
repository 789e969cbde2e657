# SPDX-License-Identifier: Apache-2.0
"""`ornstein data`: fetching from a local server, and checking folders."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cli_calls import Call
from PIL import Image

from ornstein.data import fetch
from ornstein.data.fetch import Collection, RemoteFile


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with one file, which the catalogue knows as the data set mnist."""
    served = tmp_path / "served"
    served.mkdir()
    content = bytes(range(256)) * 8
    (served / "part.gz").write_bytes(content)
    file = RemoteFile("part.gz", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(fetch.CATALOGUE, "mnist", Collection("http://127.0.0.1:1/", (file,)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_fetch_from_a_mirror(call: Call, tmp_path: Path, mirror: str) -> None:
    outcome = call("data", "fetch", "mnist", "--out", tmp_path / "out", "--mirror", mirror, "--json")
    assert outcome.code == 0
    assert outcome.json["files"] == [str(tmp_path / "out" / "part.gz")]
    assert "part.gz" in outcome.err
    again = call("data", "fetch", "mnist", "--out", tmp_path / "out", "--mirror", "http://127.0.0.1:1")
    assert again.code == 0
    assert "ornstein train mnist" in again.out


def test_fetch_failures(call: Call, tmp_path: Path, mirror: str) -> None:
    outcome = call("data", "fetch", "mnist", "--out", tmp_path / "out", "--mirror", f"{mirror}/nowhere")
    assert (outcome.code, outcome.out) == (3, "")
    assert "404" in outcome.err
    assert not (tmp_path / "out").exists()
    assert call("data", "fetch", "mnits", "--out", tmp_path / "out").code == 2
    assert call("data", "fetch", "mnist", "--out", tmp_path / "out", "--mirror", "ftp://x").code == 2
    assert call("data", "fetch", "mnist").code == 2


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name, shade in (("cat/a.png", 10), ("cat/b.png", 10), ("dog/c.png", 200)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (shade, 0, 0)).save(folder / name)
    return folder


def test_check_reports_sizes_classes_and_duplicates(call: Call, images: Path) -> None:
    outcome = call("data", "check", images)
    assert outcome.code == 0
    for words in ("3 usable images", "12x8 3", "cat 2, dog 1", "1 images repeat another", "data.kind=folder"):
        assert words in outcome.out
    found = call("data", "check", images, "--json").json
    assert (found["images"], found["classes"]) == (3, {"cat": 2, "dog": 1})


def test_check_names_bad_files_and_leaves_with_3(call: Call, images: Path) -> None:
    (images / "cat" / "broken.png").write_bytes(b"")
    outcome = call("data", "check", images)
    assert outcome.code == 3
    assert "cat/broken.png" in outcome.out
    assert call("data", "check", images, "--json").json["bad_files"][0]["path"] == "cat/broken.png"


def test_check_of_nothing(call: Call, tmp_path: Path) -> None:
    assert call("data", "check", tmp_path / "none").code == 3
