"""Where a host's paths lie on the machine that the local cloud runs on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from leeward.local.host_paths import on_this_machine

ROOT = Path("/tmp/leeward-cloud-1/hosts/i-1/root")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("cat /etc/site/env", f"cat {ROOT}/etc/site/env"),
        ("A=/var/www; echo '/home/a'", f"A={ROOT}/var/www; echo '{ROOT}/home/a'"),
        ("cd /tmp", f"cd {ROOT}/tmp"),
        ("exec /usr/bin/env python3 >/dev/null", "exec /usr/bin/env python3 >/dev/null"),
        ("url = http://a.b/var/x?y=%2Ftmp", "url = http://a.b/var/x?y=%2Ftmp"),
        ("git clone file:///tmp/x.git", "git clone file:///tmp/x.git"),
        ("/variable /etc-old ./etc/x a/var", "/variable /etc-old ./etc/x a/var"),
        (
            "exec /home/a/venv/bin/x; exec /opt/python/x",
            "exec /home/a/venv/bin/x; exec /opt/python/x",
        ),
        ("exec /home/a/venv-2/bin/x", f"exec {ROOT}/home/a/venv-2/bin/x"),
    ],
)
def test_paths_of_the_host_alone_are_rewritten_and_once(
    written: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/home/a/venv/bin/python")
    monkeypatch.setattr(sys, "base_prefix", "/opt/python")
    assert on_this_machine(written, ROOT) == meant
    assert on_this_machine(meant, ROOT) == meant
