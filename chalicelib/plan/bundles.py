"""A git repository as a recovery point: a bundle of every ref, and what the refs were.

repository.bundle    what `git clone repository.bundle` takes
refs.json            RepositoryFacts
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chalicelib.plan.records import Record

FORMAT = "leeward-bundle-1"
BUNDLE_NAME = "repository.bundle"
FACTS_NAME = "refs.json"
BRANCHES = "refs/heads/"
TAGS = "refs/tags/"


@dataclass(frozen=True)
class RepositoryFacts(Record):
    """source: the url, without a password. head: the branch that HEAD names, "" when it names no
    commit. refs: full name -> object id. submodules: paths of those of `head`, which are
    repositories of their own and not in the bundle. uses_lfs: large files of `head` lie
    elsewhere and are not in it either."""

    source: str
    head: str
    refs: dict[str, str]
    object_format: str
    submodules: tuple[str, ...] = ()
    uses_lfs: bool = False
    format: str = FORMAT

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RepositoryFacts:
        """Raises TypeError when it is none."""
        facts = super().from_json(data)
        if facts.format != FORMAT:
            raise TypeError(f"format {facts.format!r}")
        return facts

    def find(self, revision: str) -> tuple[str, str]:
        """(branch, object id) of a ref by its short or full name; "" for what it is not.

        No revision means the branch of HEAD. A name that is neither stays ("", "").
        """
        wanted = revision or self.head
        for name in (wanted, BRANCHES + wanted, TAGS + wanted):
            if name in self.refs:
                branch = name.removeprefix(BRANCHES) if name.startswith(BRANCHES) else ""
                return branch, self.refs[name]
        return "", ""
