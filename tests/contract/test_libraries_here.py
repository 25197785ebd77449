"""A package for Lambda on a machine that does not run Lambda's wheels: its own are laid over."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from leeward.local.iam import judge
from leeward.local.reaper import Reaper
from leeward.local.runner import SHARED_BYTES, Runner


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("lies_over", [True, False])
def test_this_machines_libraries_lie_over_those_of_the_package(
    tmp_path: Path, lies_over: bool
) -> None:
    own = packed(tmp_path / "here.zip", {"native.so": b"for this machine"})
    files = {"app.py": b"", "native.so": b"for Lambda", "padding": os.urandom(SHARED_BYTES)}
    code = packed(tmp_path / "code.zip", files).read_bytes()
    reaper = Reaper()
    reaper.start()
    runner = Runner(
        tmp_path,
        reaper,
        environment=lambda _: {},
        on_log=lambda *_: None,
        judge=judge,
        cache=tmp_path / "cache",
        libraries=own if lies_over else None,
    )
    try:
        digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
        folder = runner.unpack(digest, code)
        expected = b"for this machine" if lies_over else b"for Lambda"
        assert (folder / "native.so").read_bytes() == expected
        assert {it.name for it in folder.iterdir()} == set(files)
    finally:
        runner.stop()
        reaper.stop()
