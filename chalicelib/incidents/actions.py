"""Actions after incidents, in the state table: added, done, dropped; each change is recorded.

    kept in the table -> recorded in the review's chain

The same request again changes nothing and records what may be missing: whoever died between the
two lines says it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

from chalicelib.errors import BadInput, Refused
from chalicelib.incidents.streams import review_stream
from chalicelib.plan.actions import Action, Change, Status
from chalicelib.plan.records import format_time
from chalicelib.ports import Clock, Records, StateStore

ACTIONS = "actions"
ID = "act-"


@dataclass(frozen=True)
class ActionDesk:
    """What keeping actions needs."""

    state: StateStore
    records: Records
    clock: Clock


@dataclass(frozen=True)
class Wanted:
    """What somebody wants to be done. request: of whoever said it."""

    incident: str
    what: str
    owner: str
    due_on: str
    by: str
    request: str


def list_actions(state: StateStore, incident: str = "") -> list[Action]:
    """All of them, or those of one incident."""
    found = (Action.from_json(_body(item)) for item in state.query(ACTIONS))
    return [it for it in found if incident in ("", it.incident)]


def find_action(action: str, *, state: StateStore) -> Action:
    """Raises BadInput (code "unknown-action")."""
    item = state.get(ACTIONS, action)
    if item is None:
        raise BadInput(
            f"there is no action {action[:100]!r}",
            hint="`leeward action list --all` names them",
            code="unknown-action",
        )
    return Action.from_json(_body(item))


def add_action(wanted: Wanted, *, today: date, desk: ActionDesk) -> Action:
    """Keep it and record it; the same request is one action.

    Args:
        today: in the plan's time zone.
    Raises:
        BadInput: codes "bad-day", "day-over".
    """
    kept = _of_request(wanted.request, desk.state)
    if kept is None:
        _require_day(wanted.due_on, today)
        kept = _create(wanted, desk)
    _record(kept, desk)
    return kept


def _of_request(request: str, state: StateStore) -> Action | None:
    return next((it for it in list_actions(state) if request and it.request == request), None)


def _require_day(due_on: str, today: date) -> None:
    try:
        due = date.fromisoformat(due_on)
    except ValueError:
        due = None
    if due is None or due.isoformat() != due_on:
        raise BadInput(
            f"expected a day such as {today.isoformat()}, found {due_on[:50]!r}",
            hint="write the last day for it as year-month-day",
            code="bad-day",
        )
    if due < today:
        raise BadInput(
            f"expected a day that is not over, found {due_on}",
            hint=f"today is {today.isoformat()}",
            code="day-over",
        )


def _create(wanted: Wanted, desk: ActionDesk) -> Action:
    """Under the next free number: two at once have two numbers, one request has one."""
    while True:
        known = list_actions(desk.state)
        mine = next((it for it in known if wanted.request and it.request == wanted.request), None)
        if mine is not None:
            return mine
        number = max((int(it.id.removeprefix(ID)) for it in known), default=0) + 1
        made = Action(
            id=f"{ID}{number}",
            incident=wanted.incident,
            what=wanted.what,
            owner=wanted.owner,
            due_on=wanted.due_on,
            added_by=wanted.by,
            added_at=desk.clock.now(),
            request=wanted.request,
        )
        if desk.state.create(ACTIONS, made.id, made.to_json()):
            return made


def end_action(
    action: Action, to: Status, *, by: str, says: str, request: str, desk: ActionDesk
) -> Action:
    """Done or dropped; once.

    Raises:
        Refused: code "action-over".
    """
    ended = _said_before(action, request) or _end(action, to, by, says, request, desk)
    _record(ended, desk)
    return ended


def _said_before(action: Action, request: str) -> Action | None:
    same = request and any(it.request == request for it in action.changes)
    return action if same else None


def _end(action: Action, to: Status, by: str, says: str, request: str, desk: ActionDesk) -> Action:
    if action.is_open:
        change = Change(to, by, desk.clock.now(), says, request)
        ended = replace(action, changes=(*action.changes, change))
        before = {"changes": [it.to_json() for it in action.changes]}
        if desk.state.replace(ACTIONS, action.id, ended.to_json(), expected=before):
            return ended
        action = find_action(action.id, state=desk.state)
    said = _said_before(action, request)
    if said is not None:
        return said
    last = action.changes[-1]
    raise Refused(
        f"{action.id} is {last.to} already, since {format_time(last.changed_at)} by {last.by}",
        hint="add another action if something is left to do",
        code="action-over",
    )


def _record(action: Action, desk: ActionDesk) -> None:
    """Everything that happened to it, what is recorded already left out by its key."""
    append: Callable[..., object] = desk.records.append
    stream = review_stream(action.incident)
    added = {
        "action": action.id,
        "what": action.what,
        "owner": action.owner,
        "due_on": action.due_on,
    }
    append(stream, "action-added", added, actor=action.added_by, key=f"action-added/{action.id}")
    for number, change in enumerate(action.changes, 1):
        body = {"action": action.id, "to": change.to, "says": change.says}
        key = f"action-ended/{action.id}/{number}"
        append(stream, "action-ended", body, actor=change.by, key=key)


def _body(item: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in item.items() if name != "sort"}
