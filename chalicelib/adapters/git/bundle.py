"""git's own programs on a bundle: its refs, a clone, every object checked."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from chalicelib.adapters.git.process import Git, Outcome
from chalicelib.errors import BadInput, Damaged, NotReady
from chalicelib.plan.bundles import BRANCHES, RepositoryFacts
from chalicelib.plan.spelling import first_alike, names_alike

HINT = "Restore from an older recovery point."
# Bits of fsck's exit status. Source: git 2.39, builtin/fsck.c, ERROR_*.
FSCK_OBJECT = 1


class GitBundles:
    """The port BundleTools."""

    def __init__(self, program: str = "git", *, seconds: float = 3600) -> None:
        self._program, self._seconds = program, seconds

    def heads(self, bundle: Path) -> dict[str, str]:
        with Git(self._program) as git:
            said = self._demand(git, "bundle", "list-heads", str(bundle)).output
        lines = said.decode("utf-8", "surrogateescape").splitlines()
        return {name: oid for oid, name in (line.split(" ", 1) for line in lines)}

    def prove(self, bundle: Path, refs: Mapping[str, str]) -> str:
        with Git(self._program) as git, _scratch() as folder:
            self._fetch_all(git, bundle, folder, refs)
            done = git.run("fsck", "--full", "--no-progress", folder=folder, seconds=self._seconds)
        if done.status & ~FSCK_OBJECT:
            raise Damaged(
                f"expected every object that the refs lead to, git fsck said: {done.said}",
                code="objects-missing",
                hint=HINT,
            )
        # Objects that git would not make today: their ids were computed again all the same.
        return f"git fsck on the form of objects: {done.said}" if done.status else ""

    def mirror(self, bundle: Path, folder: Path, facts: RepositoryFacts) -> None:
        with Git(self._program) as git:
            self._fetch_all(git, bundle, folder, facts.refs)
            if facts.head:
                self._demand(git, "symbolic-ref", "HEAD", facts.head, folder=folder)
            self._demand(git, "remote", "add", "origin", facts.source, folder=folder)

    def clone(self, bundle: Path, folder: Path, facts: RepositoryFacts, revision: str) -> str:
        with Git(self._program) as git:
            self._demand(git, "init", "--quiet", "--template=", *_format(facts), str(folder))
            self._demand(git, "remote", "add", "origin", facts.source, folder=folder)
            shown = (it for it in facts.refs if it.startswith((BRANCHES, "refs/tags/")))
            self._require_apart(git, folder, shown)
            wanted = (f"+{BRANCHES}*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
            self._demand(git, "fetch", "--quiet", str(bundle), *wanted, folder=folder)
            branch, oid = facts.find(revision)
            if branch:
                track = ("-B", branch, "--track", f"refs/remotes/origin/{branch}")
                self._check_out(git, folder, *track)
            else:
                commit = self._find(git, folder, oid or revision)
                self._check_out(git, folder, "--detach", commit)
            return self._find(git, folder, "HEAD")

    def _fetch_all(self, git: Git, bundle: Path, folder: Path, refs: Mapping[str, str]) -> None:
        """A bare repository with every ref of the bundle; each object's id is computed again."""
        sized = ("--object-format=sha256",) if _is_long(refs) else ()
        self._demand(git, "init", "--quiet", "--bare", "--template=", *sized, str(folder))
        self._demand(git, "bundle", "verify", "--quiet", str(bundle), folder=folder)
        self._require_apart(git, folder, refs)
        self._demand(git, "fetch", "--quiet", str(bundle), "+refs/*:refs/*", folder=folder)
        said = self._demand(git, "for-each-ref", "--format=%(objectname) %(refname)", folder=folder)
        lines = said.output.decode("utf-8", "surrogateescape").splitlines()
        found = {name: oid for oid, name in (line.split(" ", 1) for line in lines)}
        differing = sorted(it for it in found.keys() | refs if found.get(it) != refs.get(it))
        if differing:
            name = differing[0]
            raise Damaged(
                f"expected {len(refs)} refs as they were noted, {len(differing)} differ: {name} "
                f"is {found.get(name, 'missing')}, was {refs.get(name, 'not there')}",
                code="refs-differ",
                hint=HINT,
            )

    def _check_out(self, git: Git, folder: Path, *what: str) -> None:
        """All objects are there: what fails now is the disk's doing, not the bundle's."""
        done = git.run("checkout", "--quiet", *what, folder=folder, seconds=self._seconds)
        if done.status:
            raise NotReady(
                f"expected the files of a commit to be written, git said: {done.said}",
                code="not-checked-out",
                hint="Restore onto another disk, or one with a file system that takes any name.",
            )
        listed = self._demand(git, "ls-files", "-z", folder=folder).output
        names = listed.decode("utf-8", "surrogateescape").split("\0")[:-1]
        self._require_apart(git, folder, names)

    def _require_apart(self, git: Git, folder: Path, names: Iterable[str]) -> None:
        """git itself writes one over the other and ends with status 0; `init` found out whether
        the file system folds names. Raises NotReady (code "names-alike")."""
        asked = ("config", "--type=bool", "core.ignorecase")
        folds = git.run(*asked, folder=folder).output.strip() == b"true"
        if folds and (alike := first_alike(names)):
            raise names_alike(*alike, folder.parent.parent)

    def _find(self, git: Git, folder: Path, revision: str) -> str:
        """A branch that is not checked out is known as origin's alone."""
        for name in (revision, f"origin/{revision}"):
            words = ("--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
            done = git.run("rev-parse", *words, folder=folder)
            if done.status == 0:
                return done.output.decode().strip()
        raise BadInput(
            f"expected a branch, tag or commit, found none {revision!r} in the point",
            code="unknown-revision",
            hint="Name one that was there when the point was taken.",
        )

    def _demand(self, git: Git, *arguments: str, folder: Path | None = None) -> Outcome:
        done = git.run(*arguments, folder=folder, seconds=self._seconds)
        if done.status:
            raise Damaged(
                f"expected a bundle that git {arguments[0]} takes, it said: {done.said}",
                code="bundle-unreadable",
                hint=HINT,
            )
        return done


def _format(facts: RepositoryFacts) -> tuple[str, ...]:
    """git before 2.29 does not know the option, and nothing but sha1."""
    return (f"--object-format={facts.object_format}",) if facts.object_format != "sha1" else ()


def _is_long(refs: Mapping[str, str]) -> bool:
    return any(len(oid) == 64 for oid in refs.values())


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lw-bundle-") as folder:
        yield Path(folder) / "repository.git"
