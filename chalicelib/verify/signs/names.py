"""What an attack does to names: a new ending for everything, a note in every folder."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.plan.records import Record
from chalicelib.plan.signs import BucketEvent, Sign
from chalicelib.verify.signs.kinds import ending, promise

# An ending is known once it was first seen a week ago, or in the bucket's first week.
KNOWN_AFTER = timedelta(days=7)
# Fewer are somebody's new kind of file.
LEAST_KEYS = 20
LEAST_APPENDED = 10
LEAST_NOTE_FOLDERS = 3
MOST_ENDINGS = 300
MOST_NOTES = 50
NOTE_BYTES = 65536
# Source: names of the notes of families that docs/ransomware.md lists.
_NOTE_NAME = re.compile(
    r"(decrypt|ransom|recover|restore|unlock|how.{0,3}to|your.?files|read.?me.{0,12}(now|first|!)"
    r"|all.?your|pay.?(me|us)|help.?(me|us)|!{2,})",
    re.IGNORECASE,
)
_NOTE_ENDINGS = frozenset(("", "txt", "html", "htm", "hta", "md", "rtf", "png", "url"))


@dataclass(frozen=True)
class Ending(Record):
    """An ending of keys. `writes_before`: how many writes the bucket had seen when it came.

    `appended` counts the keys that have it behind another ending, as in a.jpg.locked.
    """

    first_at: datetime
    count: int
    writes_before: int
    appended: int = 0


@dataclass(frozen=True)
class Note(Record):
    """A name that ransom notes have, and the folders (at most 20) in which it appeared."""

    first_at: datetime
    folders: tuple[str, ...]
    says_so: bool = False


def is_note_name(key: str, size_bytes: int | None) -> bool:
    """Small, of a kind that a person opens, and called as such notes are."""
    name = posixpath.basename(key)
    small = size_bytes is None or size_bytes <= NOTE_BYTES
    return small and ending(key) in _NOTE_ENDINGS and _NOTE_NAME.search(name) is not None


def count_endings(
    known: dict[str, Ending], events: Sequence[BucketEvent], writes_before: int
) -> dict[str, Ending]:
    """`known` with the endings of these writes counted; at most `MOST_ENDINGS`, the rarest go."""
    found = dict(known)
    for number, event in enumerate(events):
        end = ending(event.key)
        if not end or len(end) > 32:
            continue
        old = found.get(end) or Ending(event.at, 0, writes_before + number)
        inner = ending(event.key[: -len(end) - 1])
        appended = old.appended + (promise("x." + inner) != "" if inner else 0)
        first = min(old.first_at, event.at)
        found[end] = Ending(first, old.count + 1, old.writes_before, appended)
    if len(found) <= MOST_ENDINGS:
        return found
    kept = sorted(found, key=lambda end: found[end].count, reverse=True)[:MOST_ENDINGS]
    return {end: found[end] for end in kept}


def find_drift(
    endings: dict[str, Ending], writes: int, *, since: datetime, now: datetime
) -> list[Sign]:
    """Endings that this bucket never had and that most new keys have now.

    Args:
        writes: how many the bucket has seen in all.
        since: when the watch began; endings of its first week are known.
    """
    return [
        sign
        for end, it in endings.items()
        if not is_known_ending(it, since, now) and (sign := _drift(end, it, writes)) is not None
    ]


def is_known_ending(it: Ending, since: datetime, now: datetime) -> bool:
    """`since`: when the watch of its bucket began."""
    return it.first_at < since + KNOWN_AFTER or it.first_at < now - KNOWN_AFTER


def _drift(end: str, it: Ending, writes: int) -> Sign | None:
    share = it.count / max(1, writes - it.writes_before)
    # A kind with a magic of its own is looked into: a.txt.gz is what it says, or content finds it.
    honest = promise("x." + end) == "magic"
    if it.appended >= LEAST_APPENDED and not honest:
        score, how = 0.65, f"{it.appended} of them behind the ending that they had"
    elif it.count >= LEAST_KEYS and share >= 0.5:
        score, how = 0.2 if honest else 0.5, f"{share:.0%} of what was written since"
    else:
        return None
    return Sign(
        "extension-drift", "names", score, f"*.{end}", it.first_at,
        f"{it.count} new keys end in .{end}, which this bucket never had; {how}",
        {"ending": end, "keys": it.count, "appended": it.appended, "share": round(share, 3)},
    )  # fmt: skip


def count_notes(
    known: dict[str, Note], events: Iterable[BucketEvent], say_so: frozenset[str]
) -> dict[str, Note]:
    """`say_so`: keys whose content has the words of a note; they count whatever their name."""
    found = dict(known)
    for event in events:
        says = event.key in say_so and ending(event.key) in _NOTE_ENDINGS
        if not says and not is_note_name(event.key, event.size_bytes):
            continue
        folder, name = posixpath.split(event.key)
        old = found.get(name) or Note(event.at, ())
        folders = tuple(sorted({*old.folders, folder}))[:20]
        found[name] = Note(min(old.first_at, event.at), folders, old.says_so or says)
    return dict(sorted(found.items(), key=lambda item: item[1].first_at)[-MOST_NOTES:])


def find_notes(notes: dict[str, Note], *, now: datetime) -> list[Sign]:
    return [
        sign
        for name, it in notes.items()
        if it.first_at > now - KNOWN_AFTER and (sign := _note(name, it)) is not None
    ]


def _note(name: str, it: Note) -> Sign | None:
    several = len(it.folders) >= LEAST_NOTE_FOLDERS
    if not several and not it.says_so:
        return None
    score = {(True, True): 0.9, (False, True): 0.5}.get((several, it.says_so), 0.6)
    words = "has the words of a ransom note" if it.says_so else "is called like a ransom note"
    return Sign(
        "ransom-note", "names", score, name, it.first_at,
        f"{name} {words}; it was written into {len(it.folders)} folders",
        {"folders": list(it.folders[:5]), "says_so": it.says_so},
    )  # fmt: skip
