"""What a person must see first: is anything on fire, what waits for me, are we ready?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from chalicelib.evidence.text import counted
from chalicelib.pages.words import READINESS, RPO, UNKNOWN, Mark, mark

Json = dict[str, Any]


@dataclass(frozen=True)
class Headline:
    """One of the three answers. `tone` as in words.py; `where`: the part of the page that tells."""

    question: str
    answer: str
    says: str
    tone: str
    shape: str
    where: str


def headlines(seen: Json, person: str) -> tuple[Headline, Headline, Headline]:
    """Args: seen: {"incidents", "alarms", "approvals", "readiness", "rpo"} as `show` tells them."""
    return (
        _fire(seen["incidents"], seen["alarms"]),
        _waiting(seen["approvals"], person),
        _ready(seen["readiness"]["components"], seen["rpo"]["components"]),
    )


def _fire(incidents: list[Json], alarms: Json) -> Headline:
    real = [it for it in incidents if not it["drill"]]
    drills = len(incidents) - len(real)
    aside = f"{counted(drills, 'drill')} under way" if drills else ""
    raised = f"{counted(len(alarms['alarms']), 'alarm')} raised" if alarms["alarms"] else ""
    if not alarms["known"]:
        raised = "nobody has looked which alarms are raised"
    aside = "; ".join(filter(None, [aside, raised]))
    if not real and raised:
        tone, shape = ("warn", "warn") if alarms["known"] else ("bad", "unknown")
        return Headline("Incidents", "None open", aside, tone, shape, "#alarms")
    if not real:
        tone, shape = ("live", "live") if drills else ("good", "good")
        return Headline("Incidents", "None open", aside, tone, shape, "#incidents")
    worst = min(real, key=lambda it: str(it["severity"] or "~"))
    says = f"{worst['scenario']}, {worst['component']}"
    answer = f"{len(real)} open"
    return Headline("Incidents", answer, "; ".join(filter(None, [says, aside])), "bad", "warn",
                    "#incidents")  # fmt: skip


def _waiting(approvals: list[Json], person: str) -> Headline:
    mine = [it for it in approvals if may_answer(it, person)]
    if mine:
        says = f"{mine[0]['step']}: {mine[0]['says']}"
        return Headline("Waits for you", counted(len(mine), "answer"), says, "warn", "waiting",
                        "#waiting")  # fmt: skip
    others = f"{counted(len(approvals), 'answer')} of others" if approvals else ""
    return Headline("Waits for you", "Nothing", others, "good", "good", "#waiting")


def may_answer(question: Json, person: str) -> bool:
    """Whether it is this person's to answer, and they have not yet."""
    return person in question["people"] and person not in question["by"]


def _ready(readiness: list[Json], rpo: list[Json]) -> Headline:
    judged = [it for it in readiness if it["level"] != "no-copies"]
    ready = [it for it in judged if it["level"] == "ready"]
    late = [it["component"] for it in rpo if it["level"] in ("over", "unknown")]
    told = f"{len(ready)} of {len(judged)} proven"
    if not judged:
        return Headline("Ready to recover", "Unknown", "the plan copies nothing", "bad", "unknown",
                        "#components")  # fmt: skip
    free = [it["component"] for it in rpo if it["level"] == "not-promised"]
    within = f"no RPO promised: {', '.join(free)}" if free else "all within their RPO"
    says = f"over RPO or unknown: {', '.join(late)}" if late else within
    good = len(ready) == len(judged) and not late
    tone, shape = ("good", "good") if good else ("bad", "bad")
    return Headline("Ready to recover", told, says, tone, shape, "#components")


@dataclass(frozen=True)
class ComponentRow:
    """A component with what is known of its copies; `rpo` is None when it has none."""

    ready: Json
    rpo: Json | None

    @property
    def mark(self) -> Mark:
        return mark(READINESS, self.ready["level"])

    @property
    def rpo_mark(self) -> Mark:
        return mark(RPO, self.rpo["level"]) if self.rpo else UNKNOWN


def component_rows(seen: Json) -> list[ComponentRow]:
    """What is not ready first, what has no copies last."""
    rpo = {it["component"]: it for it in seen["rpo"]["components"]}
    rows = [ComponentRow(it, rpo.get(it["component"])) for it in seen["readiness"]["components"]]
    order = ("not-ready", "ready", "no-copies")
    return sorted(rows, key=lambda row: order.index(row.ready["level"]))


def with_copies(rows: Iterable[ComponentRow]) -> list[ComponentRow]:
    return [row for row in rows if row.ready["level"] != "no-copies"]
