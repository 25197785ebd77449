"""What the ports and the client of buckets import: every start of a command or a function pays."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chalicelib import ports

ASKED = """
import sys
from chalicelib.ports import Clock, ObjectStore
import chalicelib.adapters.s3.bucket, chalicelib.backup.bucket.sync
print(sorted(set(sys.argv[1:]) & set(sys.modules)))
"""
NOT_NEEDED = (
    "chalicelib.plan.records", "chalicelib.ports.postgres", "chalicelib.ports.catalogue",
    "chalicelib.ports.bucket_rules",
    "email.utils", "html", "tempfile", "boto3", "pydantic",
)  # fmt: skip


def test_a_sync_imports_no_port_but_its_own() -> None:
    command = [sys.executable, "-c", ASKED, *NOT_NEEDED]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_name_of_the_ports_is_found_and_no_other() -> None:
    for name in ports.__all__:
        assert getattr(ports, name).__name__ == name
    with pytest.raises(AttributeError, match="Nothing"):
        _ = ports.Nothing  # type: ignore[attr-defined]
