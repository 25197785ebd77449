"""Going back after a failover: whether one may, when, and what would be lost unsaid.

    a person asks -> window -> names lead away, long enough -> everything at home answers -> go

must: what the database at home committed and nobody else has is found before anything replaces it;
it is set aside and kept, never merged and never dropped by a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from chalicelib.errors import BadInput, Refused
from chalicelib.plan.records import format_time, parse_time
from chalicelib.ports import Databases

# How long a window lasts that a person calls "now", and how far ahead one may lie.
NOW_LASTS = timedelta(hours=2)
FARTHEST = timedelta(days=14)
# A reason that begins so says that the person knows how short a time ago the failover was.
EARLY = "early:"
# Rows that are written down; all of them are in the database that is kept.
KEPT_ROWS = 10_000
SCAN_SECONDS = 600


@dataclass(frozen=True)
class Window:
    """When the names may move; both aware UTC."""

    begins_at: datetime
    ends_at: datetime


def parse_window(text: str, *, now: datetime) -> Window:
    """ "2026-11-29T02:00Z/2026-11-29T04:00Z"; "" and "now" begin at once.

    Raises:
        BadInput: code "bad-window".
        Refused: code "window-over".
    """
    if text in ("", "now"):
        return Window(now, now + NOW_LASTS)
    begins, slash, ends = text.partition("/")
    try:
        window = Window(parse_time(begins), parse_time(ends))
    except ValueError as error:
        raise _bad_window(f"found {text!r}") from error
    if not slash or window.begins_at >= window.ends_at:
        raise _bad_window(f"found {text!r}, which does not begin before it ends")
    if window.begins_at - now > FARTHEST:
        raise _bad_window(f"found {text!r}, which begins in more than {FARTHEST.days} days")
    require_open(window.ends_at, now=now)
    return window


def choose_window(chosen: str, another: str, *, now: datetime) -> Window:
    """The window that was chosen, or `another` that a person named later, who may have answered
    too late for the first; what is no window ("done", "yes") names none. Raises: as `parse_window`.
    """
    return parse_window(another if "/" in another or another == "now" else chosen, now=now)


def _bad_window(found: str) -> BadInput:
    return BadInput(
        f"expected two times with their zones, {found}",
        hint="write BEGIN/END, as in 2026-11-29T02:00Z/2026-11-29T04:00Z, or now",
        code="bad-window",
    )


def require_open(ends_at: datetime, *, now: datetime) -> None:
    """Raises Refused (code "window-over")."""
    if now >= ends_at:
        raise Refused(
            f"expected to go back before {format_time(ends_at)}, it is {format_time(now)}",
            hint="choose another window, and start the failback again",
            code="window-over",
        )


class Failing(Protocol):
    """A look at which something of a site failed (verify/quorum.py, Sign)."""

    @property
    def observed_at(self) -> datetime: ...
    @property
    def says(self) -> str: ...


@dataclass(frozen=True)
class Standing:
    """What is known before anybody goes back.

    requested_by: the person, "" when none. names_at: the site that names are sent to; "" when that
    is none or half of each. failed_over_at: the last switch away from home. problems: what at home
    did not answer well each time. failing: the last time that somebody looked and home failed.
    """

    requested_by: str
    reason: str
    names_at: str
    home: str
    failed_over_at: datetime | None
    problems: tuple[str, ...]
    failing: Failing | None = None


@dataclass(frozen=True)
class Verdict:
    """That one may go back, and why."""

    why: str


def decide_failback(
    standing: Standing, *, stays_for: timedelta, drill: bool, now: datetime
) -> Verdict:
    """Whether one may go back now. Pure.

    Args:
        stays_for: how long names stay where a failover sent them, and home must have been sound,
            unless the reason says `early:`.
        drill: names of drills lead home already, and nothing has failed over.
    Raises:
        Refused: code "failback-needs-a-person", "already-home", "failed-over-lately",
            "primary-failed-lately", "primary-still-failing".
    """
    if not standing.requested_by or not standing.reason:
        raise Refused(
            "expected a person and a reason, found a signal",
            hint="a person starts it: leeward failback --plan PLAN --reason TEXT",
            code="failback-needs-a-person",
        )
    if not drill:
        _require_away(standing)
        _require_settled(standing, stays_for, now)
    if standing.problems:
        raise Refused(
            f"expected {standing.home} to answer well each time, found "
            + "; ".join(standing.problems),
            hint=f"nothing was changed; mend {standing.home}, watch it, and start again",
            code="primary-still-failing",
        )
    if not drill:
        _require_steady(standing, stays_for, now)
    return Verdict(f"{standing.requested_by} says: {standing.reason}")


def _require_away(standing: Standing) -> None:
    if standing.names_at == standing.home:
        raise Refused(
            f"expected names away from {standing.home}, found them there",
            hint="there is nothing to go back from",
            code="already-home",
        )


def _require_settled(standing: Standing, stays_for: timedelta, now: datetime) -> None:
    at = standing.failed_over_at
    if at is None or now - at >= stays_for or standing.reason.startswith(EARLY):
        return
    minutes = (now - at).total_seconds() / 60
    raise Refused(
        f"expected {stays_for.total_seconds() / 60:.0f} min since the failover, found"
        f" {minutes:.1f} min",
        hint="wait, or say why it cannot: --early begins the reason with `early:`",
        code="failed-over-lately",
    )


def _require_steady(standing: Standing, stays_for: timedelta, now: datetime) -> None:
    """What answers now may have failed a moment ago, and may again."""
    seen = standing.failing
    if seen is None or now - seen.observed_at >= stays_for or standing.reason.startswith(EARLY):
        return
    minutes = (now - seen.observed_at).total_seconds() / 60
    raise Refused(
        f"expected {standing.home} sound for {stays_for.total_seconds() / 60:.0f} min, found it"
        f" failing {minutes:.1f} min ago: {seen.says}",
        hint="wait, or say why it cannot: --early begins the reason with `early:`",
        code="primary-failed-lately",
    )


@dataclass(frozen=True)
class OnlyHere:
    """Rows written at home after the moment. `counts`: by table; None: nobody can tell."""

    counts: dict[str, int] | None
    rows: tuple[dict[str, Any], ...]

    @property
    def total(self) -> int | None:
        return None if self.counts is None else sum(self.counts.values())


def find_only_here(databases: Databases, since: datetime | None) -> OnlyHere:
    """Rows that transactions after `since` inserted or changed; deletions leave no row.

    Needs track_commit_timestamp; without it, or without a moment, nobody can tell.
    """
    with databases.session(timeout_seconds=SCAN_SECONDS, read_only=True) as session:
        [(tracked,)] = session.query("SHOW track_commit_timestamp")
        if since is None or tracked != "on":
            return OnlyHere(None, ())
        counts: dict[str, int] = {}
        rows: list[dict[str, Any]] = []
        for (table,) in session.query(_TABLES):
            newer = f"FROM ONLY {table} t WHERE pg_catalog.pg_xact_commit_timestamp(t.xmin) > %s"
            [(count,)] = session.query(f"SELECT count(*) {newer}", (since,))
            if not count:
                continue
            counts[str(table)] = int(count)
            left = KEPT_ROWS - len(rows)
            found = session.query(
                "SELECT pg_catalog.pg_xact_commit_timestamp(t.xmin)::text,"
                f" pg_catalog.row_to_json(t)::text {newer} ORDER BY 1 LIMIT {left}",
                (since,),
            )
            rows += [{"table": str(table), "at": str(at), "row": str(row)} for at, row in found]
        return OnlyHere(counts, tuple(rows))


_TABLES = """
SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 ORDER BY 1
"""
