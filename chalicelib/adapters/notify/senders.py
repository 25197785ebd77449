"""The sender of each channel, with the login that is kept for it.

The secret of the channels is one JSON object: by a channel's name, or else by its kind, what its
sender needs (docs/messages.md). What drills use instead lies under "drill"; a pager and a webhook
have no other address than their login: without one of their own, a drill does not reach them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from chalicelib.errors import NotReady
from chalicelib.ports.notify import Sender, Settings, Threads

ADDRESS_IN_LOGIN = ("pagerduty", "webhook")
WITHOUT_LOGIN = ("sms", "status-page")


class ChannelSenders:
    """The `Senders` port.

    Args:
        settings: reads the secret, when the first channel needs it.
        client: makes a client of an AWS service.
        status: the sender of the status page, None when the deployment has none.
        threads: where the thread of each incident is kept.
        seconds: limit of one message.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        client: Callable[[str], Any],
        *,
        status: Sender | None = None,
        threads: Threads | None = None,
        seconds: float = 10.0,
    ) -> None:
        self._settings, self._client = settings, client
        self._status, self._threads, self._seconds = status, threads, seconds
        self._lock = threading.Lock()

    def of(self, kind: str, name: str, *, drill: bool) -> Sender:
        if kind not in _MAKERS:
            raise NotReady(
                f"{name} ({kind}) is used by a person, not by Leeward",
                hint="the message is in the record; send it yourself",
                code="not-sent-by-leeward",
            )
        try:
            # Messages are sent side by side, and boto3 makes its clients for one at a time.
            with self._lock:
                login = {} if kind in WITHOUT_LOGIN else self._login(kind, name, drill=drill)
                return _MAKERS[kind](self, login)
        except KeyError as error:
            raise _no_login(name, f"it lacks {error}") from None

    def _login(self, kind: str, name: str, *, drill: bool) -> dict[str, Any]:
        kept = self._settings()
        own = kept.get(name) or kept.get(kind)
        if drill:
            of_drills = kept.get("drill") or {}
            in_drills = of_drills.get(name) or of_drills.get(kind)
            own = in_drills or (None if kind in ADDRESS_IN_LOGIN else own)
        if not isinstance(own, dict):
            raise _no_login(name, "there is none for drills" if drill else "there is none")
        return dict(own)

    def _slack(self, login: dict[str, Any]) -> Sender:
        from chalicelib.adapters.notify.slack import SlackSender

        return SlackSender(login, seconds=self._seconds, threads=self._threads)

    def _pagerduty(self, login: dict[str, Any]) -> Sender:
        from chalicelib.adapters.notify.pagerduty import PagerDutySender

        login["routing_key"]  # noqa: B018 - a login without one is none
        return PagerDutySender(login, seconds=self._seconds)

    def _webhook(self, login: dict[str, Any]) -> Sender:
        from chalicelib.adapters.notify.webhook import WebhookSender

        login["key"]  # noqa: B018 - the same
        return WebhookSender(login, seconds=self._seconds)

    def _email(self, login: dict[str, Any]) -> Sender:
        from chalicelib.adapters.notify.mail import SesSender, SmtpSender

        if "smtp" in login:
            return SmtpSender(login, seconds=self._seconds)
        return SesSender(self._client("sesv2"), login)

    def _sms(self, login: dict[str, Any]) -> Sender:
        from chalicelib.adapters.notify.sms import SmsSender

        return SmsSender(self._client("sns"), login)

    def _status_page(self, login: dict[str, Any]) -> Sender:
        if self._status is None:
            raise NotReady(
                "expected a bucket for the status page, the deployment has none",
                hint="deploy the stack that makes it",
                code="no-status-page",
            )
        return self._status


_MAKERS: dict[str, Callable[[ChannelSenders, dict[str, Any]], Sender]] = {
    "slack": ChannelSenders._slack,
    "pagerduty": ChannelSenders._pagerduty,
    "webhook": ChannelSenders._webhook,
    "email": ChannelSenders._email,
    "sms": ChannelSenders._sms,
    "status-page": ChannelSenders._status_page,
}


def _no_login(name: str, why: str) -> NotReady:
    return NotReady(
        f"expected a login for the channel {name} in the secret of the channels: {why}",
        hint="put it there under the channel's name, or under its kind",
        code="no-channel-login",
    )
