"""What is asked of people after an incident: the plan's own headings, and what each of them means.

The words are the owner's (`post_incident`). What a heading means (its cause, its lessons) follows
from the words in it, so that a lesson can be found again whatever the plan calls it.

Pure: reads no clock, calls nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from chalicelib.plan.people import PostIncident
from chalicelib.plan.records import Record

Meaning = Literal[
    "timeline", "cause", "impact", "resolution", "lessons", "improvement", "compensation", "other"
]
Group = Literal["report", "improvements", "customers"]

# The first of them that stands in the heading counts.
_WORDS: tuple[tuple[str, Meaning], ...] = (
    ("timeline", "timeline"),
    ("time line", "timeline"),
    ("cause", "cause"),
    ("impact", "impact"),
    ("lesson", "lessons"),
    ("compensation", "compensation"),
    ("resolution", "resolution"),
    ("remediation", "resolution"),
)
# A heading with one of these in it may stay empty.
_MAY_STAY_EMPTY = ("if applicable", "optional", "if any")

# Where the plan has none. Source: the columns of Artist Tech's lessons-learned log, and what Nexus
# Studio's post-incident procedures tell customers.
DEFAULT = PostIncident(
    report=("Cause", "Impact", "Resolution", "Lessons"),
    customer_communication=("What customers were told", "Compensation (if applicable)"),
)
# What helps to answer.
PROMPTS: dict[Meaning, tuple[str, ...]] = {
    "timeline": ("The records below are the time line. Is anything missing in it?",),
    "cause": ("What made it possible?", "What set it off?", "Why was it not found earlier?"),
    "impact": (
        "Who was affected, since when and until when?",
        "What could they not do?",
        "Was personal data lost or disclosed (GDPR Art. 33: 72 hours)?",
    ),
    "resolution": ("What was done, and what follows?",),
    "lessons": ("What went well?", "What did not?", "Where were we lucky?"),
    "improvement": ("What is to be done, by whom, until when? (leeward action add)",),
    "compensation": ("To whom, how much, and who decided it?",),
    "other": (),
}


@dataclass(frozen=True)
class Asked(Record):
    """One thing to fill in. `name` is the heading's, in lower case with hyphens, unique.

    `required`: the review cannot be finished without it.
    """

    name: str
    heading: str
    group: Group
    meaning: Meaning
    required: bool

    @property
    def prompts(self) -> tuple[str, ...]:
        return PROMPTS[self.meaning]


def asked_after(post: PostIncident, *, drill: bool = False) -> tuple[Asked, ...]:
    """What is asked after an incident, in the plan's order.

    A time line is not required, as it is made from the records; nor is, after a drill, what
    customers were told: they were told nothing.
    """
    chosen = post if post.report else DEFAULT
    found = [
        *_of_group("report", chosen.report),
        *_of_group("improvements", chosen.improvements),
        *_of_group("customers", chosen.customer_communication),
    ]
    return tuple(_unique(found, drill))


def _of_group(group: Group, headings: Iterable[str]) -> Iterator[Asked]:
    for heading in headings:
        meaning = "improvement" if group == "improvements" else _meaning(heading)
        required = meaning != "timeline" and not any(
            word in heading.lower() for word in _MAY_STAY_EMPTY
        )
        yield Asked(name_of(heading), heading, group, meaning, required)


def _unique(found: list[Asked], drill: bool) -> Iterator[Asked]:
    taken: set[str] = set()
    for it in found:
        name, number = it.name, 2
        while name in taken:
            name, number = f"{it.name}-{number}", number + 1
        taken.add(name)
        required = it.required and not (drill and it.group == "customers")
        yield Asked(name, it.heading, it.group, it.meaning, required)


def _meaning(heading: str) -> Meaning:
    lower = heading.lower()
    return next((meaning for word, meaning in _WORDS if word in lower), "other")


def name_of(heading: str) -> str:
    """ "Compensation (if applicable)" -> "compensation"."""
    plain = re.sub(r"\([^)]*\)", " ", heading.lower())
    return "-".join(re.findall(r"[a-z0-9]+", plain)) or "field"
