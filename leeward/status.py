"""The status page from the operator's own machine, and an example of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from chalicelib.errors import BadInput, NotReady, Truncated
from chalicelib.evidence.text import printable
from chalicelib.incidents.status.page import Shown, make_page
from chalicelib.incidents.status.render import HEADLINES, STATES, render_site
from chalicelib.incidents.status.sources import (
    BAD,
    CANCELLED,
    GOOD,
    MAINTENANCE,
    MINUTES,
    UNSEEN,
    Day,
    Maintenance,
    Sources,
    Update,
    date_of,
    key_of_maintenance,
    minute_of,
)
from chalicelib.plan.records import format_time, parse_time

if TYPE_CHECKING:
    from chalicelib.adapters.notify.status_object import StatusBucket
    from chalicelib.plan.model import Plan

LONGEST_WORDS = 2000


def open_bucket(standby: str | None) -> StatusBucket:
    """The deployment's, named by either stack's function `tell`.

    Raises:
        NotReady: codes "not-deployed", "no-status-page".
    """
    import boto3

    from chalicelib.adapters.aws_errors import mapped
    from chalicelib.adapters.notify.status_object import StatusBucket

    function = f"leeward-{'standby' if standby else 'primary'}-tell"
    with mapped("lambda", function=function):
        client = boto3.client("lambda", region_name=standby)
        found = client.get_function_configuration(FunctionName=function)
    variables = found.get("Environment", {}).get("Variables", {})
    bucket = variables.get("LEEWARD_STATUS_BUCKET")
    if not bucket:
        raise NotReady(
            "expected a bucket for the status page, the deployment has none",
            hint="name a channel of kind status-page in the plan, and deploy the package",
            code="no-status-page",
        )
    return StatusBucket(boto3.client("s3", region_name=variables["LEEWARD_STATUS_REGION"]), bucket)


def read_status(standby: str | None) -> dict[str, Any]:
    """status.json. Raises NotReady (code "no-status-page") when nothing was written yet."""
    try:
        found: dict[str, Any] = json.loads(open_bucket(standby).read("status.json"))
    except Truncated as error:
        raise NotReady(
            "expected a status page, nothing was written yet",
            hint="the function publish writes it each minute: look at its log",
            code="no-status-page",
        ) from error
    return found


def is_stale(said: dict[str, Any], *, now: datetime) -> bool:
    """Whether nothing of it holds any more."""
    return said["stale_after"] is None or now > parse_time(said["stale_after"])


def render_status(said: dict[str, Any], *, stale: bool) -> str:
    """For a terminal."""
    confirmed = f"{said['confirmed_at'][:19]}Z" if said["confirmed_at"] else "never"
    lines = [f"{HEADLINES[said['state']]}; last confirmed {confirmed}"]
    lines += ["NOT CONFIRMED lately: nothing here may be true any more"] if stale else []
    for it in said["services"]:
        share = "not known" if it["uptime"] is None else f"{int(it['uptime'] * 1e5) / 1e3:.3f} %"
        state = STATES[it["state"]]
        lines.append(f"{printable(it['title'])}: {state} ({it['why']}); 90 days: {share}")
    for it in said["incidents"]:
        last = it["updates"][0]
        lines.append(
            f"{it['id']}: {it['state']} since {it['opened_at']}: {printable(last['text'])}"
        )
    for it in said["maintenance"]:
        if it["state"] in ("scheduled", "in progress"):
            lines.append(f"{it['id']}: work {it['state']}: {printable(it['says'])}")
    return "\n".join(lines)


def require_words(text: str) -> None:
    """Raises BadInput (code "bad-post")."""
    if not text.strip() or len(text) > LONGEST_WORDS:
        raise BadInput(
            f"expected words of at most {LONGEST_WORDS:,} letters, found {len(text):,}",
            hint="say in a few sentences what everybody should know",
            code="bad-post",
        )


def plan_work(
    plan: Plan,
    services: Sequence[str],
    span: tuple[str, str],
    says: str,
    by: str,
    *,
    now: datetime,
) -> Maintenance:
    """Raises BadInput: codes "unknown-service", "bad-time", "bad-post"."""
    known = plan.status_page.services
    unknown = [name for name in services if name not in known]
    if unknown:
        raise BadInput(
            f"the status page has no service {unknown[0]!r}",
            hint=f"one of: {', '.join(known) or 'none; name them under `status_page`'}",
            code="unknown-service",
        )
    begins, ends = (_time(it) for it in span)
    if ends <= begins or ends <= now:
        raise BadInput(
            f"expected work that ends after its beginning and after now, found {span[1]}",
            hint="give --until a later time",
            code="bad-time",
        )
    require_words(says)
    identity = f"work-{begins:%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"
    return Maintenance(identity, tuple(services), begins, ends, says.strip(), now, by)


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise BadInput(
            f"expected a time with its offset, found {text!r}",
            hint="write 2026-12-01T22:00+01:00, or 2026-12-01T21:00Z",
            code="bad-time",
        ) from error


def add_work(work: Maintenance, standby: str | None) -> None:
    open_bucket(standby).note(key_of_maintenance(work.id), json.dumps(work.to_json()).encode())


def list_work(standby: str | None, *, now: datetime) -> list[dict[str, Any]]:
    """In the order of their beginning, each with its state now."""
    bucket = open_bucket(standby)
    read = {key: json.loads(bucket.read(key)) for key in bucket.keys(MAINTENANCE)}
    rows = []
    for key, body in read.items():
        if not key.endswith(CANCELLED):
            ended = f"{key.removesuffix('.json')}{CANCELLED}" in read
            rows.append(body | {"state": "cancelled" if ended else _state(body, now)})
    return sorted(rows, key=lambda it: it["from_at"])


def _state(body: dict[str, Any], now: datetime) -> str:
    if now >= parse_time(body["until_at"]):
        return "done"
    return "in progress" if now >= parse_time(body["from_at"]) else "scheduled"


def cancel_work(identity: str, by: str, standby: str | None, *, now: datetime) -> None:
    """Raises BadInput (code "unknown-work")."""
    bucket, key = open_bucket(standby), key_of_maintenance(identity)
    if key not in bucket.keys(key):
        raise BadInput(
            f"there is no planned work {identity!r}",
            hint="`leeward status maintenance list` names it",
            code="unknown-work",
        )
    ended = {"cancelled_at": format_time(now), "by": by}
    bucket.note(f"{key.removesuffix('.json')}{CANCELLED}", json.dumps(ended).encode())


def example_page(plan: Plan, *, now: datetime) -> dict[str, bytes]:
    """The page as it would look 20 minutes into an incident, after 90 days of an invented past."""
    from chalicelib.services.people.status_page import shown_of

    shown = shown_of(plan)
    sources = Sources(
        tuple(_example_updates(shown, now)),
        tuple(_example_day(shown, now, back) for back in range(90)),
        (
            Maintenance("work-example", tuple(shown.services)[:1], now + timedelta(days=2),
                        now + timedelta(days=2, hours=1), "New disks for the database.", now, ""),
        ),
    )  # fmt: skip
    return {key: data for key, (data, _) in render_site(make_page(shown, sources)).items()}


def _example_day(shown: Shown, now: datetime, back: int) -> Day:
    """Good but for every 23rd day; the first service fails since 20 minutes; two weeks ago nobody
    looked for a day."""
    at = now - timedelta(days=back)
    letters = UNSEEN * MINUTES if back == 14 else GOOD * MINUTES
    if back % 23 == 22:
        letters = letters[:600] + BAD * (12 * (back // 22)) + letters[600 + 12 * (back // 22) :]
    if back == 0:
        letters = (letters[: minute_of(now) + 1]).ljust(MINUTES, UNSEEN)
    minutes = dict.fromkeys(shown.services, letters)
    if back == 0 and shown.services:
        first = next(iter(shown.services))
        begin = max(minute_of(now) - 20, 0)
        failing = letters[:begin] + BAD * (minute_of(now) + 1 - begin)
        minutes[first] = failing.ljust(MINUTES, UNSEEN)
    return Day(date_of(at), at, minutes)


def _example_updates(shown: Shown, now: datetime) -> list[Update]:
    first = tuple(shown.services)[:1]
    said = (
        ("inc-example-now", 20, "investigating", "Requests fail. We are looking into it."),
        ("inc-example-now", 8, "identified", "A database is damaged. It is being restored to the "
         "moment before; nothing that was confirmed to you is lost."),
        ("inc-example-then", 60 * 24 * 5, "investigating", "Uploads are slow."),
        ("inc-example-then", 60 * 24 * 5 - 40, "resolved", "Uploads are as fast as before."),
    )  # fmt: skip
    return [
        Update(
            id=f"{incident}-{ago}",
            incident=incident,
            said_at=now - timedelta(minutes=ago),
            state=state,
            severity="SEV1",
            title=f"{shown.organisation}: service disruption",
            text=text,
            services=first,
        )
        for incident, ago, state, text in said
    ]
