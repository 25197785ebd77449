"""A git repository by its url, mirrored into a folder of its own and read from there."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from chalicelib.adapters.git.process import NOTHING, Git, Outcome
from chalicelib.errors import BadInput, LeewardError, NotReady, Unavailable
from chalicelib.plan.bundles import RepositoryFacts

PORTS = {"https": 443, "http": 80, "git": 9418, "ssh": 22}
# git@host:path, which is no url.
SCP_FORM = re.compile(r"(?P<user>[\w.-]+@)?(?P<host>[\w.-]+):(?!:|//)(?P<path>.+)")
CONNECT_SECONDS = 5.0


class GitRepository:
    """The port Repository. The password, if any, never stands on a command line."""

    def __init__(
        self,
        url: str,
        *,
        password: str = "",
        program: str = "git",
        inherited: Mapping[str, str] = NOTHING,
        answer_seconds: float = 30,
        transfer_seconds: float = 3600,
    ) -> None:
        """`url`: https, ssh, git or file, or git@host:path; a password in it is used and hidden.

        Raises BadInput (code "bad-git-url").
        """
        self._parts = _parse(url)
        self._port = _port(self._parts)
        self._password = password or unquote(self._parts.password or "")
        self._url = _without_password(self._parts)
        self._program, self._inherited = program, inherited
        self._answer_seconds, self._transfer_seconds = answer_seconds, transfer_seconds

    @property
    def name(self) -> str:
        return self._url

    @contextmanager
    def mirror(self) -> Iterator[_Mirror]:
        with Git(self._program, password=self._password, inherited=self._inherited) as git:
            self._look(git)
            folder = git.home / "mirror.git"
            done = git.run(
                "clone", "--mirror", "--quiet", "--template=", "--", self._url, str(folder),
                seconds=self._transfer_seconds,
            )  # fmt: skip
            if done.status:
                raise self._unreadable(done)
            yield _Mirror(git, folder, self._url, self._transfer_seconds)

    def _look(self, git: Git) -> None:
        """A server that hangs or refuses is found out before the long wait for a transfer."""
        try:
            done = git.run("ls-remote", "--quiet", "--", self._url, seconds=self._answer_seconds)
        except Unavailable as error:
            raise self._silent() from error
        if done.status == 0:
            return
        if git.asked_for_password:
            raise self._refused_password()
        raise self._unreadable(done)

    def _unreadable(self, done: Outcome) -> LeewardError:
        port = self._port or PORTS.get(self._parts.scheme)
        if port and not _reachable(self._parts.hostname or "", port):
            return self._silent()
        return NotReady(
            f"expected to read the repository {self._url}, git said: {done.said}",
            code="repository-unreadable",
            hint="Look whether it exists under this url and this account may read it.",
        )

    def _silent(self) -> LeewardError:
        return Unavailable(
            f"expected an answer from {self._url}, found none",
            hint="Look whether its server runs, and whether this machine's network reaches it.",
        )

    def _refused_password(self) -> LeewardError:
        if self._password:
            return NotReady(
                f"expected {self._url} to accept the user and password, it refused them",
                code="credentials-refused",
                hint="Correct the user or the token in the component's secret.",
            )
        return NotReady(
            f"expected to read {self._url} without a password, it asks for one",
            code="credentials-needed",
            hint="Put a token that may read it into the component's secret.",
        )


class _Mirror:
    """The port RepositoryMirror on a bare clone."""

    def __init__(self, git: Git, folder: Path, url: str, seconds: float) -> None:
        self._git, self._folder, self._url, self._seconds = git, folder, url, seconds

    def facts(self) -> RepositoryFacts:
        refs = self._refs()
        if not refs:
            raise NotReady(
                f"expected commits in {self._url}, found an empty repository",
                code="repository-empty",
                hint="Correct the url, or leave the component out until there is something in it.",
            )
        head = self._ask("symbolic-ref", "--quiet", "HEAD").strip()
        head = head if head in refs else ""
        return RepositoryFacts(
            source=self._url,
            head=head,
            refs=refs,
            object_format=self._ask("rev-parse", "--show-object-format").strip(),
            submodules=self._submodules() if head else (),
            uses_lfs=bool(head) and self._uses_lfs(),
        )

    def bundle(self) -> Iterator[bytes]:
        return self._git.stream(
            "bundle", "create", "--quiet", "-", "--all", folder=self._folder, seconds=self._seconds
        )

    def _refs(self) -> dict[str, str]:
        lines = self._ask("for-each-ref", "--format=%(objectname) %(refname)").splitlines()
        return {name: oid for oid, name in (line.split(" ", 1) for line in lines)}

    def _submodules(self) -> tuple[str, ...]:
        said = self._ask("config", "-z", "--blob", "HEAD:.gitmodules", "--get-regexp", r"\.path$")
        return tuple(item.partition("\n")[2] for item in said.split("\0") if item)

    def _uses_lfs(self) -> bool:
        places = ("--", ".gitattributes", "*/.gitattributes")
        done = self._git.run(
            "grep", "--quiet", "-F", "filter=lfs", "HEAD", *places, folder=self._folder
        )
        return done.status == 0

    def _ask(self, *arguments: str) -> str:
        """What git answers; nothing when there is no such thing."""
        output = self._git.run(*arguments, folder=self._folder).output
        return output.decode("utf-8", "surrogateescape")


def _parse(url: str) -> SplitResult:
    found = SCP_FORM.fullmatch(url)
    if found and "://" not in url:
        return urlsplit(f"ssh://{found['user'] or ''}{found['host']}/{found['path']}")
    parts = urlsplit(url)
    if parts.scheme not in {*PORTS, "file"} or bool(parts.hostname) == (parts.scheme == "file"):
        raise BadInput(
            "expected a url https://, ssh://, git:// or file://, found another",
            code="bad-git-url",
            hint="Write it as https://host/path.git; the token belongs into the secret.",
        )
    return parts


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise BadInput(
            "expected a number from 1 to 65535 as the port in the url, found another",
            code="bad-git-url",
            hint="Correct the port, or leave it out.",
        ) from error


def _without_password(parts: SplitResult) -> str:
    place = parts.netloc.rpartition("@")[2]
    user = parts.username or ("git" if parts.password and parts.scheme != "ssh" else "")
    return parts._replace(netloc=f"{user}@{place}" if user else place).geturl()


def _reachable(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
