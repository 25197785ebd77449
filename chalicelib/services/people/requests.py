"""What the JSON API has done for whom, once for each key; see incidents/requests.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalicelib.errors import LeewardError
from chalicelib.incidents.requests import begin_request, finish_request, release_request
from chalicelib.services import build

Answer = dict[str, Any]


def do_once(
    subject: str, key: str, digest: str, work: Callable[[str], Answer]
) -> tuple[Answer, bool]:
    """The answer of `work`, or of the first time; and whether it is an old one.

    A refusal is an answer like any other. What found nobody to answer may be tried again.

    Args:
        work: gets the request's id, the same each time; answers {"status", "body"} or raises.
    Raises:
        Refused: code "in-flight". BadInput: code "key-reused". And what `work` raises.
    """
    state = build.state()
    begun = begin_request(subject, key, digest, state=state, clock=build.clock())
    if begun.answer is not None:
        return begun.answer, True
    try:
        answer = work(begun.id)
    except LeewardError:
        release_request(begun, state=state)
        raise
    finish_request(begun, answer, state=state)
    return answer, False
