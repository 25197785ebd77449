"""Git repositories bundled and brought back; remotes that hang, refuse, or want a password."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.git.bundle import GitBundles
from chalicelib.adapters.git.repository import GitRepository
from chalicelib.backup.take_git import take_git
from chalicelib.errors import (
    BadInput,
    Damaged,
    LeewardError,
    NotReady,
    Quarantined,
    Refused,
    Unavailable,
)
from chalicelib.plan.records import RecoveryPoint
from chalicelib.recover.restore_git import RestoredRepository, restore_git, verify_git
from tests.fakes import FailingObjectStore, InMemoryObjectStore

CLOCK = SystemClock()
TOOLS = GitBundles()
PASSWORD = "p@ss word/s3cret"


def git(folder: Path, *words: str) -> str:
    who = {f"GIT_{role}_{what}": "test@example.org" for role in ("AUTHOR", "COMMITTER")
           for what in ("NAME", "EMAIL")}  # fmt: skip
    nothing = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *words],
        cwd=folder, env={"PATH": os.defpath, "LC_ALL": "C"} | who | nothing,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "-m", f"add {name}")
    return git(folder, "rev-parse", "HEAD")


class Shelf:
    """A repository with branches, tags and other refs, and the component it is kept as."""

    def __init__(self, folder: Path, *, object_format: str = "sha1") -> None:
        self.source = folder / "source"
        self.source.mkdir(parents=True)
        git(self.source, "init", "--quiet", "-b", "main", f"--object-format={object_format}")
        self.first = commit(self.source, "a.txt", "one\n")
        git(self.source, "tag", "-a", "v1", "-m", "first")
        git(self.source, "branch", "old")
        self.second = commit(self.source, "b.txt", "two\n")
        git(self.source, "checkout", "--quiet", "-b", "tïtle/ünï", "old")
        self.third = commit(self.source, "c.txt", "three\n")
        git(self.source, "update-ref", "refs/pull/7/head", "HEAD")
        git(self.source, "notes", "add", "-m", "note", "HEAD")
        git(self.source, "checkout", "--quiet", "main")
        git(self.source, "branch", "-D", "tïtle/ünï")
        git(self.source, "branch", "fïx")
        self.store = InMemoryObjectStore()
        self.catalogue = StoredCatalogue(self.store, "code")

    @property
    def url(self) -> str:
        return f"file://{self.source}"

    def take(self, url: str = "", **options: Any) -> RecoveryPoint:
        repository = GitRepository(url or self.url, **options)
        return take_git(repository, self.store, self.catalogue, component="code", clock=CLOCK)

    def restore(self, folder: Path, **options: Any) -> RestoredRepository:
        return restore_git(self.store, self.catalogue, TOOLS, folder, clock=CLOCK, **options)

    def verify(self, point: RecoveryPoint) -> dict[str, tuple[bool, str]]:
        checks = verify_git(self.store, point, TOOLS, clock=CLOCK)
        return {check.name: (check.ok, check.found) for check in checks}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def refs(folder: Path) -> str:
    return git(folder, "for-each-ref")


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_repository_comes_back(tmp_path: Path, object_format: str) -> None:
    shelf = Shelf(tmp_path / "x", object_format=object_format)
    point = shelf.take()
    assert (point.kind, point.note) == ("bundle", "")
    assert {name: ok for name, (ok, _) in shelf.verify(point).items()} == {
        "bundle-whole": True, "bundle-clones": True,
    }  # fmt: skip
    found = shelf.restore(tmp_path / "back")
    assert found.commit == shelf.second
    assert git(tmp_path / "back", "status", "--porcelain", "--branch") == "## main...origin/main"
    assert (tmp_path / "back" / "b.txt").read_text() == "two\n"
    assert git(tmp_path / "back", "remote", "get-url", "origin") == shelf.url
    shelf.restore(tmp_path / "bare", mirror=True)
    assert refs(tmp_path / "bare") == refs(shelf.source)
    assert git(tmp_path / "bare", "symbolic-ref", "HEAD") == "refs/heads/main"
    assert sorted(it.name for it in tmp_path.iterdir()) == ["back", "bare", "x"]


def test_at_any_revision(shelf: Shelf, tmp_path: Path) -> None:
    shelf.take()
    cases = {
        "v1": shelf.first, "old": shelf.first, "fïx": shelf.second, "refs/pull/7/head": shelf.third,
        shelf.third: shelf.third, shelf.second[:9]: shelf.second, "main~1": shelf.first,
    }  # fmt: skip
    for number, (revision, expected) in enumerate(cases.items()):
        folder = tmp_path / f"back{number}"
        assert shelf.restore(folder, revision=revision).commit == expected
        assert git(folder, "rev-parse", "HEAD") == expected
        assert git(folder, "status", "--porcelain") == ""
    for unknown in ("nowhere", "--all", "f" * 40, "../x", "v1^{blob}"):
        with pytest.raises(BadInput) as caught:
            shelf.restore(tmp_path / "no", revision=unknown)
        assert caught.value.instance_code == "unknown-revision"
    assert not (tmp_path / "no").exists()


def test_what_a_bundle_cannot_hold_is_said(shelf: Shelf, tmp_path: Path) -> None:
    other = Shelf(tmp_path / "other")
    git(shelf.source, "submodule", "--quiet", "add", other.url, "lib/other")
    (shelf.source / "media").mkdir()
    commit(shelf.source, "media/.gitattributes", "*.png filter=lfs diff=lfs\n")
    point = shelf.take()
    assert point.note == (
        "1 submodules are not in it: lib/other; "
        "large files (LFS) are not in it, only their pointers"
    )
    found = shelf.restore(tmp_path / "back")
    assert found.missing == point.note


def test_a_detached_or_missing_head(shelf: Shelf, tmp_path: Path) -> None:
    git(shelf.source, "symbolic-ref", "HEAD", "refs/heads/gone")
    point = shelf.take()
    assert point.note == "HEAD names no commit"
    assert shelf.verify(point)["bundle-clones"][0]
    with pytest.raises(BadInput):
        shelf.restore(tmp_path / "back")
    assert shelf.restore(tmp_path / "back", revision="main").commit == shelf.second


def test_an_empty_repository_is_no_backup(shelf: Shelf, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", "empty.git")
    with pytest.raises(NotReady) as caught:
        shelf.take(f"file://{tmp_path}/empty.git")
    assert caught.value.instance_code == "repository-empty"
    assert shelf.store.objects == {}


def test_a_damaged_source_gives_no_point(shelf: Shelf) -> None:
    for path in sorted((shelf.source / ".git" / "objects").rglob("*")):
        if path.is_file() and path.name.startswith(shelf.first[2:]):
            path.unlink()
    with pytest.raises(NotReady) as caught:
        shelf.take()
    assert caught.value.instance_code == "repository-unreadable"
    assert shelf.store.objects == {}


def damaged(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    return {
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "short": data[:middle],
        "empty": b"",
        "longer": data + b"x",
    }[how]


@pytest.mark.parametrize("name", ["repository.bundle", "refs.json"])
@pytest.mark.parametrize("how", ["flipped", "short", "empty", "longer"])
def test_damage_is_found_and_nothing_is_left(
    shelf: Shelf, tmp_path: Path, name: str, how: str
) -> None:
    point = shelf.take()
    key = f"points/{point.id}/{name}"
    shelf.store.objects[key] = damaged(shelf.store.objects[key], how)
    [(ok, found)] = shelf.verify(point).values()
    assert not ok
    assert name in found
    with pytest.raises(Damaged):
        shelf.restore(tmp_path / "back")
    assert [it.name for it in tmp_path.iterdir()] == ["source"]
    with pytest.raises(Quarantined):
        shelf.restore(tmp_path / "back")


def forged(shelf: Shelf, point: RecoveryPoint, name: str, data: bytes) -> RecoveryPoint:
    stored = shelf.store.put(f"points/{point.id}/{name}", data)
    objects = tuple(stored if it.key == stored.key else it for it in point.objects)
    return RecoveryPoint.from_json(point.to_json() | {"objects": [it.to_json() for it in objects]})


@pytest.mark.parametrize("how", ["flipped", "short", "empty", "ref-moved", "other-refs"])
def test_a_bundle_with_a_manifest_that_agrees_is_still_proven(shelf: Shelf, how: str) -> None:
    """Damage from before the upload, or by somebody who can write manifests."""
    point = shelf.take()
    bundle = shelf.store.get(f"points/{point.id}/repository.bundle")
    facts = shelf.store.get(f"points/{point.id}/refs.json")
    if how == "ref-moved":
        moved = bundle.replace(
            shelf.second.encode() + b" refs/heads/main", shelf.first.encode() + b" refs/heads/main"
        )
        point = forged(shelf, point, "repository.bundle", moved)
    elif how == "other-refs":
        point = forged(
            shelf, point, "refs.json", facts.replace(b"refs/heads/old", b"refs/heads/new")
        )
    else:
        point = forged(shelf, point, "repository.bundle", damaged(bundle, how))
    checks = shelf.verify(point)
    assert checks["bundle-whole"][0]
    assert not checks["bundle-clones"][0]
    if how in ("ref-moved", "other-refs"):
        assert "refs/heads/" in checks["bundle-clones"][1]


def test_the_older_point_is_taken_when_the_newer_is_damaged(shelf: Shelf, tmp_path: Path) -> None:
    older = shelf.take()
    newest = commit(shelf.source, "d.txt", "four\n")
    newer = shelf.take()
    assert shelf.restore(tmp_path / "newest").commit == newest
    key = f"points/{newer.id}/repository.bundle"
    shelf.store.objects[key] = damaged(shelf.store.objects[key], "flipped")
    found = shelf.restore(tmp_path / "back")
    assert (found.point_id, found.commit) == (older.id, shelf.second)
    assert found.damaged == (newer.id,)


def test_a_folder_that_holds_something_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    shelf.take()
    (tmp_path / "back").mkdir()
    shelf.restore(tmp_path / "back")
    with pytest.raises(Refused) as caught:
        shelf.restore(tmp_path / "back")
    assert caught.value.instance_code == "folder-not-empty"


@pytest.mark.parametrize("fail_at", range(1, 6))
def test_a_store_that_fails_leaves_no_point(shelf: Shelf, fail_at: int) -> None:
    failing = FailingObjectStore(shelf.store, Unavailable("gone", hint="Wait."), fail_at=fail_at)
    try:
        take_git(
            GitRepository(shelf.url), failing, StoredCatalogue(failing, "code"),
            component="code", clock=CLOCK,
        )  # fmt: skip
    except Unavailable:
        assert shelf.catalogue.holdings().standings == ()
    else:
        assert len(shelf.catalogue.holdings().standings) == 1


def test_no_git(shelf: Shelf, tmp_path: Path) -> None:
    with pytest.raises(NotReady) as caught:
        shelf.take(program="git-that-is-not-there")
    assert caught.value.instance_code == "no-git"
    point = shelf.take()
    with pytest.raises(NotReady) as caught:
        verify_git(shelf.store, point, GitBundles("git-that-is-not-there"), clock=CLOCK)
    assert caught.value.instance_code == "no-git"


@pytest.mark.parametrize(
    "url", ["", "ext::sh -c id", "/a/path", "ftp://x/y", "https:///y", "https://x:pw@y:99999/z"]
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        GitRepository(url)
    assert caught.value.instance_code == "bad-git-url"
    assert "pw" not in str(caught.value.to_json())


def test_a_password_in_the_url_is_hidden() -> None:
    assert (
        GitRepository("https://me:p%40w@host.example/x.git").name == "https://me@host.example/x.git"
    )
    assert (
        GitRepository("https://:t0ken@host.example/x.git").name == "https://git@host.example/x.git"
    )
    assert GitRepository("git@host.example:team/x.git").name == "ssh://git@host.example/team/x.git"


# Remotes ------------------------------------------------------------------------------------


@contextmanager
def daemon(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["git", "daemon", "--export-all", f"--base-path={folder}", f"--port={port}"]
    environment = {"PATH": os.defpath, "HOME": str(folder)}
    (folder / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    process = subprocess.Popen(
        [*command, "--listen=127.0.0.1", "--reuseaddr"], env=environment, start_new_session=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until_open(port)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_over_the_network(shelf: Shelf, tmp_path: Path) -> None:
    with daemon(tmp_path) as url:
        point = shelf.take(f"{url}/source")
        assert shelf.verify(point)["bundle-clones"][0]
        with pytest.raises(NotReady) as caught:
            shelf.take(f"{url}/missing")
    assert caught.value.instance_code == "repository-unreadable"
    with pytest.raises(Unavailable):
        shelf.take(f"{url}/source")


@contextmanager
def server_of(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accepts connections and does with them what `answer` does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                kept.append(connection)
                answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


@pytest.mark.parametrize("scheme", ["git", "http"])
def test_a_remote_that_hangs(shelf: Shelf, scheme: str) -> None:
    with server_of(lambda _: None) as port:
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            shelf.take(f"{scheme}://127.0.0.1:{port}/x.git", answer_seconds=1, transfer_seconds=20)
    assert time.monotonic() - started < 10
    assert f"{scheme}://127.0.0.1:{port}" in caught.value.message
    assert shelf.store.objects == {}


def test_a_transfer_that_hangs(shelf: Shelf, tmp_path: Path) -> None:
    """It answers what refs there are, and then nothing more."""
    with daemon(tmp_path) as url, pytest.raises(Unavailable) as caught:
        shelf.take(f"{url}/source", transfer_seconds=0.001)
    assert caught.value.instance_code == "git-timeout"
    assert shelf.store.objects == {}


class GitOverHttp(BaseHTTPRequestHandler):
    """git http-backend behind a password. `after`: how many requests are answered at all."""

    root = ""
    after = 1000

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        type(self).after -= 1
        if type(self).after < 0:
            self.connection.close()
            return
        wanted = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="code"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = {
            "PATH": os.defpath, "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1",
            "HOME": self.root, "PATH_INFO": path, "QUERY_STRING": query,
            "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_USER": "me",
            "CONTENT_LENGTH": str(len(body)),
        }  # fmt: skip
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def over_http(folder: Path, *, after: int = 1000) -> Iterator[str]:
    (folder / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    handler = type("Handler", (GitOverHttp,), {"root": str(folder), "after": after})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}/source/.git"
    finally:
        server.shutdown()
        server.server_close()


def test_a_password_is_given_and_seen_nowhere(shelf: Shelf, tmp_path: Path) -> None:
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            listed = subprocess.run(["ps", "-axww", "-o", "command"], capture_output=True)
            seen.update(listed.stdout.splitlines())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with over_http(tmp_path) as address:
            point = shelf.take(f"http://me@{address}", password=PASSWORD)
            shelf.take(f"http://me:p%40ss%20word%2Fs3cret@{address}")
    finally:
        done.set()
        watcher.join()
    assert shelf.verify(point)["bundle-clones"][0]
    assert any(b"ls-remote" in it or b"clone" in it for it in seen)
    assert not any(b"s3cret" in it for it in seen)
    assert not any(b"s3cret" in it for it in shelf.store.objects.values())


@pytest.mark.parametrize(
    ("password", "code"), [("wrong-word", "credentials-refused"), ("", "credentials-needed")]
)
def test_a_wrong_or_missing_password(
    shelf: Shelf, tmp_path: Path, password: str, code: str
) -> None:
    with over_http(tmp_path) as address, pytest.raises(NotReady) as caught:
        shelf.take(f"http://me@{address}", password=password)
    assert caught.value.instance_code == code
    assert "wrong-word" not in str(caught.value.to_json())
    assert shelf.store.objects == {}


def test_a_remote_that_breaks_off(shelf: Shelf, tmp_path: Path) -> None:
    for after in range(1, 6):
        with over_http(tmp_path, after=after) as address, pytest.raises(LeewardError) as caught:
            shelf.take(f"http://me@{address}", password=PASSWORD)
        assert isinstance(caught.value, NotReady | Unavailable)
        assert caught.value.hint
        assert shelf.store.objects == {}
