"""What a PostgreSQL data folder says about itself while no server runs on it."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from chalicelib.errors import Damaged

# pg_authid is a mapped relation: its file number stands in global/pg_filenode.map
# (src/include/catalog/pg_authid.h, src/backend/utils/cache/relmapper.c).
AUTHID_OID = 1260
RELMAPPER_MAGIC = 0x592717
PAGE_BYTES = 8192
NAME_BYTES = 64


def read_major(data_dir: Path) -> int:
    """The major version that wrote the folder. Raises Damaged when it is no data folder."""
    try:
        return int((data_dir / "PG_VERSION").read_text().strip())
    except (OSError, ValueError) as error:
        raise Damaged(
            f"expected a data folder with a PG_VERSION in {data_dir}, found none",
            code="not-a-data-folder",
            hint="Restore into an empty folder again.",
        ) from error


def superuser_names(data_dir: Path) -> list[str]:
    """Names of roles that may be superusers and log in, the bootstrap one first.

    Read from the pages of pg_authid, so old row versions are among them: a name is a candidate
    until a server has accepted it.
    """
    found: dict[str, int] = {}
    pages = (data_dir / "global" / str(_authid_file(data_dir))).read_bytes()
    for start in range(0, len(pages), PAGE_BYTES):
        for oid, name, is_superuser, can_login in _roles(pages[start : start + PAGE_BYTES]):
            if is_superuser and can_login:
                found[name] = oid
    return sorted(found, key=lambda name: found[name])


def _authid_file(data_dir: Path) -> int:
    content = (data_dir / "global" / "pg_filenode.map").read_bytes()
    magic, count = struct.unpack_from("=ii", content)
    mappings = dict(struct.iter_unpack("=II", content[8 : 8 + 8 * count]))
    if magic != RELMAPPER_MAGIC or AUTHID_OID not in mappings:
        raise Damaged(
            f"expected pg_authid in {data_dir}/global/pg_filenode.map, found none",
            code="not-a-data-folder",
            hint="Restore an older recovery point.",
        )
    return int(mappings[AUTHID_OID])


def _roles(page: bytes) -> Iterator[tuple[int, str, bool, bool]]:
    lower = struct.unpack_from("=H", page, 12)[0] if len(page) == PAGE_BYTES else 0
    for (line_pointer,) in struct.iter_unpack("=I", page[24:lower]):
        offset, flags, length = (
            line_pointer & 0x7FFF,
            line_pointer >> 15 & 3,
            line_pointer >> 17,
        )
        if flags == 1 and length:  # LP_NORMAL
            row = offset + page[offset + 22]  # t_hoff
            (oid,) = struct.unpack_from("=I", page, row)
            name = page[row + 4 : row + 4 + NAME_BYTES].rstrip(b"\0").decode(errors="replace")
            superuser, _, _, _, login = page[row + 4 + NAME_BYTES : row + 9 + NAME_BYTES]
            yield oid, name, bool(superuser), bool(login)


def server_processes(data_dir: Path) -> list[int]:
    """Process ids of the postmaster on this folder, and of what a dead one left.

    A PostgreSQL process has its data folder as working directory, where /proc shows that.
    """
    return sorted({*_postmaster(data_dir), *_left_in(data_dir)})


def _postmaster(data_dir: Path) -> list[int]:
    try:
        pid = int((data_dir / "postmaster.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return []
    # The number may belong to another program by now: its command line names the folder if not.
    return [pid] if str(data_dir) in _command_line(pid) else []


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        done = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True)
        return done.stdout.decode(errors="replace")


def _left_in(data_dir: Path) -> Iterator[int]:
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit() and _works_in(int(name), data_dir):
            yield int(name)


def _works_in(pid: int, data_dir: Path) -> bool:
    try:
        working_dir = os.readlink(f"/proc/{pid}/cwd")
        program = os.readlink(f"/proc/{pid}/exe")
    except OSError:  # it ended, or belongs to somebody else
        return False
    return working_dir == str(data_dir.resolve()) and Path(program).name.startswith("postgres")
