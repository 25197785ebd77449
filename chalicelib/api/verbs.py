"""What people write after /dr, press and fill in, as events for the function `chat`. Pure.

An event: {"verb", what the verb needs, "user", "channel": {"id", "name"}, "reply_to", "trigger",
"code"}; `code` is there alone when a person gave it.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from chalicelib.errors import BadInput

Event = dict[str, Any]
VERBS: dict[str, tuple[str, ...]] = {
    "status": (),
    "declare": ("scenario", "reason"),
    "drill": ("scenario",),
    "approve": ("run_id", "step"),
    "decline": ("run_id", "step"),
    "done": ("run_id", "step"),
    "ack": (),
    "explain": ("scenario",),
    "who": (),
    "dashboard": (),
}
OPTIONAL = {"drill": "reason", "ack": "incident"}
BUTTONS = ("approve", "decline", "done")
DIALOG = "leeward-code"
LONGEST_TEXT = 600
LONGEST_CODE = 40
FIELDS = 100


def read_form(body: bytes) -> dict[str, str]:
    """Raises BadInput (code "bad-request") when it is no form."""
    try:
        found = parse_qs(body.decode(), strict_parsing=True, max_num_fields=FIELDS)
    except ValueError:
        raise _bad_request("a form") from None
    return {name: values[0] for name, values in found.items()}


def read_command(form: dict[str, str]) -> Event:
    """/dr VERB ..., as Slack sends it.

    Raises:
        BadInput: code "bad-words".
    """
    text = form.get("text", "").strip()
    words = text.split()
    verb = words[0].lower() if words else ""
    if verb not in VERBS:
        raise BadInput(
            f"expected a verb after /dr, found {verb[:50]!r}", hint=usage(), code="bad-words"
        )
    return {
        "verb": verb,
        **_arguments(verb, text, words[1:]),
        "user": form.get("user_id", ""),
        "channel": {"id": form.get("channel_id", ""), "name": form.get("channel_name", "")},
        "reply_to": form.get("response_url", ""),
        "trigger": form.get("trigger_id", ""),
    }


def _arguments(verb: str, text: str, words: list[str]) -> Event:
    names = VERBS[verb] + ((OPTIONAL[verb],) if verb in OPTIONAL else ())
    given = dict(zip(names, words, strict=False))
    if names[-1:] == ("reason",) and len(words) >= len(names):
        given["reason"] = " ".join(words[len(names) - 1 :])  # the rest of the line
    elif len(words) > len(names):
        raise _bad_words(verb, f"found {len(words)} words")
    missing = [name for name in VERBS[verb] if name not in given]
    if missing or len(text) > LONGEST_TEXT:
        raise _bad_words(verb, f"found no {', '.join(missing)}" if missing else "found too many")
    return given


def usage() -> str:
    return "; ".join(_usage(verb) for verb in VERBS)


def _usage(verb: str) -> str:
    words = [name.removesuffix("_id").upper() for name in VERBS[verb]]
    optional = [f"[{OPTIONAL[verb].upper()}]"] if verb in OPTIONAL else []
    return " ".join(["/dr", verb, *words, *optional])


def _bad_words(verb: str, found: str) -> BadInput:
    return BadInput(f"expected {_usage(verb)}, {found}", hint=_usage(verb), code="bad-words")


def read_interaction(form: dict[str, str]) -> Event | None:
    """A button that was pressed, a window that was sent; None for what means nothing here.

    Raises:
        BadInput: code "bad-request" when it is not what Slack sends.
    """
    try:
        payload = json.loads(form["payload"])
        if payload["type"] == "block_actions":
            return _pressed(payload)
        if payload["type"] == "view_submission" and payload["view"]["callback_id"] == DIALOG:
            return _sent(payload)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        raise _bad_request("an interaction") from None
    return None


def _pressed(payload: Event) -> Event | None:
    action = payload["actions"][0]
    if action["action_id"] not in BUTTONS:
        return None
    about = json.loads(action["value"])
    return {
        "verb": str(action["action_id"]),
        "run_id": str(about["run_id"]),
        "step": str(about["step"]),
        "user": str(payload["user"]["id"]),
        "channel": {name: str(payload["channel"].get(name, "")) for name in ("id", "name")},
        "reply_to": str(payload["response_url"]),
        "trigger": str(payload["trigger_id"]),
    }


def _sent(payload: Event) -> Event:
    """What the window was opened for was put into it by Leeward, and comes back under Slack's
    signature; who sends it, and the code, are this request's."""
    view = payload["view"]
    asked: Event = dict(json.loads(view["private_metadata"]))
    values = view["state"]["values"]
    code = "".join(str(values["code"]["code"]["value"] or "").split())[:LONGEST_CODE]
    reason = str((values.get("reason") or {}).get("reason", {}).get("value") or "")
    given = {"reason": reason[:LONGEST_TEXT]} if reason else {}
    return asked | given | {"user": str(payload["user"]["id"]), "code": code}


def _bad_request(what: str) -> BadInput:
    return BadInput(
        f"expected {what} of Slack's, found something else",
        hint="the addresses of the Slack app are in docs/chatops.md",
        code="bad-request",
    )
