"""How the plan itself is kept true: document, reviews, exercises, records, tools, lessons."""

from __future__ import annotations

from datetime import date
from typing import Literal

from chalicelib.plan.base import Name, PlanPart, Text
from chalicelib.plan.schedule import Schedule
from chalicelib.plan.units import Duration


class Document(PlanPart):
    """The document this plan was written as. `updated` is the owner's own words."""

    title: Text
    purpose: Text | None = None
    version: Text | None = None
    updated: Text | None = None
    owner: Text | None = None
    approved_by: tuple[Text, ...] = ()


class Review(PlanPart):
    """When the plan is looked at again. `next` is the owner's own words, a day or a month."""

    next: Text | None = None
    every: Schedule | None = None
    triggers: tuple[Text, ...] = ()
    approvers: tuple[Text, ...] = ()


ExerciseKind = Literal[
    "integrity-check",
    "spot-check",
    "restore-test",
    "failover",
    "communication",
    "full-drill",
    "security",
    "audit",
    "review",
]


class Exercise(PlanPart):
    """Something that is tried on a schedule.

    scenarios: those that a run of it covers. where: the environment, in words.
    reads_all_within: of an integrity check: how often every stored byte is read.
    leaves_out: of a restore test: components whose copies it does not restore, and why not.
    """

    kind: ExerciseKind
    says: Text
    when: Schedule
    scenarios: tuple[Name, ...] = ()
    where: Text | None = None
    manual: bool = False
    reads_all_within: Duration | None = None
    leaves_out: dict[Name, Text] = {}


class RecordKeeping(PlanPart):
    """A kind of record and how long it is kept; without `keep`, for as long as nobody says."""

    what: Text
    keep: Duration | None = None


class Compliance(PlanPart):
    """What is required from outside, and the records that show it."""

    requirements: tuple[Text, ...] = ()
    planned: tuple[Text, ...] = ()
    records: tuple[RecordKeeping, ...] = ()
    audits: tuple[Text, ...] = ()


class Tools(PlanPart):
    """Programs and services that backup, monitoring and automation rest on."""

    backup: tuple[Text, ...] = ()
    monitoring: tuple[Text, ...] = ()
    automation: tuple[Text, ...] = ()


class Security(PlanPart):
    """How backups and recoveries are guarded, in the owner's words; None where nothing is said.

    mfa: recovery operations need a second factor.
    """

    encryption: Text | None = None
    access_control: Text | None = None
    audit_log: Text | None = None
    secure_channels: Text | None = None
    mfa: Text | None = None
    clean_recovery: Text | None = None


class Appendix(PlanPart):
    """Something that the plan refers to."""

    title: Text
    says: Text | None = None
    paths: tuple[Text, ...] = ()


class Lesson(PlanPart):
    """What was learned, and what became of it."""

    says: Text
    owner: Text | None = None
    done: bool = False


class PastIncident(PlanPart):
    """An entry of the lessons-learned log. `data_lost` is how far back the restored data was."""

    title: Text
    on: date
    cause: Text
    impact: Text
    downtime: Duration | None = None
    data_lost: Duration | None = None
    resolution: Text
    lessons: tuple[Lesson, ...] = ()


class Acceptance(PlanPart):
    """A finding that is lived with: rule, where, why, and until when (that day included)."""

    rule: Text
    path: Text
    reason: Text
    until: date
