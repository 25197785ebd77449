"""Records of an accidental deletion: what it took, what came back, who may no longer delete."""

from __future__ import annotations

from typing import Any

from chalicelib.evidence.entries import Entry


def scope_found(*, rows: dict[str, Any] | None, objects: dict[str, Any] | None) -> Entry:
    """What was deleted, when, and by whom as far as anything tells."""
    return Entry("deletion-scope", {"rows": rows, "objects": objects})


def rows_back(*, component: str, back: dict[str, Any], aside: str) -> Entry:
    """Rows that are in the component again; what may not go in lies in `aside`."""
    return Entry("rows-back", {"component": component, **back, "object": aside})


def objects_back(*, component: str, counts: dict[str, int], proof: dict[str, Any]) -> Entry:
    """Objects that can be read again. `counts`: keys by what was done to them."""
    return Entry("objects-back", {"component": component, "counts": counts, "proof": proof})


def access_tightening(*, component: str, before: dict[str, Any], undo: str) -> Entry:
    """What is about to be changed, as it stands before."""
    return Entry("access-tightening", {"component": component, "before": before, "undo": undo})


def access_tightened(*, component: str, who: str, what: str, undo: str) -> Entry:
    """`who` may no longer do `what`; `undo` says how a person gives it back."""
    return Entry(
        "access-tightened", {"component": component, "who": who, "what": what, "undo": undo}
    )
