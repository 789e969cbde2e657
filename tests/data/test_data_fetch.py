# SPDX-License-Identifier: Apache-2.0
"""Downloads, from a server on this machine with files made here."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ornstein.base.errors import DataError, UsageError
from ornstein.data import cifar, fetch, idx
from ornstein.data.fetch import CATALOGUE, Collection, RemoteFile

FILES = {"one.gz": b"first" * 50_000, "two.gz": b"second"}


class Server:
    """What the server sends by path, and the paths it was asked for."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.contents: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut: set[str] = set()


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            data = state.contents.get(self.path)
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if self.path in state.cut else data)

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            """A client that hangs up is part of these tests."""

    http = Quiet(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def remote(name: str, data: bytes) -> RemoteFile:
    return RemoteFile(name, len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def catalogue(server: Server) -> dict[str, Collection]:
    server.contents |= {f"/set/{name}": data for name, data in FILES.items()}
    files = tuple(remote(name, data) for name, data in FILES.items())
    return {"set": Collection(f"{server.address}/set", files, beside={"classes.txt": "a\nb\n"})}


def test_files_arrive_whole_and_progress_is_told(server, catalogue, tmp_path):
    told = []
    paths = fetch.fetch("set", tmp_path / "new", None, lambda *piece: told.append(piece), catalogue)
    assert [path.name for path in paths] == ["one.gz", "two.gz", "classes.txt"]
    assert {name: (tmp_path / "new" / name).read_bytes() for name in FILES} == FILES
    assert idx.read_names(tmp_path / "new" / "classes.txt") == ("a", "b")
    assert ("one.gz", 250_000, 250_000) in told
    assert [received for name, received, _ in told if name == "one.gz"] == sorted(
        {received for name, received, _ in told if name == "one.gz"}
    )


def test_what_is_there_is_not_asked_for_again(server, catalogue, tmp_path):
    fetch.fetch("set", tmp_path, catalogue=catalogue)
    (tmp_path / "two.gz").write_bytes(b"secnod")
    server.asked.clear()
    fetch.fetch("set", tmp_path, catalogue=catalogue)
    assert server.asked == ["/set/two.gz"]
    assert (tmp_path / "two.gz").read_bytes() == b"second"


def test_a_mirror_replaces_the_address(server, catalogue, tmp_path):
    server.contents = {path.replace("/set", "/mirror/deep"): data for path, data in server.contents.items()}
    fetch.fetch("set", tmp_path, f"{server.address}/mirror/deep/", catalogue=catalogue)
    assert (tmp_path / "one.gz").exists()


@pytest.mark.parametrize("fault", ["missing", "changed", "longer", "shorter", "cut"])
def test_a_fault_in_any_file_leaves_nothing_behind(server, catalogue, tmp_path, fault):
    path = "/set/two.gz"
    data = server.contents.pop(path)
    if fault == "cut":
        server.cut.add(path)
    if fault != "missing":
        server.contents[path] = {"changed": b"Second", "longer": data + b"x", "shorter": data[:-1], "cut": data}[fault]
    with pytest.raises(DataError, match=r"two\.gz") as caught:
        fetch.fetch("set", tmp_path / "new", catalogue=catalogue)
    assert "--mirror" in caught.value.fix
    assert ("answered 404" in caught.value.what) == (fault == "missing")
    assert not (tmp_path / "new").exists()


def test_an_endless_answer_is_cut_off(server, catalogue, tmp_path):
    server.contents["/set/two.gz"] = bytes(30 << 20)
    told = []
    with pytest.raises(DataError, match="more than 6 bytes came"):
        fetch.fetch("set", tmp_path, None, lambda *piece: told.append(piece), catalogue)
    assert max(received for name, received, _ in told if name == "two.gz") <= 1 << 17


def test_no_network_is_one_clear_error(catalogue, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match="could not be read"):
        fetch.fetch("set", tmp_path / "new", f"http://127.0.0.1:{port}", catalogue=catalogue)
    assert not (tmp_path / "new").exists()


def test_a_silent_server_is_given_up(catalogue, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(DataError, match="could not be read"):
            fetch.fetch("set", tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", catalogue=catalogue)


def test_unknown_names_and_other_addresses_are_refused(tmp_path):
    with pytest.raises(UsageError, match="nearest is 'fashion-mnist'"):
        fetch.fetch("fashion_mnist", tmp_path)
    for mirror in ("file:///etc", "ftp://host", "host/path"):
        with pytest.raises(UsageError, match="no http or https"):
            fetch.fetch("mnist", tmp_path, mirror)


def archive(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return buffer.getvalue()


def offered(server: Server, data: bytes) -> dict[str, Collection]:
    server.contents["/set.tar.gz"] = data
    return {"set": Collection(server.address, (remote("set.tar.gz", data),), members={"a.bin": 10, "b.txt": 100})}


def test_an_archive_gives_its_known_members_and_no_others(server, tmp_path):
    data = archive({"folder/a.bin": b"0123456789", "../../evil.txt": b"x", "folder/b.txt": b"text", "/etc/other": b"x"})
    out = tmp_path / "deep" / "er" / "out"
    paths = fetch.fetch("set", out, catalogue=offered(server, data))
    assert sorted(path.name for path in paths) == ["a.bin", "b.txt"]
    assert (out / "a.bin").read_bytes() == b"0123456789"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.bin", "b.txt"]


@pytest.mark.parametrize(
    "data",
    [
        archive({"a.bin": b"0123456789"}),
        archive({"a.bin": b"0123456789x", "b.txt": b"text"}),
        archive({"a.bin": b"0123456789"}, {"b.txt": "/etc/passwd"}),
        archive({"a.bin": b"0123456789", "b.txt": b"text"})[:40],
        b"no archive",
    ],
    ids=["member missing", "member too long", "link", "cut", "no archive"],
)
def test_a_faulty_archive_leaves_nothing_behind(server, tmp_path, data):
    with pytest.raises(DataError, match=r"set\.tar\.gz"):
        fetch.fetch("set", tmp_path / "new", catalogue=offered(server, data))
    assert not (tmp_path / "new").exists()


def test_the_catalogue_names_what_the_readers_read(tmp_path: Path):
    for name in ("mnist", "fashion-mnist"):
        for file in CATALOGUE[name].files:
            (tmp_path / file.name).write_bytes(b"x")
        assert all(idx.find(tmp_path, part, what) for part in idx.PARTS for what in ("images", "labels"))
    assert set(CATALOGUE["cifar10"].members) == {*cifar.TRAIN, cifar.TEST, cifar.META}
    assert CATALOGUE["cifar10"].members[cifar.TEST] == 30_730_000
    assert CATALOGUE["fashion-mnist"].beside["classes.txt"].splitlines()[8:] == ["Bag", "Ankle boot"]
    sums = [file.sha256 for collection in CATALOGUE.values() for file in collection.files]
    assert len(set(sums)) == len(sums) == 9
    assert all(len(bytes.fromhex(digest)) == 32 for digest in sums)
    assert all(collection.base.startswith("https://") for collection in CATALOGUE.values())
