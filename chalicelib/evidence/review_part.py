"""The people's part of a final report: what they wrote under each heading, and the actions.

Pure. Words are text: a line that begins with "- " is an item of a list, an empty line begins a
paragraph, and nothing else in them is markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from chalicelib.evidence.review import ActionSeen, Finished, Review
from chalicelib.evidence.text import day_and_clock
from chalicelib.plan.questions import Asked, Group

GROUP_TITLES: dict[Group, str] = {
    "report": "What people found",
    "improvements": "What is to change",
    "customers": "What customers are told",
}
_ITEM = "- "


@dataclass(frozen=True)
class Block:
    """A paragraph, or a list."""

    lines: tuple[str, ...]
    listed: bool


@dataclass(frozen=True)
class Answer:
    """blocks: () when nobody wrote anything. earlier: versions before, which the chain has."""

    heading: str
    blocks: tuple[Block, ...]
    by: str
    at: str
    earlier: int


@dataclass(frozen=True)
class PeoplesPart:
    """groups: (title, answers). history: a line for each version."""

    version: int
    finished: str
    groups: tuple[tuple[str, tuple[Answer, ...]], ...]
    actions: tuple[ActionSeen, ...]
    history: tuple[str, ...]


def make_part(review: Review, asked: Sequence[Asked]) -> PeoplesPart:
    """Of a review whose last record is the end of a version."""
    last = review.versions[-1]
    return PeoplesPart(
        version=last.version,
        finished=f"finished by {last.by} on {day_and_clock(last.finished_at)}",
        groups=tuple(_groups(review, [*asked, *_not_asked(review, asked)])),
        actions=review.actions,
        history=tuple(_history(review.versions)),
    )


def _not_asked(review: Review, asked: Iterable[Asked]) -> list[Asked]:
    """What was written under headings that the plan had then and has no more."""
    known = {it.name for it in asked}
    gone = [name for name in review.words if name not in known]
    return [Asked(name, name, "report", "other", required=False) for name in gone]


def _groups(review: Review, asked: Iterable[Asked]) -> Iterator[tuple[str, tuple[Answer, ...]]]:
    asked = list(asked)
    for group, title in GROUP_TITLES.items():
        answers = tuple(_answer(review, it) for it in asked if it.group == group)
        shown = tuple(it for it in answers if it is not None)
        if shown:
            yield title, shown


def _answer(review: Review, asked: Asked) -> Answer | None:
    """None for what nobody had to say: the time line is the records."""
    said = review.words.get(asked.name, ())
    if not said:
        empty = Answer(asked.heading, (), "", "", 0)
        return None if asked.meaning == "timeline" else empty
    last = said[-1]
    at = day_and_clock(last.written_at)
    return Answer(asked.heading, tuple(blocks_of(last.text)), last.by, at, len(said) - 1)


def blocks_of(text: str) -> Iterator[Block]:
    """Paragraphs and lists."""
    for paragraph in _paragraphs(text):
        for listed, lines in groupby(paragraph, key=lambda line: line.startswith(_ITEM)):
            found = tuple(line.removeprefix(_ITEM).strip() for line in lines)
            yield Block(found, listed) if listed else Block((" ".join(found),), listed)


def _paragraphs(text: str) -> Iterator[list[str]]:
    lines = [line.strip() for line in text.splitlines()]
    for empty, found in groupby(lines, key=lambda line: not line):
        if not empty:
            yield list(found)


def _history(versions: Sequence[Finished]) -> Iterator[str]:
    for it in versions:
        follows = f", after the one whose seal is {it.previous_sha256}" if it.version > 1 else ""
        yield f"Version {it.version}: {it.by}, {day_and_clock(it.finished_at)}{follows}"
