"""An attack in the report: who, since when, what keeps it out still, what proves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from chalicelib.evidence.body import count_of, last_body, moment_of, text_of, texts_of
from chalicelib.evidence.text import UNKNOWN, counted, day_and_clock
from chalicelib.plan.records import EvidenceRecord

Cells = tuple[str, str]


def attack_rows(run: Sequence[EvidenceRecord]) -> tuple[Cells, ...]:
    """(what, how it is) of a run that dealt with an attack; nothing of any other run."""
    infection, kept = last_body(run, "infection"), last_body(run, "forensics")
    rows = [*_began(infection)] if infection else []
    return (*rows, *_standing(run), *_kept(kept))


def _began(body: dict[str, Any]) -> Iterator[Cells]:
    vector = body.get("vector")
    vector = vector if isinstance(vector, dict) else {}
    known = {name: text_of(vector, name, UNKNOWN) for name in ("principal", "key", "address")}
    yield "Began", day_and_clock(moment_of(body, "started_at"))
    yield "Last clean moment", day_and_clock(moment_of(body, "last_clean"))
    yield "How that is known", text_of(body, "how", UNKNOWN)
    yield "Who", f"{known['principal']}, key {known['key']}, from {known['address']}"
    yield "First act", text_of(vector, "first_act", UNKNOWN)
    yield "First harm", text_of(vector, "first_harm", UNKNOWN)
    counts = body.get("counts")
    yield "What was done", _told(counts if isinstance(counts, dict) else {})
    for unknown in texts_of(body, "unknown"):
        yield "Unknown", unknown


def _told(counts: dict[str, Any]) -> str:
    named = ("written", "deleted", "versions_removed", "settings_changed", "rows")
    return ", ".join(f"{name.replace('_', ' ')}: {count_of(counts, name)}" for name in named)


def _standing(run: Sequence[EvidenceRecord]) -> Iterator[Cells]:
    """Each barrier once: lifted, or what still stands and how it is undone."""
    standing: dict[tuple[str, str, str], Cells] = {}
    for record in run:
        if record.kind not in ("isolated", "lifted"):
            continue
        body = record.body
        what = tuple(text_of(body, name, UNKNOWN) for name in ("component", "kind", "target"))
        found = text_of(body, "found", UNKNOWN)
        undo = f" STANDS; undo: {text_of(body, 'undo', UNKNOWN)}"
        said = f"{found}.{undo}" if record.kind == "isolated" else f"Lifted: {found}"
        standing[what[0], what[1], what[2]] = (f"{what[1]} of {what[2]}", said)
    yield from standing.values()


def _kept(body: dict[str, Any]) -> Iterator[Cells]:
    if not body:
        return
    counts = body.get("counts")
    items = count_of(counts, "items") if isinstance(counts, dict) else None
    snapshots = count_of(counts, "snapshots") if isinstance(counts, dict) else None
    number = f"{counted(items or 0, 'item')}, {counted(snapshots or 0, 'snapshot')}"
    yield (
        "Kept as proof",
        f"{text_of(body, 'manifest')} ({number}), SHA-256 {text_of(body, 'sha256')}",
    )
    for left in texts_of(body, "left"):
        yield "Not kept", left
