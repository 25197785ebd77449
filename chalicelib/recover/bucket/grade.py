"""How much of a restore is proven, in words that say what nobody has looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from chalicelib.plan.records import Record, format_time
from chalicelib.plan.signs import SeenRule
from chalicelib.recover.bucket.witness import SHOWN, Witnessed

Level = Literal["proven", "versions-alone", "not-proven"]
NEAR = timedelta(days=2)
"""How old the inventory before the moment may be: one is taken each night, and one may fail."""


@dataclass(frozen=True)
class Grade(Record):
    """`why`: one sentence that stands beside the level, never less than what is not known."""

    level: Level
    why: str

    @property
    def ok(self) -> bool:
        return self.level == "proven"


def grade_restore(
    *,
    as_listed: bool,
    testimony: Witnessed,
    to_at: datetime,
    rules: tuple[SeenRule, ...] = (),
) -> Grade:
    """What may be said of a restore. Pure.

    Args:
        as_listed: every key is what the list of versions says that it was.
        testimony: without the versions that were brought back and compared.
        rules: those that may have removed versions of the moment.
    """
    if not as_listed:
        return Grade("not-proven", "keys are not what the versions of the moment say")
    if testimony.vanished or testimony.revived:
        return Grade("not-proven", _unaccounted(testimony))
    before = testimony.before_at
    if before is not None and before >= to_at - NEAR:
        return Grade("proven", _witnessed(testimony, before, to_at))
    if rules:
        return Grade("not-proven", f"{tell_rule(rules[0])}, and {_nobody(testimony)}")
    return Grade("versions-alone", _nobody(testimony))


def rules_in_reach(
    rules: tuple[SeenRule, ...], *, prefix: str, to_at: datetime
) -> tuple[SeenRule, ...]:
    """Those that may have removed, when they were seen, what was current at the moment. Pure.

    It was replaced after the moment, and a rule counts from there.
    """
    return tuple(
        rule
        for rule in rules
        if rule.until_at - to_at >= timedelta(days=rule.days)
        and (rule.prefix.startswith(prefix) or prefix.startswith(rule.prefix))
    )


def tell_rule(rule: SeenRule) -> str:
    below = f" below {rule.prefix!r}" if rule.prefix else ""
    return (
        f"a rule that removes versions{below} {rule.days} days after they were replaced was seen"
        f" from {format_time(rule.from_at)} to {format_time(rule.until_at)}"
    )


def tell_vanished(testimony: Witnessed) -> str:
    """ "" when nothing has vanished."""
    if not testimony.vanished:
        return ""
    named = ", ".join(repr(one.key) for one in testimony.vanished[:SHOWN])
    more = len(testimony.vanished) - SHOWN
    rest = f" and {more} more" if more > 0 else ""
    points = sorted({one.point_id for one in testimony.vanished})
    return (
        f"{len(testimony.vanished)} versions that {' and '.join(points)} names are gone for good:"
        f" {named}{rest}"
    )


def _unaccounted(testimony: Witnessed) -> str:
    said = [tell_vanished(testimony)] if testimony.vanished else []
    if testimony.revived:
        named = ", ".join(repr(key) for key in testimony.revived_keys)
        said.append(
            f"{testimony.revived} objects were deleted at the inventory before the moment, and"
            f" their delete markers are gone since, so that nobody knows whether they were there"
            f" then: {named}"
        )
    return "; ".join(said)


def _witnessed(testimony: Witnessed, before: datetime, to_at: datetime) -> str:
    after = testimony.after_at
    later = f" and of {format_time(after)}" if after else ""
    until = f"before {format_time(after)}" if after else "since"
    return (
        f"all {testimony.seen} versions that the inventory of {format_time(before)}{later} names"
        f" are accounted for, and every version listed since; what was written after"
        f" {format_time(before)} and removed for good {until}, no inventory has seen"
    )


def _nobody(testimony: Witnessed) -> str:
    if testimony.before_at is None:
        return (
            "as the list of versions says; no inventory from before the moment witnesses that no"
            " version was removed"
        )
    return (
        "as the list of versions says; the inventory before the moment is of"
        f" {format_time(testimony.before_at)}, too old to witness that no version was removed"
    )
