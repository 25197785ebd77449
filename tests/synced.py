"""`leeward` on a disk that tells what it was asked to keep, or that fails.

    python -m tests.synced LOG FAULT WORDS...

LOG: a line for each fsync, "synced <inode>", and for each rename, "named <new path>".
FAULT: "none", the name of an errno that every fsync fails with, or "kill": it dies at the first.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

from leeward.cli import main


def watch(log: str, fault: str) -> None:
    sync, rename = os.fsync, os.rename

    def tell(line: str) -> None:
        with open(log, "a") as file:
            file.write(f"{line}\n")

    def watched_sync(handle: int) -> None:
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault != "none":
            number = getattr(errno, fault)
            raise OSError(number, os.strerror(number))
        sync(handle)
        tell(f"synced {os.fstat(handle).st_ino}")

    def watched_rename(source: Any, target: Any, **more: Any) -> None:
        rename(source, target, **more)
        tell(f"named {os.fspath(target)}")

    os.fsync, os.rename = watched_sync, watched_rename


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2])
    main(sys.argv[3:])
