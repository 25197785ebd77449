"""git as a program: no configuration but ours, no question to anybody, no wait without end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from chalicelib.errors import NotReady, Unavailable

READ_BYTES = 1 << 20
NOTHING: Mapping[str, str] = MappingProxyType({})
# Only what moves data: `ext::` runs any command.
PROTOCOLS = "file:git:http:https:ssh"
# A transfer slower than this many bytes a second for that long has stopped.
SLOWEST = ("http.lowSpeedLimit=1000", "http.lowSpeedTime=60")
# Counts that it was asked, as nothing else tells a refused password from other failures.
ASKPASS = """#!/bin/sh
echo >> "$LEEWARD_ASKED"
[ -n "$LEEWARD_GIT_PASSWORD" ] || exit 1
printf '%s\\n' "$LEEWARD_GIT_PASSWORD"
"""


@dataclass(frozen=True)
class Outcome:
    """What a run of git answered. `said` is the end of what it printed for people."""

    status: int
    output: bytes
    said: str


class Git:
    """git with a home of its own, in which it finds nothing. `with Git() as git`."""

    def __init__(
        self, program: str = "git", *, password: str = "", inherited: Mapping[str, str] = NOTHING
    ) -> None:
        """`inherited`: of the environment, such as https_proxy, SSL_CERT_FILE, SSH_AUTH_SOCK."""
        self._program = program
        self._password = password
        self._inherited = inherited
        self._home: Path | None = None

    def __enter__(self) -> Git:
        found = shutil.which(self._program)
        if found is None:
            raise NotReady(
                f"expected the program {self._program}, found none",
                code="no-git",
                hint="Run it on a host, in CodeBuild or in Fargate with git; Lambda has none.",
            )
        self._program = found
        self._home = Path(tempfile.mkdtemp(prefix="lw-git-"))
        (self._home / "askpass").write_text(ASKPASS)
        (self._home / "askpass").chmod(0o700)
        # The account of a backup is not the owner of what it reads.
        (self._home / "config").write_text("[safe]\n\tdirectory = *\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    @property
    def home(self) -> Path:
        """A private folder that goes with this object."""
        assert self._home is not None, "used inside its `with` block"
        return self._home

    @property
    def asked_for_password(self) -> bool:
        return (self.home / "asked").exists()

    def run(self, *arguments: str, folder: Path | None = None, seconds: float = 600) -> Outcome:
        """To its end. Raises Unavailable (code "git-timeout") when it takes longer."""
        with self._start(arguments, folder, seconds) as process:
            assert process.stdout is not None
            output = process.stdout.read()
            process.wait()
        return Outcome(process.returncode, output, self._said())

    def stream(self, *arguments: str, folder: Path, seconds: float) -> Iterator[bytes]:
        """What it writes, in pieces. Raises NotReady (code "git-failed") when it fails."""
        with self._start(arguments, folder, seconds) as process:
            assert process.stdout is not None
            while piece := process.stdout.read(READ_BYTES):
                yield piece
            process.wait()
        if process.returncode:
            raise NotReady(
                f"expected git {arguments[0]} to succeed, it said: {self._said()}",
                code="git-failed",
                hint="Look whether this machine's disk has room, and try again.",
            )

    @contextmanager
    def _start(
        self, arguments: tuple[str, ...], folder: Path | None, seconds: float
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The whole group of processes is ended when it takes longer or the block is left."""
        options = [word for setting in SLOWEST for word in ("-c", setting)]
        with (self.home / "said").open("wb") as said:
            process = subprocess.Popen(
                [self._program, *options, *arguments], cwd=folder or self.home,
                env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=said, start_new_session=True,
            )  # fmt: skip
        late = threading.Event()
        timer = threading.Timer(seconds, _end, (process, late))
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            if process.poll() is None:
                _end(process)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        if late.is_set():
            raise Unavailable(
                f"expected git {arguments[0]} to end within {seconds:g} s, it did not",
                code="git-timeout",
                hint="Look whether the repository's server answers, or allow more time.",
            )

    def _environment(self) -> Mapping[str, str]:
        return {
            **self._inherited,
            "PATH": f"{os.path.dirname(self._program)}{os.pathsep}{os.defpath}",
            "HOME": str(self.home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.home / "config"),
            "GIT_ALLOW_PROTOCOL": PROTOCOLS,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": str(self.home / "askpass"),
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=10",
            "LEEWARD_ASKED": str(self.home / "asked"),
            "LEEWARD_GIT_PASSWORD": self._password,
        }

    def _said(self) -> str:
        lines = (self.home / "said").read_text(errors="replace").strip().splitlines()
        return " ".join(line.strip() for line in lines[-3:])[-400:] or "nothing"


def _end(process: subprocess.Popen[bytes], late: threading.Event | None = None) -> None:
    if late is not None:
        late.set()
    if process.poll() is not None:  # its number may be another's by now
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
