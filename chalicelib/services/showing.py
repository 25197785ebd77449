"""What people and programs want to see. Nothing here changes anything: `answer` does.

Each verb imports its own view when it is asked for: a page that shows incidents does not pay for
what reads backups.
"""

from __future__ import annotations

from typing import Any

from chalicelib.services.hearing import Event, Verbs, hear


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
}
