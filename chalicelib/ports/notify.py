"""How a message leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from chalicelib.plan.records import Record


@dataclass(frozen=True)
class Message(Record):
    """What is told to one channel or person, as it will be read.

    id: the same message again has the same id, by which receivers that can, drop it. what: the
    occasion ("opened", "asked", "recovered", ...), by which a pager opens and closes its alert.
    subject: one line. text: plain text, nothing in it is markup. run_id, step, kind: of the
    question that it asks, "" when it asks none. state: what a status page calls it when a
    person said so, "" when that follows from the occasion.
    """

    id: str
    incident: str
    what: str
    audience: str
    severity: str
    subject: str
    text: str
    drill: bool
    written_at: datetime
    run_id: str = ""
    step: str = ""
    kind: str = ""
    state: str = ""


class Sender(Protocol):
    """One kind of channel."""

    def send(self, message: Message, to: str) -> str:
        """Hand it over; what the receiver calls it, "" when it does not say. At most some seconds.

        Raises:
            Unavailable: it may be tried again (Throttled: not at once).
            Refused, NotReady, BadInput: trying again will not help before somebody acts.
        """


class Threads(Protocol):
    """Where an incident's story is told in a channel: below the first message of it."""

    def of(self, incident: str, to: str) -> str:
        """What the channel calls that message, "" before there is one."""

    def begin(self, incident: str, to: str, name: str) -> None:
        """It is this one, unless there is one."""


class Senders(Protocol):
    """All kinds of channels, each with the login that is kept for it."""

    def of(self, kind: str, name: str, *, drill: bool) -> Sender:
        """The sender of a channel of that kind and name.

        Raises:
            NotReady: code "no-channel-login"; "not-sent-by-leeward" for a kind that people use.
        """


Settings = Mapping[str, Any]
"""Logins of channels: by a channel's name, else by its kind; those of drills under "drill"."""
