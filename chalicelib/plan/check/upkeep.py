"""Rules on keeping the plan true: proofs, exercises, thresholds, reviews, records, lessons."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from chalicelib.plan.check.finding import Path
from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.exercises import tested_components, why_unproven, why_untested
from chalicelib.plan.model import Plan
from chalicelib.plan.units import format_duration as show
from chalicelib.plan.units import parse_day
from chalicelib.plan.upkeep import Exercise

_PROVES = ("restore-test", "full-drill")
# A password between the colon and the at sign of a URL; references and stars are none.
_DSN_PASSWORD = re.compile(r"[a-z][a-z0-9+]*://[^\s:/@]+:(?![$*{<])[^\s@/]+@", re.IGNORECASE)
_PASSWORD = re.compile(r"\w*password=(?![$*{<])\S", re.IGNORECASE)
# Access keys of AWS, tokens of GitHub and Slack, keys of Google, private keys.
_KEY = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[opsu]_[0-9A-Za-z]{36}|\bxox[abprs]-[0-9A-Za-z-]{10,}"
    r"|\bAIza[0-9A-Za-z_-]{35}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
# By then versions, data and people are others.
_LONGEST_PROOF = timedelta(days=366)
_STALE_LESSON = timedelta(days=90)
_LEVELS = {"warning": 0, "critical": 1, "emergency": 2}


def find_no_restore_test(plan: Plan, now: datetime) -> Hits:
    if not any(exercise.kind in _PROVES for _, exercise in _exercises(plan)):
        yield (), "no restore test and no drill is planned: nothing ever shows that a backup works"


def find_no_proof_age(plan: Plan, now: datetime) -> Hits:
    if plan.proof_valid_for is None:
        yield (), "nothing says how long a restore test counts as proof"
    elif plan.proof_valid_for > _LONGEST_PROOF:
        age = show(plan.proof_valid_for)
        yield ("proof_valid_for",), f"a restore test counts as proof for {age}"


def find_proof_expires(plan: Plan, now: datetime) -> Hits:
    tests = [item for item in _exercises(plan) if item[1].kind in _PROVES]
    if not tests or plan.proof_valid_for is None:
        return
    path, often = min(tests, key=lambda item: item[1].when.longest_interval())
    interval = often.when.longest_interval()
    if interval > plan.proof_valid_for:
        yield (
            path,
            f"a proof counts for {show(plan.proof_valid_for)}, and the next restore test may be "
            f"{show(interval)} away: in between nothing is proven",
        )


def find_two_frequencies(plan: Plan, now: datetime) -> Hits:
    general = defaultdict(list)
    for path, exercise in _exercises(plan):
        if not exercise.scenarios or exercise.kind == "restore-test":
            general[exercise.kind].append((path, exercise))
    for same in general.values():
        (_, first), *others = same
        for path, other in others:
            intervals = first.when.longest_interval(), other.when.longest_interval()
            if intervals[0] != intervals[1]:
                yield (
                    path,
                    f"{first.says!r} is every {show(intervals[0])}, {other.says!r} every "
                    f"{show(intervals[1])}: one of them will be thought to be the rule",
                )


def find_untested_scenario(plan: Plan, now: datetime) -> Hits:
    tested = {name for _, exercise in _exercises(plan) for name in exercise.scenarios}
    for name, scenario in plan.scenarios.items():
        if name not in tested:
            yield ("scenarios", name), f"no exercise names {scenario.title}"


def find_untestable(plan: Plan, now: datetime) -> Hits:
    for path, exercise in _exercises(plan):
        for name in tested_components(plan, exercise):
            if name in exercise.leaves_out:
                continue
            if why := why_untested(plan.components[name]):
                yield path, f"{exercise.says!r} fails for {name} each time: {why}"


def find_unproven(plan: Plan, now: datetime) -> Hits:
    for name, component in plan.components.items():
        if why := why_unproven(component):
            yield (
                ("components", name),
                f"the copies of {name} are kept, and no schedule restores them to see whether they "
                f"work: {why}",
            )


def find_unordered_levels(plan: Plan, now: datetime) -> Hits:
    for number, threshold in enumerate(plan.thresholds):
        for other in plan.thresholds[:number]:
            if other.metric != threshold.metric or not (other.above and threshold.above):
                continue
            graver = _LEVELS.get(threshold.level, 3) - _LEVELS.get(other.level, 3)
            higher = threshold.above.value - other.above.value
            if other.above.unit == threshold.above.unit and graver * higher <= 0:
                yield (
                    ("thresholds", number),
                    f"{threshold.metric}: {threshold.level} above {threshold.above}, and "
                    f"{other.level} above {other.above}: the graver one is not the higher one",
                )


def find_alarm_after_rpo(plan: Plan, now: datetime) -> Hits:
    promises = [rpo for name in plan.components if (rpo := plan.rpo_of(name)) is not None]
    if not promises:
        return
    for number, threshold in enumerate(plan.thresholds):
        above = threshold.above
        is_lag = re.search(r"\b(lag|delay|age)\b", threshold.metric, re.IGNORECASE)
        if is_lag and above and above.unit == "seconds":
            limit = timedelta(seconds=above.value)
            if limit >= min(promises):
                yield (
                    ("thresholds", number, "above"),
                    f"{threshold.metric} is an alarm from {show(limit)} on; the RPO of "
                    f"{show(min(promises))} is broken by then",
                )


def find_overdue_review(plan: Plan, now: datetime) -> Hits:
    due = parse_day(plan.review.next) if plan.review.next else None
    if due is not None and due < now.date():
        yield (
            ("review", "next"),
            f"the plan was to be reviewed by {due.isoformat()}, {(now.date() - due).days} days ago",
        )


def find_false_dates(plan: Plan, now: datetime) -> Hits:
    dates = (
        (("review", "next"), plan.review.next),
        (("document", "updated"), plan.document.updated),
    )
    for path, text in dates:
        if text is not None and parse_day(text) is None:
            yield path, f"expected a date, found {text!r}: nobody knows when that is"


def find_no_review(plan: Plan, now: datetime) -> Hits:
    if plan.review.next is None and plan.review.every is None:
        yield (), "nothing says when the plan is looked at again"


def find_no_owner(plan: Plan, now: datetime) -> Hits:
    if plan.document.owner is None:
        yield ("document",), "nobody owns the plan"
    if not plan.document.approved_by:
        yield ("document",), "nobody has approved the plan"


def find_missing_approval(plan: Plan, now: datetime) -> Hits:
    given, asked = plan.document.approved_by, plan.review.approvers
    missing = [who for who in asked if who not in given]
    if given and missing:
        yield (
            ("document", "approved_by"),
            f"the plan is to be approved by {' and '.join(asked)}; it was by {', '.join(given)}",
        )


def find_unkept_records(plan: Plan, now: datetime) -> Hits:
    for number, record in enumerate(plan.compliance.records):
        if record.keep is None:
            yield (
                ("compliance", "records", number),
                f"nothing says how long it is kept: {record.what}",
            )


def find_unstated_safeguards(plan: Plan, now: datetime) -> Hits:
    safeguards = {
        "access_control": plan.security.access_control,
        "audit_log": plan.security.audit_log,
        "mfa": plan.security.mfa,
    }
    missing = [name for name, text in safeguards.items() if text is None]
    if plan.compliance.requirements and missing:
        yield (
            ("compliance", "requirements"),
            f"{', '.join(plan.compliance.requirements)} ask how recoveries are guarded; nothing is "
            f"said of {', '.join(missing)}",
        )


def find_repeatable_incident(plan: Plan, now: datetime) -> Hits:
    promises = [rpo for name in plan.components if (rpo := plan.rpo_of(name)) is not None]
    for number, incident in enumerate(plan.past_incidents):
        if incident.data_lost and promises and incident.data_lost >= min(promises):
            yield (
                ("past_incidents", number, "data_lost"),
                f"{incident.title} of {incident.on} lost {show(incident.data_lost)} of data, all "
                f"that the RPO of {show(min(promises))} allows",
            )


def find_forgotten_lessons(plan: Plan, now: datetime) -> Hits:
    for number, incident in enumerate(plan.past_incidents):
        for which, lesson in enumerate(incident.lessons):
            age = now.date() - incident.on
            if not lesson.done and age > _STALE_LESSON:
                owner = f"{lesson.owner} has not" if lesson.owner else "nobody has"
                yield (
                    ("past_incidents", number, "lessons", which),
                    f"{lesson.says!r} was learned {age.days} days ago, and {owner} done it",
                )


def find_secrets(plan: Plan, now: datetime) -> Hits:
    for path, text in _texts(plan.to_json(), ()):
        if any(secret.search(text) for secret in (_DSN_PASSWORD, _PASSWORD, _KEY)):
            yield path, "a password or key stands in the plan, which many read and nobody rotates"


def _texts(data: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _texts(value, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _texts(value, (*path, number))


def _exercises(plan: Plan) -> Iterator[tuple[Path, Exercise]]:
    for section, exercises in (("verification", plan.verification), ("testing", plan.testing)):
        for number, exercise in enumerate(exercises):
            yield (section, number), exercise


RULES = (
    Rule(
        "LW062",
        "error",
        "Nothing is ever restored to see whether it works",
        "plan a restore test at least monthly",
        find_no_restore_test,
    ),
    Rule(
        "LW063",
        "warning",
        "A proof that counts for ever",
        "state `proof_valid_for`, of a year at most",
        find_no_proof_age,
    ),
    Rule(
        "LW064",
        "error",
        "Proofs expire before the next restore test",
        "test more often, or let a proof count for longer",
        find_proof_expires,
    ),
    Rule(
        "LW065",
        "error",
        "Two frequencies for the same exercise",
        "keep one, or say how the two differ",
        find_two_frequencies,
    ),
    Rule(
        "LW066",
        "warning",
        "A scenario that is never exercised",
        "name it under `scenarios` of an exercise",
        find_untested_scenario,
    ),
    Rule(
        "LW067",
        "error",
        "Alarm levels in the wrong order",
        "let the graver level begin at the higher value",
        find_unordered_levels,
    ),
    Rule(
        "LW068",
        "error",
        "An alarm that comes after the promise is broken",
        "alarm well before the RPO",
        find_alarm_after_rpo,
    ),
    Rule(
        "LW069",
        "warning",
        "The review is overdue",
        "review the plan and set `review.next`",
        find_overdue_review,
    ),
    Rule(
        "LW070",
        "error",
        "A date that is none",
        "write the date itself, such as 2026-04-30",
        find_false_dates,
    ),
    Rule(
        "LW071",
        "warning",
        "No review is planned",
        "state `review.next` or `review.every`",
        find_no_review,
    ),
    Rule(
        "LW072",
        "warning",
        "Nobody owns or approved the plan",
        "state `document.owner` and `document.approved_by`",
        find_no_owner,
    ),
    Rule(
        "LW073",
        "error",
        "Approved by somebody else than the plan asks for",
        "have it approved by those named, and write them down",
        find_missing_approval,
    ),
    Rule(
        "LW074",
        "warning",
        "Records kept for as long as nobody says",
        "state `keep`",
        find_unkept_records,
    ),
    Rule(
        "LW075",
        "warning",
        "Compliance without safeguards",
        "state them under `security`",
        find_unstated_safeguards,
    ),
    Rule(
        "LW076",
        "warning",
        "An incident already used up the objective",
        "show what was changed since, or promise less",
        find_repeatable_incident,
    ),
    Rule(
        "LW077",
        "warning",
        "A lesson that nobody acted on",
        "give it an `owner`, and set `done: true` when it is",
        find_forgotten_lessons,
    ),
    Rule(
        "LW110",
        "warning",
        "A restore test of what nothing can restore",
        "name what is missing there, or leave it out of the test with a reason (`leaves_out`)",
        find_untestable,
    ),
    Rule(
        "LW117",
        "warning",
        "Copies that no schedule restores",
        "restore one by hand (`leeward restore point COMPONENT --prove`) in each location, and "
        "accept this until the next time",
        find_unproven,
    ),
    Rule(
        "LW078",
        "error",
        "A secret in the plan",
        "name the secret's place in a secret store instead, and rotate it",
        find_secrets,
    ),
)
