"""What a rule found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Severity = Literal["error", "warning", "note"]
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Finding:
    """One contradiction, gap or risk in a plan.

    path: where in the YAML. message: what is promised and what follows, in lower case.
    hint: how to mend it, one sentence. accepted: the plan lives with it, with a reason.
    """

    rule: str
    severity: Severity
    path: Path
    message: str
    hint: str
    accepted: bool = False

    def as_accepted(self) -> Finding:
        return replace(self, accepted=True)


def show_path(path: Path) -> str:
    """("components", "db", "backups", 0) -> "components.db.backups.0"."""
    return ".".join(str(part) for part in path)
