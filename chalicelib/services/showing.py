"""What people and programs want to see. Nothing here changes anything: `answer` does.

Each verb imports its own view when it is asked for: a page that shows incidents does not pay for
what reads backups.
"""

from __future__ import annotations

from typing import Any

from chalicelib.services.people.hearing import Event, Verbs, hear


def show(event: Event) -> Event:
    """`verb` is one of VERBS; what is refused comes back as {"error": ...} (hearing.py)."""
    return hear(event, VERBS)


def _incidents(event: Event) -> Event:
    """{"ended"?, "limit"?, "cursor"?}: a line for each incident, the newest first."""
    from chalicelib.services.views.incidents import list_view

    return list_view(ended=bool(event.get("ended")), page=_page(event))


def _incident(event: Event) -> Event:
    """{"incident"}: everything about one."""
    from chalicelib.services.views.incidents import incident_view

    return incident_view(str(event.get("incident")))


def _messages(event: Event) -> Event:
    """{"incident"?, "limit"?, "cursor"?}: what has not been told."""
    from chalicelib.services.views.incidents import outbox_view

    return outbox_view(str(event.get("incident") or ""), page=_page(event))


def _runs(event: Event) -> Event:
    """{"limit"?, "cursor"?}: a line for each run, the newest first."""
    from chalicelib.services.views.runs import list_runs

    return list_runs(page=_page(event))


def _run(event: Event) -> Event:
    """{"run"}: its steps as they are now, and its clocks."""
    from chalicelib.services.views.runs import run_view

    return run_view(str(event.get("run")))


def _approvals(event: Event) -> Event:
    """{}: what waits for people, by run and step."""
    from chalicelib.services.views.people import approvals_view

    return approvals_view()


def _people(event: Event) -> Event:
    """{}: who holds which role, and what it may."""
    from chalicelib.services.views.people import people_view

    return people_view()


def _overview(event: Event) -> Event:
    """{}: everything that a person must see first."""
    from chalicelib.services.views.overview import overview_view

    return overview_view(event)


def _alarms(event: Event) -> Event:
    """{}: which alarms are raised that start no scenario."""
    from chalicelib.services.views.alarms import alarms_view

    return alarms_view(event)


def _incident_page(event: Event) -> Event:
    """{"incident"}: it, its run, what waits in it and for whom."""
    from chalicelib.services.views.page import page_view

    return page_view(event)


def _report(event: Event) -> Event:
    """{"incident"}: its report, as it was written."""
    from chalicelib.services.views.report import report_view

    return report_view(event)


def _readiness(event: Event) -> Event:
    """{}: which components are ready, and on which proof that rests."""
    from chalicelib.services.views.readiness import readiness_view

    return readiness_view(event)


def _rpo(event: Event) -> Event:
    """{}: how much of each component would be lost, now and at worst over a day."""
    from chalicelib.services.views.rpo import rpo_view

    return rpo_view(event)


def _calendar(event: Event) -> Event:
    """{"component"}: its recovery points, which stay and why."""
    from chalicelib.services.views.calendar import calendar_view

    return calendar_view(event)


def _exercises(event: Event) -> Event:
    """{}: what the plan promises to try, and what came of it."""
    from chalicelib.services.views.exercises import exercises_view

    return exercises_view(event)


def _findings(event: Event) -> Event:
    """{}: what the deployed plan promises and cannot keep."""
    from chalicelib.services.views.findings import findings_view

    return findings_view(event)


def _actions(event: Event) -> Event:
    """{"incident"?, "ended"?, "limit"?, "cursor"?}: what is left to do, the most overdue first."""
    from chalicelib.services.views.actions import actions_view

    about = str(event.get("incident") or "")
    return actions_view(incident=about, ended=bool(event.get("ended")), page=_page(event))


def _review(event: Event) -> Event:
    """{"incident"}: what is asked of people after it, and what they wrote."""
    from chalicelib.services.views.actions import review_view

    return review_view(str(event.get("incident")))


def _lessons(event: Event) -> Event:
    """{}: what was learned from every incident, the newest first."""
    from chalicelib.services.views.actions import lessons_view

    return lessons_view()


def _page(event: Event) -> Any:
    from chalicelib.services.views.paging import read_page

    return read_page(event)


VERBS: Verbs = {
    "incidents": _incidents,
    "incident": _incident,
    "messages": _messages,
    "runs": _runs,
    "run": _run,
    "approvals": _approvals,
    "people": _people,
    "actions": _actions,
    "review": _review,
    "lessons": _lessons,
    "overview": _overview,
    "alarms": _alarms,
    "page": _incident_page,
    "report": _report,
    "readiness": _readiness,
    "rpo": _rpo,
    "calendar": _calendar,
    "exercises": _exercises,
    "findings": _findings,
}
