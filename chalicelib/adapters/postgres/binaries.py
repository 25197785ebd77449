"""Find PostgreSQL's server programs of a wanted major version, and the account they may run as.

PostgreSQL refuses to run as root, so a root caller runs it as the owner of the data folder, or as
`nobody`. A folder of programs that this account cannot reach (a virtual environment under root's
home) is copied once to a place that it can.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chalicelib.adapters.postgres.wheels import wheel_folders
from chalicelib.errors import NotReady

SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PGDG packages of Red Hat's family
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/opt/postgres/bin",
)


@dataclass(frozen=True)
class Binaries:
    """A folder that holds `postgres` and its tools, all of one major version."""

    bin_dir: Path
    major: int

    def tool(self, name: str) -> Path:
        """Raises NotReady (code "no-postgres-tool") when the folder lacks it."""
        path = self.bin_dir / name
        if not path.is_file():
            raise NotReady(
                f"expected {name} of postgresql {self.major} in {self.bin_dir}, found none",
                code="no-postgres-tool",
                hint=f"Install the PostgreSQL {self.major} server and client tools.",
            )
        return path

    def environment(self) -> dict[str, str]:
        """What PostgreSQL's programs need and nothing of ours: no PGHOST, PGPASSFILE, locale."""
        values = {"PATH": f"{self.bin_dir}{os.pathsep}{os.defpath}", "LC_ALL": "C"}
        icu_data = self.bin_dir.parent / "share" / "icu"
        if icu_data.is_dir():
            values["ICU_DATA"] = str(icu_data)
        return values

    def has_icu(self) -> bool:
        """Whether this build knows ICU collations (the default since 16, asked for before)."""
        options = _ask(self.tool("pg_config"), "--configure")
        return "--without-icu" not in options and (self.major >= 16 or "--with-icu" in options)


def find_binaries(major: int | None = None, named: str | None = None) -> Binaries:
    """The programs in the `named` folder, or the first found of `major` (any when None).

    Raises:
        NotReady: code "no-postgres-binaries", naming each folder that was looked at.
    """
    looked_at: list[str] = []
    for folder in [Path(named)] if named else _folders():
        found = _version_in(folder)
        looked_at.append(f"{folder} ({found or 'none'})")
        if found and major in (None, found):
            return Binaries(folder, found)
    wanted = f"postgresql {major}" if major else "postgresql"
    raise NotReady(
        f"expected the server programs of {wanted}, found {', '.join(looked_at) or 'none'}",
        code="no-postgres-binaries",
        hint=f"Install the {wanted} server on this machine, or name its folder with --binaries.",
    )


def _folders() -> Iterator[Path]:
    yield from wheel_folders()
    for pattern in SYSTEM_FOLDERS:
        yield from sorted(Path("/").glob(pattern[1:]), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


@cache
def _version_in(folder: Path) -> int | None:
    program = folder / "postgres"
    if not os.access(program, os.X_OK):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", _ask(program, "--version"))
    return int(found[1]) if found else None


def _ask(program: Path, option: str) -> str:
    try:
        done = subprocess.run([program, option], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


@dataclass(frozen=True)
class Account:
    """Whom a server runs as."""

    uid: int
    gid: int

    def popen_options(self) -> dict[str, Any]:
        """Keyword arguments for subprocess; empty when no change is needed."""
        if os.geteuid() != 0:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give a tree to this account; symbolic links are followed one step (tablespaces).

        `path` itself first: who adds to it meanwhile sees whose it is. What vanishes meanwhile
        need not be given.
        """
        if os.geteuid() != 0:
            return
        os.chown(path, self.uid, self.gid)
        for parent, folders, files in os.walk(path, followlinks=True):
            for name in (".", *folders, *files):
                with suppress(FileNotFoundError):
                    os.chown(os.path.join(parent, name), self.uid, self.gid)

    def reaches(self, folder: Path) -> bool:
        """Whether every folder on the way down lets this account through."""
        return os.geteuid() != 0 or all(self._enters(step) for step in _way_to(folder))

    def let_through(self, folder: Path) -> None:
        """Root's private temp folders above `folder` become passable, not readable, for others."""
        temp_dir = Path(tempfile.gettempdir()).resolve()
        for step in folder.resolve().parents if os.geteuid() == 0 else ():
            if temp_dir in step.parents and step.stat().st_uid == 0:
                step.chmod(step.stat().st_mode | 0o111)

    def _enters(self, folder: Path) -> bool:
        facts = folder.stat()
        if facts.st_uid == self.uid:
            return bool(facts.st_mode & stat.S_IXUSR)
        if facts.st_gid == self.gid:
            return bool(facts.st_mode & stat.S_IXGRP)
        return bool(facts.st_mode & stat.S_IXOTH)


def _way_to(folder: Path) -> list[Path]:
    resolved = folder.resolve()
    return [*resolved.parents, resolved]


def server_account(data_dir: Path) -> Account:
    """The caller; for root the owner of the data folder, or `nobody` when that is root too."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    facts = data_dir.stat()
    if facts.st_uid != 0:
        return Account(facts.st_uid, facts.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def account_of(folder: Path) -> Account:
    """Who starts a server on what root restores there: to whom the folder belongs, else the account
    `postgres`, which packages of PostgreSQL make, else `nobody`. Of anybody else, the caller."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    if folder.exists() and folder.stat().st_uid != 0:
        return Account(folder.stat().st_uid, folder.stat().st_gid)
    known = {it.pw_name: it for it in pwd.getpwall()}
    found = known.get("postgres") or known["nobody"]
    return Account(found.pw_uid, found.pw_gid)


def reachable_binaries(binaries: Binaries, account: Account) -> Binaries:
    """The same programs where `account` can run them: in place, or a copy in the temp folder."""
    if account.reaches(binaries.bin_dir):
        return binaries
    home = binaries.bin_dir.parent
    stamp = f"{home.stat().st_ino}-{int(binaries.tool('postgres').stat().st_mtime)}"
    copy = Path(tempfile.gettempdir()) / f"leeward-postgres-{binaries.major}-{stamp}"
    if not copy.is_dir():
        _copy_tree(home, copy)
    if copy.stat().st_uid != 0:
        raise NotReady(
            f"expected {copy} to belong to root, found another owner",
            code="unsafe-temp-folder",
            hint="Remove that folder, or set TMPDIR to one that only root can write.",
        )
    return Binaries(copy / binaries.bin_dir.name, binaries.major)


def _copy_tree(source: Path, target: Path) -> None:
    # Renamed when complete: two processes may do this at once, and either result is good.
    building = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    shutil.copytree(source, building, symlinks=True, dirs_exist_ok=True)
    building.chmod(0o755)
    try:
        building.rename(target)
    except OSError:
        shutil.rmtree(building)
