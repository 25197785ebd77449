"""A local cloud has room for its sandboxes where a process may open few files unless it asks."""

from __future__ import annotations

import subprocess
import sys

LOOK = """
import resource
from leeward.local.runner import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
allow_open_files()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits_after(hard: int) -> str:
    command = [sys.executable, "-c", LOOK.format(hard=hard)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_process_with_256_files_takes_what_it_may() -> None:
    assert limits_after(12_000) == "10240 12000"


def test_no_more_than_the_machine_allows_is_asked_for() -> None:
    assert limits_after(900) == "900 900"
