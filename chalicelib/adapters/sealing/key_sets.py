"""Key sets as they are stored: one data key, wrapped once for each recipient.

    keys/<key id>.json  {"format", "key_id", "location", "created_at",
                         "recipients": [{"kind", "recipient", "wrapped", ...}]}

`recipient` is the ARN of a KMS key or "offline:<fingerprint of a public key>", `wrapped` base64.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from chalicelib.errors import BadInput, LeewardError, NotReady, Tampered, Unavailable
from chalicelib.plan.record import read_json
from chalicelib.plan.records import Record

FORMAT = 1
KEY_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{32}")

Entry = Mapping[str, Any]


class Recipient(Protocol):
    """Somebody for whom data keys are wrapped; `name` is the `recipient` of its entries."""

    @property
    def name(self) -> str: ...

    def wrap(self, secret: bytes, bound_to: Mapping[str, str]) -> dict[str, Any]:
        """The entry of a key set. Raises Unavailable when the keeper does not answer."""


class Opener(Protocol):
    """Somebody who can unwrap data keys."""

    @property
    def name(self) -> str: ...

    def fits(self, entry: Entry) -> bool: ...

    def unwrap(self, entry: Entry, bound_to: Mapping[str, str]) -> bytes:
        """Raises Unavailable, Refused, NotReady; Tampered (code "wrong-key")."""


@dataclass(frozen=True)
class KeySet(Record):
    """One data key as it is stored. `recipients` are its entries."""

    key_id: str
    location: str
    created_at: datetime
    recipients: tuple[dict[str, Any], ...]
    format: int = FORMAT

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(str(entry["recipient"]) for entry in self.recipients)

    @property
    def bound_to(self) -> dict[str, str]:
        return bound_to(self.location, self.key_id)


def bound_to(location: str, key_id: str) -> dict[str, str]:
    """KMS's encryption context of a data key: CloudTrail shows it, and opening needs the same."""
    return {"leeward-location": location, "leeward-key": key_id}


@dataclass(frozen=True)
class Rewrapping:
    """What changes in one key set: names of recipients."""

    key_id: str
    keep: tuple[str, ...]
    add: tuple[str, ...]
    remove: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return bool(self.add or self.remove)


def decide_rewrap(key_set: KeySet, wanted: Sequence[str]) -> Rewrapping:
    """Raises BadInput (code "no-recipient") when nobody could open it afterwards."""
    if not wanted:
        raise no_recipient()
    there = key_set.names
    return Rewrapping(
        key_set.key_id,
        keep=tuple(name for name in there if name in wanted),
        add=tuple(name for name in wanted if name not in there),
        remove=tuple(name for name in there if name not in wanted),
    )


def created_at(key_id: str) -> datetime:
    """When a data key was made, aware UTC. Raises Tampered (code "key-set-unreadable")."""
    try:
        return datetime.strptime(key_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise unreadable(key_id) from error


def read_key_set(data: bytes, key_id: str) -> KeySet:
    """Raises Tampered (code "key-set-unreadable")."""
    try:
        key_set = KeySet.from_json(read_json(data))
        texts = [entry[name] for entry in key_set.recipients for name in ("recipient", "wrapped")]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise unreadable(key_id) from error
    complete = all(text and isinstance(text, str) for text in texts)
    if not (complete and key_set.key_id == key_id and key_set.format == FORMAT):
        raise unreadable(key_id)
    return key_set


def unreadable(key_id: str) -> Tampered:
    return Tampered(
        f"expected keys/{key_id}.json to be a key set, it is none",
        code="key-set-unreadable",
        hint="Copy this file back from a backup of keys/.",
        key_id=key_id,
    )


def no_recipient() -> BadInput:
    return BadInput(
        "expected at least one recipient for data keys, found none",
        code="no-recipient",
        hint="Name a KMS key or the public half of an offline key.",
    )


def no_key_fits(
    key_set: KeySet, openers: Sequence[Opener], failed: Sequence[LeewardError]
) -> LeewardError:
    """The one error of a key set that could not be opened. Retryable when a keeper was silent.

    When all that fitted said that the wrapped key is not theirs, that is the error.
    """
    if failed and all(error.instance_code == "wrong-key" for error in failed):
        return failed[0]
    kind = Unavailable if any(isinstance(it, Unavailable) for it in failed) else NotReady
    tried = ", ".join(opener.name for opener in openers) or "none"
    return kind(
        f"expected a key that opens {key_set.key_id}, found none; "
        f"it is wrapped for {', '.join(key_set.names)}; tried: {tried}",
        code="no-key-fits",
        hint="Reach KMS in one of its regions, or give the offline private key.",
        key_id=key_set.key_id,
        recipients=list(key_set.names),
        failed=[error.to_json() for error in failed],
    )
