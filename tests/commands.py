"""`leeward` as its user runs it: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEEWARD = Path(sys.executable).with_name("leeward")
NEXUS = ROOT / "policies/plans/nexus-studio.yaml"
ARTIST = ROOT / "policies/plans/artist-tech.yaml"


def run(
    *words: str | Path, cwd: Path = ROOT, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """`leeward WORDS`, its output caught: no terminal, 80 columns."""
    return subprocess.run(
        [LEEWARD, *words],
        cwd=cwd,
        input=stdin,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=120,
    )


def clean_environment(**more: str) -> dict[str, str]:
    """What a newcomer's shell has, of what changes how a command looks and what it can reach."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8"} | more
