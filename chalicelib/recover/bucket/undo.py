"""What takes each key of a bucket back to a moment, from its versions and delete markers alone.

    versions and markers, newest first -> KeyHistory -> decide_key -> KeyUndo

Nothing is ever deleted: a version of that moment that is no longer current is copied on top of
what replaced it, a key that did not exist gets a delete marker, and the only entries that are
removed are delete markers newer than the moment, where nothing but markers lies above the version
wanted. A key whose history is not whole is left alone and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from chalicelib.ports.buckets import VersionRow
from chalicelib.recover.bucket.history import HistoryFold, KeyHistory

Action = Literal["leave", "remove-markers", "copy", "compare", "put-marker", "thaw", "unknown"]
ACTIONS: tuple[Action, ...] = (
    "leave", "remove-markers", "copy", "compare", "put-marker", "thaw", "unknown",
)  # fmt: skip

# Must be restored before S3 copies them. Source: S3 user guide, "Working with archived objects".
ARCHIVED_CLASSES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True)
class UndoRules:
    """How to go back. `to_at`: aware UTC.

    `remove_markers` False copies a version on top of the markers above it: what was deleted when
    stays in the history, and no right to delete versions is needed (MFA delete, legal duties).
    `accept_gaps` acts on what is left where a history is not whole, instead of leaving the key.
    `undelete_until`: bring back only what was deleted after `to_at` and up to then, as it was when
    it was deleted; what is there now stays, whoever wrote it. None: everything goes back.
    `aside`: keys whose version of the moment has vanished (witness.py): what is left of their
    history would take them back to something else, so that they are left alone.
    """

    to_at: datetime
    remove_markers: bool = True
    accept_gaps: bool = False
    undelete_until: datetime | None = None
    aside: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True)
class KeyUndo:
    """What becomes of one key. `why` is a stable word, explained in docs/buckets.md."""

    history: KeyHistory
    action: Action
    why: str

    @property
    def key(self) -> str:
        return self.history.key


def decide_undo(rows: Iterable[VersionRow], rules: UndoRules) -> Iterator[KeyUndo]:
    """One decision for each key, in the order of the rows.

    Pure. Memory does not grow with the number of keys or versions.

    Args:
        rows: in the server's order: by key, and for each key the newest first, versions and
            markers in one sequence. All entries of a key must be among them.
    """
    fold = HistoryFold(rules.to_at)
    for row in rows:
        history = fold.add(row)
        if history is not None:
            yield decide_key(history, rules)
    history = fold.end()
    if history is not None:
        yield decide_key(history, rules)


def decide_key(history: KeyHistory, rules: UndoRules) -> KeyUndo:
    """What makes readers of this key get what they got then. Pure."""
    if history.key in rules.aside:
        return KeyUndo(history, "leave", "vanished")
    if rules.undelete_until is not None:
        return _undelete(history, rules.undelete_until)
    if history.gaps and not rules.accept_gaps:
        return KeyUndo(history, "unknown", history.gaps[0])
    wanted, live = history.wanted, history.live
    if history.now is history.then:
        return KeyUndo(history, "leave", "unchanged")
    if wanted is None:
        return _without(history)
    if rules.remove_markers and history.markers:
        return KeyUndo(history, "remove-markers", "deleted-since")
    if live is not None and live.size_bytes == wanted.size_bytes:
        return KeyUndo(history, "compare", "same-size")
    why = "overwritten-since" if live is not None else "deleted-since"
    return KeyUndo(history, "thaw" if is_archived(wanted) else "copy", why)


def _undelete(history: KeyHistory, until: datetime) -> KeyUndo:
    """A key that was not deleted is left alone, and so is a marker of before or after."""
    if history.live is not None:
        return KeyUndo(history, "leave", "unchanged")
    if not history.covering or history.now.modified_at > until:
        return KeyUndo(history, "leave", "absent-both")
    return KeyUndo(replace(history, markers=history.covering), "remove-markers", "deleted-since")


def _without(history: KeyHistory) -> KeyUndo:
    """For a key that nobody could read then."""
    if history.live is None:
        return KeyUndo(history, "leave", "absent-both")
    why = "created-since" if history.then is None else "recreated-since"
    return KeyUndo(history, "put-marker", why)


def is_archived(row: VersionRow) -> bool:
    return row.storage_class in ARCHIVED_CLASSES
