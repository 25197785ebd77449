"""What is said in Slack, done.

Who says it is a contact of the plan, by the member id under `reach.slack`. What lets anything
happen needs that contact's one-time code, for which a window is opened, and is done by the function
`answer`, as for every other way in; this one has none of its rights.

    a verb that needs a code -> a window -> its submission -> `answer` -> the outcome is kept
    (`chat-said`, request) -> the person is told

must: what was answered counts whether or not Slack can be told. A second try at the same request
tells what was kept, and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chalicelib.errors import BadInput, LeewardError, NotReady, Refused
from chalicelib.plan.records import format_time
from chalicelib.ports.chat import Answers, Chat
from chalicelib.services import build
from chalicelib.services.people.chat_blocks import (
    Json,
    code_dialog,
    only_you,
    show_people,
    show_scenario,
    show_status,
)
from chalicelib.services.people.chat_door import KEPT, channel_logins
from chalicelib.telemetry import logger

SAID = "chat-said"
DECISIONS = ("approve", "decline", "done")
NEED_CODE = (*DECISIONS, "declare", "drill")
MOST_INCIDENTS = 10


def chat(event: Mapping[str, Any]) -> dict[str, Any]:
    """Do what was said, and tell whoever said it.

    Raises:
        Unavailable: Slack could not be told; Lambda tries again, and what was done stays done.
    """
    kept = build.state().get(SAID, event["request"])
    shown = kept["shown"] if kept else _hear(event)
    if shown is not None:
        _chat().reply(str(event["reply_to"]), shown)
    return {"found": f"{event['verb']} was answered"}


def _hear(event: Mapping[str, Any]) -> Json | None:
    try:
        shown = _do(event)
    except LeewardError as error:
        logger.info("refused", extra={"code": error.instance_code})
        shown = only_you([f"{error.message}\nHINT: {error.hint}"])
    if "code" in event or event["verb"] == "ack":
        until = format_time(build.clock().now() + KEPT)
        build.state().create(SAID, event["request"], {"shown": shown, "good_until": until})
    return shown


def _do(event: Mapping[str, Any]) -> Json | None:
    """None when a window was opened in place of an answer."""
    person = _person(str(event["user"]))
    _require_channel(event["channel"])
    verb = str(event["verb"])
    if verb in NEED_CODE and "code" not in event:
        if "scenario" in event:
            _require_scenario(str(event["scenario"]))
        _chat().open_dialog(str(event["trigger"]), code_dialog(event))
        return None
    return _DO[verb](event, person)


def _decide(event: Mapping[str, Any], person: str) -> Json:
    names = ("run_id", "step", "reason", "code")
    given = {name: event.get(name, "") for name in names}
    said = _say(given | {"decision": event["verb"]}, event, person)
    return only_you([f"{event['step']}: {said['found']}"])


def _declare(event: Mapping[str, Any], person: str) -> Json:
    drill = event["verb"] == "drill"
    given = {
        "verb": "declare",
        "scenario": event["scenario"],
        "reason": event.get("reason") or "a drill",
        "code": event.get("code", ""),
        "drill": drill,
    }
    said = _say(given, event, person)
    return only_you([f"{'Drill' if drill else 'Incident'} {said['incident']}, run {said['run']}"])


def _acknowledge(event: Mapping[str, Any], person: str) -> Json:
    incident = event.get("incident") or _only_incident()
    said = _say({"verb": "ack", "incident": incident}, event, person)
    return only_you([str(said["found"])])


def _only_incident() -> str:
    found = _answers("show").hear({"verb": "incidents"})["incidents"]
    if len(found) != 1:
        raise BadInput(
            f"expected which incident, of the {len(found)} that are open",
            hint="/dr ack INCIDENT; /dr status lists them",
            code="which-incident",
        )
    return str(found[0]["incident"])


def _status(event: Mapping[str, Any], person: str) -> Json:
    found = _answers("show").hear({"verb": "incidents"})["incidents"][:MOST_INCIDENTS]
    ask = _answers("show").hear
    return show_status(ask({"verb": "incident", "incident": it["incident"]}) for it in found)


def _explain(event: Mapping[str, Any], person: str) -> Json:
    return show_scenario(build.plan(), _require_scenario(str(event["scenario"])))


def _who(event: Mapping[str, Any], person: str) -> Json:
    return show_people(build.plan())


def _dashboard(event: Mapping[str, Any], person: str) -> Json:
    return only_you([str(_say({"verb": "link"}, event, person)["found"])])


_DO: dict[str, Callable[[Mapping[str, Any], str], Json]] = {
    "status": _status,
    "declare": _declare,
    "drill": _declare,
    "approve": _decide,
    "decline": _decide,
    "done": _decide,
    "ack": _acknowledge,
    "explain": _explain,
    "who": _who,
    "dashboard": _dashboard,
}


def _say(given: dict[str, Any], event: Mapping[str, Any], person: str) -> dict[str, Any]:
    return _answers().hear(given | {"by": person, "key": event["request"]})


def _person(user: str) -> str:
    """The contact whose member id it is. A name is none: in Slack anybody may choose any."""
    contacts = build.plan().contacts
    found = [name for name, it in contacts.items() if user and it.reach.get("slack") == user]
    if len(found) != 1:
        raise Refused(
            f"the plan has no contact with the Slack member id {user[:50]}",
            hint="write it as `reach: {slack: ...}` of your contact in the plan, and deploy it",
            code="unknown-user",
        )
    return found[0]


def _require_channel(channel: Mapping[str, str]) -> None:
    """Raises Refused (code "wrong-channel")."""
    sides = build.plan().communication.sides()
    slack = [it for _, side in sides for it in side.values() if it.kind == "slack"]
    known = [name for it in slack for name in (it.address, it.drill) if name]
    if channel["id"] not in known and f"#{channel['name']}" not in known:
        raise Refused(
            "this channel is none of the plan's",
            hint=f"say it in {', '.join(dict.fromkeys(known)) or 'a Slack channel of the plan'}",
            code="wrong-channel",
        )


def _require_scenario(name: str) -> str:
    """Raises BadInput (code "unknown-scenario")."""
    if name not in build.plan().scenarios:
        raise BadInput(
            f"the plan has no scenario {name[:100]!r}",
            hint=f"one of: {', '.join(build.plan().scenarios)}",
            code="unknown-scenario",
        )
    return name


def _answers(function: str = "answer") -> Answers:
    from chalicelib.adapters.chat.answering import AnswerFunction

    return AnswerFunction(build.client("lambda"), build.environment().function_prefix, function)


def _chat() -> Chat:
    """The login is read anew each time: one that was mended counts at once."""
    from chalicelib.adapters.chat.slack_chat import SlackChat

    login = channel_logins().get("slack")
    if not isinstance(login, dict):
        raise NotReady(
            "expected the login of Slack in the secret of the channels, found none",
            hint='put {"slack": {"token", "signing_secret"}} there: docs/chatops.md',
            code="no-channel-login",
        )
    return SlackChat(login)
