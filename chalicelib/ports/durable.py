"""What was written, where a power loss does not take it: macOS has a drive's own memory between.

Source: fsync(2) and fcntl(2) of macOS, F_FULLFSYNC; SQLite, src/os_unix.c, full_fsync.
"""

from __future__ import annotations

import errno
import fcntl
import os

# Of file systems that cannot ask their drive, such as those of a network.
CANNOT = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY, errno.ENODEV)


def sync(handle: int) -> None:
    """A file or a folder. Raises OSError."""
    os.fsync(handle)
    flush_drive(handle)


def flush_drive(handle: int) -> None:
    """All that was synced before on the drive of this file or folder. Raises OSError.

    Elsewhere than on macOS fsync has seen to it.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        return
    try:
        fcntl.fcntl(handle, full)
    except OSError as error:
        if error.errno not in CANNOT:
            raise
