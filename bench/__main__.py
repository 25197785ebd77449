"""Every figure of docs/benchmarks.md, one after the other: `python -m bench`, or `make bench`.

Each part is a process of its own, prints its figures as JSON and rewrites its section of the page.
"""

from __future__ import annotations

import subprocess
import sys

PARTS = (
    "backup",
    "restore",
    "wal_tick",
    "sealing",
    "sync",
    "verify",
    "bucket_undo",
    "retention",
    "signs",
    "signs_spread",
    "cold_start",
    "drill",
)


def main() -> int:
    """The number of parts that failed; those after a failed one are measured all the same."""
    failed = 0
    for part in PARTS:
        print(f"== {part}", flush=True)
        failed += subprocess.run([sys.executable, "-m", f"bench.{part}"]).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
