"""Messages to Slack, by chat.postMessage: in a channel, one thread for each incident.

What needs somebody, and the end, is shown in the channel too. A thread that Slack no longer has
takes nothing away: the message is sent beside it.
"""

from __future__ import annotations

import threading
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from chalicelib.adapters.chat.blocks import question_blocks
from chalicelib.adapters.notify.http import LIMIT_SECONDS, within
from chalicelib.errors import NotReady, Refused, Throttled, Unavailable
from chalicelib.ports.notify import Message, Threads

# Errors that pass. Source: docs.slack.dev, chat.postMessage, "Errors", and the HTTP 5xx of its API.
LATER = frozenset(
    {"fatal_error", "internal_error", "request_timeout", "service_unavailable", "team_added_to_org"}
)
THROTTLED = frozenset({"ratelimited", "rate_limited", "message_limit_exceeded"})
LOGIN = frozenset(
    {"invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired"}
)
WITHOUT_THREAD = frozenset({"thread_not_found", "invalid_thread_ts"})
SHOWN_TO_ALL = ("asked", "failed", "recovered", "closed", "raised", "over")
# Slack cuts the text of a section at 3000 letters, and a message at 40,000.
LONGEST = 39_000


_FIRST = threading.Lock()
"""Messages are sent side by side; the first of an incident must be there before the others."""


class SlackSender:
    """`settings`: {"token": "xoxb-...", "url": another base address}. threads: None for none."""

    def __init__(
        self,
        settings: dict[str, Any],
        *,
        seconds: float = LIMIT_SECONDS,
        threads: Threads | None = None,
    ) -> None:
        self._seconds, self._threads = seconds, threads
        self._client = WebClient(
            token=str(settings["token"]),
            base_url=str(settings.get("url") or WebClient.BASE_URL),
            timeout=max(1, int(seconds)),
        )
        self._client.retry_handlers.clear()  # the outbox tries again, with patience

    def send(self, message: Message, to: str) -> str:
        if self._threads is None or message.what == "page" or to[:1] not in ("#", "C", "G"):
            return self._send(message, to)
        thread = self._threads.of(message.incident, to)
        if thread:
            return self._send_into(thread, message, to)
        if not _FIRST.acquire(timeout=self._seconds / 2):
            return self._send(message, to)
        try:
            return self._send_first(self._threads, message, to)
        finally:
            _FIRST.release()

    def _send_first(self, threads: Threads, message: Message, to: str) -> str:
        thread = threads.of(message.incident, to)
        if thread:
            return self._send_into(thread, message, to)
        name = self._send(message, to)
        if name:
            threads.begin(message.incident, to, name)
        return name

    def _send_into(self, thread: str, message: Message, to: str) -> str:
        shown = message.what in SHOWN_TO_ALL
        try:
            return self._send(message, to, thread_ts=thread, reply_broadcast=shown)
        except Refused as error:
            if error.context.get("error") not in WITHOUT_THREAD:
                raise
        return self._send(message, to)

    def _send(self, message: Message, to: str, **more: Any) -> str:
        text = f"*{as_text(message.subject)}*\n{as_text(message.text)}"[:LONGEST]
        said = more | ({"blocks": _blocks(message)} if message.step else {})

        def post() -> Any:
            try:
                return self._client.chat_postMessage(
                    channel=to, text=text, unfurl_links=False, unfurl_media=False, **said
                )
            except SlackApiError as error:
                return error
            except SlackClientError as error:
                raise OSError(type(error).__name__) from error

        answer = within(self._seconds, "Slack", post)
        if isinstance(answer, SlackApiError):
            raise _mapped(answer, to) from answer
        return str(answer.get("ts", ""))


def _blocks(message: Message) -> list[dict[str, Any]]:
    asked = (message.run_id, message.step, message.kind)
    return question_blocks(message.subject, message.text, *asked)


def as_text(text: str) -> str:
    """Names and reasons are no markup: what looks like a mention or a link stays text.

    Source: docs.slack.dev, "Formatting message text", escaping.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mapped(error: SlackApiError, to: str) -> Exception:
    status = int(getattr(error.response, "status_code", 0) or 0)
    data = getattr(error.response, "data", None)
    code = str(data.get("error", "")) if isinstance(data, dict) else ""
    if status == 429 or code in THROTTLED:
        return Throttled("Slack says: not now", hint="it is tried again later")
    if status >= 500 or code in LATER or not code:
        return Unavailable(f"Slack answers HTTP {status} {code}", hint="it is tried again later")
    if code in LOGIN:
        return NotReady(
            f"Slack does not accept the login: {code}",
            hint="put a bot's token into the secret of the channels",
            code="no-channel-login",
        )
    return Refused(
        f"Slack refuses a message to {to}: {code}",
        hint="is the channel's name right, and is the bot in it?",
        code="message-refused",
        error=code,
    )
