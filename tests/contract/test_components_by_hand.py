"""Section 7 of docs/restore-by-hand.md, executed: folders, Redis and git without Leeward."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.folder.tree import FolderTree
from chalicelib.adapters.git.repository import GitRepository
from chalicelib.adapters.redis.source import RedisServer
from chalicelib.adapters.s3.store import S3ObjectStore, connect_s3
from chalicelib.backup.take_files import take_files
from chalicelib.backup.take_git import take_git
from chalicelib.backup.take_redis import take_redis
from tests.contract.test_git import Shelf as Code
from tests.contract.test_git import git, refs
from tests.contract.test_redis import fill as fill_redis
from tests.contract.test_restore_by_hand import PAGE, TOOLS, ZSTD
from tests.redises import CLOCK, running_redis
from tests.shelves import fill, snapshot


@pytest.fixture(scope="module")
def cloud() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        connect_s3("us-east-1").create_bucket(Bucket="backups")
        yield environment | {"BUCKET": "backups"}
    server.stop()


def shelf(component: str) -> tuple[S3ObjectStore, StoredCatalogue]:
    store = S3ObjectStore(connect_s3("us-east-1"), "backups", f"{component}/")
    return store, StoredCatalogue(store, component)


def commands(kind: str) -> str:
    """Fetching, and then what the part named `kind` says."""
    section = PAGE.read_text().partition("## 7. ")[2]
    first, *parts = re.split(r"^### (.*)$", section, flags=re.MULTILINE)
    chosen = dict(zip(parts[::2], parts[1::2], strict=True))[kind]
    return "\n".join(["set -e", *re.findall(r"```sh\n(.*?)```", first + chosen, re.DOTALL)])


def follow(kind: str, desk: Path, known: dict[str, str]) -> subprocess.CompletedProcess[str]:
    tools = desk / "tools"
    tools.mkdir(parents=True)
    if not shutil.which("zstd"):
        (tools / "zstd").write_text(ZSTD)
        (tools / "zstd").chmod(0o755)
    (tools / "python3").symlink_to(sys.executable)
    (tools / "sync").write_text(
        f'#!/bin/sh\necho "$@" >> synced\nexec {shutil.which("sync")} "$@"\n'
    )
    (tools / "sync").chmod(0o755)
    path = os.pathsep.join([str(tools), str(TOOLS), os.defpath])
    return subprocess.run(
        ["sh", "-c", commands(kind)], cwd=desk, env={**known, "PATH": path, "LC_ALL": "C"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_folder(cloud: dict[str, str], tmp_path: Path) -> None:
    """With the names, modes, times, owners and links that tests/shelves.py makes."""
    (tmp_path / "source").mkdir()
    fill(tmp_path / "source")
    store, catalogue = shelf("uploads")
    tree = FolderTree(tmp_path / "source")
    point = take_files(tree, store, catalogue, component="uploads", clock=CLOCK)
    known = {**cloud, "COMPONENT": "uploads", "POINT": point.id}
    done = follow("A folder", tmp_path / "desk", known)
    assert done.returncode == 0, done.stderr
    assert snapshot(tmp_path / "desk" / "files") == snapshot(tmp_path / "source")
    assert (tmp_path / "desk" / "synced").read_text() == "-f files\n"
    key = f"points/{point.id}/files.tar.zst"
    whole = store.get(key)
    store.put(key, whole[:-1] + bytes([whole[-1] ^ 1]))
    done = follow("A folder", tmp_path / "again", known)
    assert done.returncode == 1
    assert "files.tar.zst is damaged" in done.stdout
    assert not (tmp_path / "again" / "files").exists()


def test_a_file_that_differs_from_the_list_is_named(cloud: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("a")
    store, catalogue = shelf("logs")
    tree = FolderTree(tmp_path / "source")
    point = take_files(tree, store, catalogue, component="logs", clock=CLOCK)
    known = {**cloud, "COMPONENT": "logs", "POINT": point.id}
    script = commands("A folder").replace(
        'zstd -dc "stored/$POINT/files.jsonl', 'echo >files/a; zstd -dc "stored/$POINT/files.jsonl'
    )
    assert "echo" in script
    (tmp_path / "desk").mkdir()
    path = os.pathsep.join([str(TOOLS), os.defpath])
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path / "desk", env={**known, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "a differs" in done.stderr


def test_redis(cloud: dict[str, str], tmp_path: Path) -> None:
    store, catalogue = shelf("cache")
    with running_redis() as source, running_redis() as target:
        fill_redis(source)
        source.client.function_load("#!lua name=l\nredis.register_function('f', function() end)")
        with RedisServer(source.url) as server:
            point = take_redis(server, store, catalogue, component="cache", clock=CLOCK)
        known: dict[str, Any] = {"COMPONENT": "cache", "POINT": point.id}
        known |= {"HOST": "127.0.0.1", "PORT": str(target.port)}
        done = follow("Redis or Valkey", tmp_path / "desk", cloud | known)
        assert done.returncode == 0, done.stderr + done.stdout
        assert "errors: 0" in done.stdout
        assert target.digests() == source.digests()
        assert len(target.client.function_list()) == 1


def test_git(cloud: dict[str, str], tmp_path: Path) -> None:
    code = Code(tmp_path / "code")
    store, catalogue = shelf("code")
    point = take_git(GitRepository(code.url), store, catalogue, component="code", clock=CLOCK)
    known = {"COMPONENT": "code", "POINT": point.id, "REVISION": "old", "HOME": str(tmp_path)}
    done = follow("A git repository", tmp_path / "desk", cloud | known)
    assert done.returncode == 0, done.stderr
    assert git(tmp_path / "desk" / "code", "rev-parse", "HEAD") == code.first
    assert refs(tmp_path / "desk" / "all.git") == refs(code.source)
    assert (tmp_path / "desk" / "synced").read_text() == "-f code\n-f all.git\n"
