"""A virtual environment where Python has no ensurepip: pip comes from a package index."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from leeward import make_venv


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """The address of an index that serves `tmp_path`."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple/"
        server.shutdown()


def offer(folder: Path, name: str, data: bytes) -> None:
    page = folder / "simple" / "pip"
    page.mkdir(parents=True)
    (page / "index.html").write_text(f'<a href="../../files/{name}#sha256=0">{name}</a>')
    (folder / "files").mkdir()
    (folder / "files" / name).write_bytes(data)


def test_the_pinned_pip_is_taken(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_venv, "PIP_SHA256", hashlib.sha256(b"pip").hexdigest())
    offer(tmp_path, make_venv.PIP, b"pip")
    assert make_venv.fetch_pip(index) == b"pip"


def test_another_file_under_its_name_is_refused(index: str, tmp_path: Path) -> None:
    offer(tmp_path, make_venv.PIP, b"something else")
    with pytest.raises(LookupError, match="found another"):
        make_venv.fetch_pip(index)


def test_without_any_way_to_pip_the_hint_names_the_package(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    offer(tmp_path, "pip-1.0-py3-none-any.whl", b"old")
    monkeypatch.setenv("PIP_INDEX_URL", index)
    monkeypatch.setattr(make_venv, "find_spec", lambda _: None)
    assert make_venv.main(tmp_path / "venv") == 1
    assert "HINT:  this Python has no ensurepip; on Debian" in capsys.readouterr().err
