"""Records of an attack: what was isolated, how it began, what of it is kept; see entries.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chalicelib.evidence.entries import Entry


def isolating(cut: dict[str, Any]) -> Entry:
    """A barrier is about to be raised; `before` is what stands now, and `undo` the way back."""
    named = ("component", "kind", "target", "why", "before", "undo")
    return Entry("isolating", {name: cut[name] for name in named})


def isolated(cut: dict[str, Any]) -> Entry:
    """A barrier stands. `made`: ids of what it left behind."""
    named = ("component", "kind", "target", "found", "made", "undo")
    return Entry("isolated", {name: cut[name] for name in named})


def lifted(*, component: str, kind: str, target: str, found: str) -> Entry:
    """A barrier was taken down."""
    return Entry("lifted", {"component": component, "kind": kind, "target": target, "found": found})


def infection_found(infection: dict[str, Any]) -> Entry:
    """How an attack began: Infection as JSON."""
    return Entry("infection", infection)


def forensics_kept(
    *, manifest: str, sha256: str, counts: dict[str, int], left: Iterable[str]
) -> Entry:
    """What was kept of an attack. `manifest`: its object, with the digest of each item; `left`:
    what could not be kept."""
    return Entry(
        "forensics",
        {"manifest": manifest, "sha256": sha256, "counts": counts, "left": list(left)},
    )
