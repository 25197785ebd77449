"""Requests that are to have one effect, however often they are sent.

      kept      the same key comes with           the caller
      --------  --------------------------------  ------------------------------------
      nothing   a request                         does it (running)
      running   the same request, younger than    is told that it is being done
                ABANDONED_AFTER
      running   the same request, older           does it again: whoever did it died
      done      the same request                  gets the first answer
      released  the same request                  does it again: the first found nobody
      any       another request                   is refused
      older than KEPT                             as nothing

must: what is done again is counted once by whoever does it, who gets the same key. The one-time
code that came with a request is in no item: its digest alone.

Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import BadInput, Refused
from chalicelib.plan.records import digest_of, format_time, parse_time
from chalicelib.ports import Clock, StateStore

REQUESTS = "requests"
KEPT = timedelta(hours=24)
# Longer than the function behind the API may run.
ABANDONED_AFTER = timedelta(seconds=60)
RUNNING, DONE, RELEASED = "running", "done", "released"


@dataclass(frozen=True)
class Begun:
    """A request that this caller does, or the first answer when it was done before.

    id: the same for the same subject and key.
    """

    id: str
    mark: str
    answer: dict[str, Any] | None


def begin_request(subject: str, key: str, digest: str, *, state: StateStore, clock: Clock) -> Begun:
    """Whether to do it.

    Args:
        digest: of everything that the request says.
    Raises:
        Refused: code "in-flight". BadInput: code "key-reused".
    """
    request, now = digest_of([subject, key]), clock.now()
    mark = secrets.token_hex(8)
    item = {
        "digest": digest,
        "status": RUNNING,
        "mark": mark,
        "began_at": format_time(now),
        "good_until": format_time(now + KEPT),
    }
    if state.create(REQUESTS, request, item):
        return Begun(request, mark, None)
    kept = state.get(REQUESTS, request)
    if kept is not None and not _is_free(kept, digest, now):
        return Begun(request, "", dict(kept["answer"]))
    expected = {"mark": kept["mark"]} if kept else {}
    if kept is None or not state.replace(REQUESTS, request, item, expected=expected):
        raise _in_flight()
    return Begun(request, mark, None)


def _is_free(kept: dict[str, Any], digest: str, now: datetime) -> bool:
    """Whether it is to be done (again); False when it was done."""
    if now >= parse_time(kept["good_until"]):
        return True
    if kept["digest"] != digest:
        raise BadInput(
            "expected the request that this idempotency key was used for, found another",
            hint="a new thing takes a new key; the same thing is sent again word for word",
            code="key-reused",
        )
    if kept["status"] == RUNNING and now - parse_time(kept["began_at"]) < ABANDONED_AFTER:
        raise _in_flight()
    return bool(kept["status"] != DONE)


def _in_flight() -> Refused:
    return Refused(
        "the same request is still being done",
        hint="send it again in some seconds; it is counted once",
        code="in-flight",
    )


def finish_request(begun: Begun, answer: dict[str, Any], *, state: StateStore) -> None:
    """Keep the answer for whoever sends the request again."""
    _end(begun, {"status": DONE, "answer": answer}, state)


def release_request(begun: Begun, *, state: StateStore) -> None:
    """Nobody answered: let the same request be done again."""
    _end(begun, {"status": RELEASED}, state)


def _end(begun: Begun, change: dict[str, Any], state: StateStore) -> None:
    kept = state.get(REQUESTS, begun.id)
    if kept is not None:
        state.replace(REQUESTS, begun.id, kept | change, expected={"mark": begun.mark})
