"""What people say of an incident afterwards, read from the chain `review-<incident>`.

    review-written  a heading's words; the ones before stay in the chain, the last ones count
    action-added, action-ended
    review-finished version n, with the heads of all three chains; what comes after it is for n + 1

Pure: the same chain gives the same review.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.evidence.body import count_of, last_body, objects_of, text_of
from chalicelib.plan.questions import Asked
from chalicelib.plan.records import EvidenceRecord, Record

WRITTEN, FINISHED = "review-written", "review-finished"
ADDED, ENDED = "action-added", "action-ended"
# The other chains, and in which folder of a sealed review their records are.
INCIDENT_FOLDER, PEOPLE_FOLDER = "incident", "people"


@dataclass(frozen=True)
class Words(Record):
    """What somebody wrote under a heading."""

    text: str
    by: str
    written_at: datetime


@dataclass(frozen=True)
class Head(Record):
    """Where a chain ended: its stream, how many records, the digest of the last ("" of none)."""

    stream: str
    folder: str
    length: int
    head: str


@dataclass(frozen=True)
class Finished(Record):
    """A version of the review. `previous_sha256`: of the bundle of the version before, "" of none.
    `incident_sha256`: of the incident's own bundle, "" when it was not sealed."""

    version: int
    by: str
    finished_at: datetime
    seq: int
    chains: tuple[Head, ...]
    incident_sha256: str
    previous_sha256: str


@dataclass(frozen=True)
class ActionSeen:
    """An action as the chain tells it. `status`: open, done, dropped."""

    id: str
    what: str
    owner: str
    due_on: str
    status: str
    by: str
    says: str


@dataclass(frozen=True)
class Review:
    """words: by the name of the heading, the oldest first. changed: after the last version."""

    words: Mapping[str, tuple[Words, ...]]
    actions: tuple[ActionSeen, ...]
    versions: tuple[Finished, ...]
    changed: bool

    def text(self, name: str) -> str:
        """The words that count, "" when nobody wrote any."""
        said = self.words.get(name, ())
        return said[-1].text if said else ""


def read_review(chain: Sequence[EvidenceRecord]) -> Review:
    words: dict[str, tuple[Words, ...]] = {}
    for record in chain:
        if record.kind == WRITTEN:
            name, text = text_of(record.body, "field"), text_of(record.body, "text")
            said = Words(text, record.actor, record.at)
            words[name] = (*words.get(name, ()), said)
    return Review(
        words=words,
        actions=tuple(_actions(chain)),
        versions=tuple(_version(record) for record in chain if record.kind == FINISHED),
        changed=bool(chain) and chain[-1].kind != FINISHED,
    )


def missing_in(review: Review, asked: Iterable[Asked]) -> list[Asked]:
    """Required headings under which nobody wrote."""
    return [it for it in asked if it.required and not review.text(it.name)]


def finished_body(
    *, version: int, chains: Iterable[Head], incident_sha256: str, previous_sha256: str
) -> dict[str, Any]:
    return {
        "version": version,
        "chains": [it.to_json() for it in chains],
        "incident_sha256": incident_sha256,
        "previous_sha256": previous_sha256,
    }


def chains_in(chain: Sequence[EvidenceRecord]) -> tuple[Head, ...]:
    """The other chains that the last version in this one names; () when it has none."""
    return _heads(last_body(chain, FINISHED))


def head_of(stream: str, folder: str, chain: Sequence[EvidenceRecord]) -> Head:
    return Head(stream, folder, len(chain), chain[-1].digest if chain else "")


def _heads(body: dict[str, Any]) -> tuple[Head, ...]:
    return tuple(
        Head(
            text_of(it, "stream"),
            text_of(it, "folder"),
            count_of(it, "length") or 0,
            text_of(it, "head"),
        )
        for it in objects_of(body, "chains")
    )


def _version(record: EvidenceRecord) -> Finished:
    return Finished(
        version=count_of(record.body, "version") or 0,
        by=record.actor,
        finished_at=record.at,
        seq=record.seq,
        chains=_heads(record.body),
        incident_sha256=text_of(record.body, "incident_sha256"),
        previous_sha256=text_of(record.body, "previous_sha256"),
    )


def _actions(chain: Sequence[EvidenceRecord]) -> list[ActionSeen]:
    ended = {text_of(it.body, "action"): it for it in chain if it.kind == ENDED}
    found = []
    for record in (it for it in chain if it.kind == ADDED):
        name = text_of(record.body, "action")
        last = ended.get(name)
        found.append(
            ActionSeen(
                id=name,
                what=text_of(record.body, "what"),
                owner=text_of(record.body, "owner"),
                due_on=text_of(record.body, "due_on"),
                status=text_of(last.body, "to", "open") if last else "open",
                by=last.actor if last else "",
                says=text_of(last.body, "says") if last else "",
            )
        )
    return found
