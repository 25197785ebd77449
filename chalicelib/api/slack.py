"""/slack/commands and /slack/interactions: checked, kept, handed on, acknowledged.

Slack waits 3 seconds. Nothing here asks Slack anything, nor reads the plan: the function `chat`
does, afterwards.
"""

from __future__ import annotations

from chalice.app import Blueprint, Response

from chalicelib.api.problems import answered
from chalicelib.api.verbs import Event, read_command, read_form, read_interaction
from chalicelib.errors import BadInput
from chalicelib.services.people.chat_door import Door, enter, hand_over

routes = Blueprint(__name__)
FORM = "application/x-www-form-urlencoded"
LARGEST_BODY = 64 * 1024


@routes.route("/slack/commands", methods=["POST"], content_types=[FORM])
def commands() -> Response:
    return answered(_command)


@routes.route("/slack/interactions", methods=["POST"], content_types=[FORM])
def interactions() -> Response:
    return answered(_interaction)


def _command() -> Response:
    door, form = _enter()
    try:
        event = read_command(form)
    except BadInput as error:
        return _only_you(f"{error.message}\nHINT: {error.hint}")
    return _handed_on(door, event)


def _interaction() -> Response:
    door, form = _enter()
    event = read_interaction(form)
    return _handed_on(door, event) if event else Response("")


def _enter() -> tuple[Door, dict[str, str]]:
    request = routes.current_request
    raw = request.raw_body
    body = raw.encode() if isinstance(raw, str) else raw
    if len(body) > LARGEST_BODY:
        raise BadInput(
            f"expected at most {LARGEST_BODY} bytes, found {len(body)}",
            hint="Slack sends less",
            code="too-large",
        )
    headers = {name.lower(): value for name, value in request.headers.items()}
    return enter(body, headers), read_form(body)


def _handed_on(door: Door, event: Event) -> Response:
    hand_over(door, event)
    return Response("")


def _only_you(text: str) -> Response:
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Response({"response_type": "ephemeral", "text": plain})
