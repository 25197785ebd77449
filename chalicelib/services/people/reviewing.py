"""What people do after an incident: write the review, finish it, agree on actions, end them.

What others rely on takes a one-time code of whoever puts their name to it: a finished review here,
a reviewed plan in reminding.py. Drafts and actions take none: their words are kept beside those
that replace them, and count when somebody finishes the review. Sealing is the function `record`'s,
which alone may sign (sealing.py).
"""

from __future__ import annotations

from typing import Any

from chalicelib.errors import BadInput, NotReady, Refused
from chalicelib.evidence.own_seal import require_own_seal
from chalicelib.evidence.redact import redact
from chalicelib.evidence.review import (
    FINISHED,
    INCIDENT_FOLDER,
    PEOPLE_FOLDER,
    WRITTEN,
    Review,
    finished_body,
    head_of,
    missing_in,
    read_review,
)
from chalicelib.evidence.review_seal import digest_of_seal, read_or_nothing, read_seal
from chalicelib.incidents.actions import ActionDesk, Wanted, add_action, end_action, find_action
from chalicelib.incidents.incident import Incident
from chalicelib.incidents.register import find_incident, is_drill
from chalicelib.incidents.streams import people_stream, review_stream
from chalicelib.plan.actions import Action, Status, today_in
from chalicelib.plan.questions import Asked, asked_after
from chalicelib.plan.records import format_time
from chalicelib.services import build
from chalicelib.services.people.hearing import Event
from chalicelib.services.people.second_factor import require_code

# Of an item in the state table (400 KB) and of a record: room for every heading of a plan.
LONGEST_TEXT = 20_000
LONGEST_LINE = 500
REVIEWS = "reviews"


def asked_of(incident: Incident) -> tuple[Asked, ...]:
    return asked_after(build.plan().post_incident, drill=is_drill(incident))


def write(event: Event) -> Event:
    """{"incident", "field", "text", "by", "key"}: the words under a heading.

    Raises:
        BadInput: codes "unknown-incident", "unknown-person", "unknown-field", "bad-words".
    """
    by, incident = known_person(event), _incident(event)
    asked = _field(event, asked_of(incident))
    text = words_of(event, "text", LONGEST_TEXT)
    body = {"field": asked.name, "heading": asked.heading, "text": text}
    key = f"{WRITTEN}/{event.get('key') or format_time(build.clock().now())}"
    kept = build.records().append(review_stream(incident.id), WRITTEN, body, actor=by, key=key)
    said = {"text": kept.body["text"], "by": kept.actor, "written_at": format_time(kept.at)}
    _show_words(incident.id, asked.name, said)
    return {"incident": incident.id, "field": asked.name, "found": f"{asked.heading}: kept"}


def _show_words(incident: str, name: str, said: Event) -> None:
    """What `show` reads, which reads no evidence; older words never replace newer ones."""
    partition, sort = f"review#{incident}", f"words#{name}"
    while not build.state().create(partition, sort, said):
        shown = build.state().get(partition, sort) or {}
        if shown.get("written_at", "") >= said["written_at"]:
            return
        expected = {"written_at": shown["written_at"]}
        if build.state().replace(partition, sort, said, expected=expected):
            return


def finish(event: Event) -> Event:
    """{"incident", "by", "code", "key"}: make the final report of what was written, have it sealed.

    Again without a change, it is the same version; after a change, the next one.

    Raises:
        BadInput: codes "unknown-incident", "unknown-person".
        Refused: code "incident-open", and those of a code.
        NotReady: code "review-incomplete", naming the headings without a word; "not-enrolled";
            "not-sealed".
        Tampered: the incident's chain is not the one that its own seal is over.
    """
    by, incident = known_person(event), _incident(event)
    if incident.status == "open":
        raise Refused(
            f"{incident.id} is open",
            hint="write what is known; finish when a run has recovered it, or it was closed",
            code="incident-open",
        )
    review = read_review(build.records().read(review_stream(incident.id)))
    _require_whole(incident, review)
    require_code(event, by, "review-finish", incident.id)
    if review.changed or not review.versions:
        _end_version(incident, review, by)
        review = read_review(build.records().read(review_stream(incident.id)))
    version = review.versions[-1].version
    sealing = {"uses": "review.seal", "incident": incident.id, "version": version}
    sealed = build.functions().call("record", sealing)
    return {"incident": incident.id, "version": version} | sealed


def _require_whole(incident: Incident, review: Review) -> None:
    missing = missing_in(review, asked_of(incident))
    if missing:
        names = ", ".join(it.name for it in missing)
        raise NotReady(
            f"expected words under every heading, found none under: {names}",
            hint=f"leeward review write {incident.id} --field {missing[0].name}",
            code="review-incomplete",
        )


def _end_version(incident: Incident, review: Review, by: str) -> None:
    """Said twice at once, it is said once: the key is the version's.

    Raises as `require_own_seal`.
    """
    records, store = build.records(), build.evidence_store()
    stream = review_stream(incident.id)
    number = len(review.versions) + 1
    own = read_or_nothing(f"{incident.id}/bundle.json", store=store)
    of_incident = records.read(incident.id)
    require_own_seal(incident.id, of_incident, own)
    chains = [
        head_of(incident.id, INCIDENT_FOLDER, of_incident),
        head_of(
            people_stream(incident.id), PEOPLE_FOLDER, records.read(people_stream(incident.id))
        ),
    ]
    before = read_seal(stream, number - 1, store=store) if number > 1 else b""
    body = finished_body(
        version=number,
        chains=chains,
        incident_sha256=digest_of_seal(own),
        previous_sha256=digest_of_seal(before),
    )
    records.append(stream, FINISHED, body, actor=by, key=f"{FINISHED}/{number}")


def add(event: Event) -> Event:
    """{"incident", "what", "owner", "due", "by", "key"}: an action.

    Raises:
        BadInput: codes "unknown-incident", "unknown-person", "bad-words", "bad-day", "day-over".
    """
    by, incident = known_person(event), _incident(event)
    wanted = Wanted(
        incident=incident.id,
        what=_line(event, "what"),
        owner=known_person(event, "owner"),
        due_on=str(event.get("due") or ""),
        by=by,
        request=str(event.get("key") or ""),
    )
    made = add_action(wanted, today=today_in(build.plan(), build.clock().now()), desk=_desk())
    return _said(made, f"{made.id}: {made.owner} until {made.due_on}")


def done(event: Event) -> Event:
    """{"action", "by", "says"?, "key"}: it was done."""
    return _end(event, "done", _line(event, "says") if event.get("says") else "")


def drop(event: Event) -> Event:
    """{"action", "by", "says", "key"}: nobody does it, and why."""
    return _end(event, "dropped", _line(event, "says"))


def _end(event: Event, to: Status, says: str) -> Event:
    """Raises BadInput (codes "unknown-person", "unknown-action"), Refused ("action-over")."""
    by = known_person(event)
    action = find_action(str(event.get("action")), state=build.state())
    request = str(event.get("key") or "")
    ended = end_action(action, to, by=by, says=says, request=request, desk=_desk())
    return _said(ended, f"{ended.id} is {to}")


def _said(action: Action, found: str) -> Event:
    return {"action": action.id, "incident": action.incident, "found": found}


def _desk() -> ActionDesk:
    return ActionDesk(build.state(), build.records(), build.clock())


def _incident(event: Event) -> Incident:
    return find_incident(str(event.get("incident")), state=build.state())


def _field(event: Event, asked: tuple[Asked, ...]) -> Asked:
    wanted = str(event.get("field") or "")
    for it in asked:
        if wanted in (it.name, it.heading):
            return it
    raise BadInput(
        f"the plan asks for no {wanted[:100]!r} after an incident",
        hint=f"one of: {', '.join(it.name for it in asked)}",
        code="unknown-field",
    )


def words_of(event: Event, name: str, longest: int) -> str:
    """Raises BadInput (code "bad-words") when there are none, or too many."""
    given: Any = event.get(name)
    text = given.strip() if isinstance(given, str) else ""
    if not 0 < len(text) <= longest:
        raise BadInput(
            f"expected {name} of 1 to {longest} characters, found {len(text)}",
            hint="say it in fewer words, or name where the rest is kept" if text else "say it",
            code="bad-words",
        )
    return text


def _line(event: Event, name: str) -> str:
    """In one line, and without secrets: it is shown, and told to its owner."""
    return " ".join(str(redact(words_of(event, name, LONGEST_LINE))).split())


def known_person(event: Event, name: str = "by") -> str:
    """Raises BadInput (code "unknown-person")."""
    person = str(event.get(name) or "")
    if person not in build.plan().contacts:
        raise BadInput(
            f"the plan has no contact {person[:100]!r}",
            hint=f"one of: {', '.join(build.plan().contacts)}",
            code="unknown-person",
        )
    return person
