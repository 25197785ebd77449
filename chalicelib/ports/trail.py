"""Who did what in the account, as its trail tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from chalicelib.plan.records import Record, parse_time


@dataclass(frozen=True)
class TrailEvent(Record):
    """One call. `at` in whole seconds, as the trail has it.

    identity: "user/NAME" or "role/NAME" as a plan names it, "" for others (root, a service).
    error: AWS's code when the call was refused, "" when it was done. target: the other identity
    that a call of IAM is about, or "". made_key: the access key that it made, or "".
    """

    at: datetime
    name: str
    service: str
    principal: str
    identity: str
    key_id: str
    address: str
    read_only: bool
    bucket: str = ""
    key: str = ""
    version_id: str = ""
    error: str = ""
    target: str = ""
    made_key: str = ""
    id: str = ""

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        return parse_time(value) if name == "at" else value

    @property
    def actor(self) -> tuple[str, str, str]:
        """Who, with which key, from where: a stolen key is told from its owner by the place."""
        return (self.principal, self.key_id, self.address)


@dataclass(frozen=True)
class TrailFile:
    """One file of the trail as it is stored."""

    key: str
    size_bytes: int
    stored_at: datetime


class Trail(Protocol):
    """Raises NotReady (code "no-trail"), Refused (code "access-denied"), Unavailable."""

    def files(self, since: datetime, until: datetime) -> Iterator[TrailFile]:
        """Those that may hold events of that time."""

    def read(
        self, since: datetime, until: datetime, keep: Callable[[TrailEvent], bool]
    ) -> Iterator[TrailEvent]:
        """Events of that time, those that are kept, in no order."""

    def content(self, key: str) -> bytes:
        """A file as it is stored."""
