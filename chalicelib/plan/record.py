"""What records are made of: their base, the forms in which values are written, a stored object.

Apart from the records themselves, which take longer to make than most commands need of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from types import UnionType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints


def format_lsn(lsn: int) -> str:
    """0x16B3748 -> "0/16B3748" (PostgreSQL's pg_lsn text form)."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def parse_lsn(text: str) -> int:
    """ "0/16B3748" -> 0x16B3748. Raises ValueError when it is not an LSN."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_time(at: datetime) -> str:
    """Aware datetime -> "2026-11-22T08:30:00.123456Z"; always UTC, always six decimals."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """ISO 8601 with an offset -> aware UTC. Raises ValueError when the offset is missing, or its
    year in UTC is none."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is outside of all years") from error


def read_json(data: bytes) -> Any:
    """JSON that anybody may have written. Raises ValueError: it is none, or nests without end."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("JSON that nests without end") from error


def canonical_json(value: Any) -> bytes:
    """One byte form per value: sorted keys, no spaces, UTF-8. Digests are taken over this."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


class Record:
    """Base of the frozen dataclasses: JSON in and out, times as text, unknown keys refused.

    No slots of its own, so that those of which there may be a million can have them.
    """

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        values = {}
        for f in dataclasses.fields(cls):  # type: ignore[arg-type]
            if f.name in data:
                values[f.name] = cls._revive(f.name, data[f.name])
        return cls(**values)

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name.endswith("_at") and isinstance(value, str):
            return parse_time(value)
        if isinstance(value, list):
            return tuple(value)
        return value


def has_types(record: Record) -> bool:
    """Whether every field of it, and of the records in it, is of the type that it says: what was
    read may have been written by anybody."""
    kinds = _types(type(record))  # type: ignore[arg-type]  # a class is hashable
    return all(_fits(getattr(record, name), hint) for name, hint in kinds)


@cache
def _types(kind: type[Record]) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((f.name, hints[f.name]) for f in dataclasses.fields(kind))  # type: ignore[arg-type]


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is UnionType:
        return any(_fits(value, it) for it in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(it, inner[0]) for it in value)
    if origin is dict:
        key, item = inner
        return isinstance(value, dict) and all(
            _fits(name, key) and _fits(it, item) for name, it in value.items()
        )
    if isinstance(value, Record):
        return isinstance(value, hint) and has_types(value)
    # JSON has 0 for 0.0.
    return type(value) is hint or (hint is float and type(value) is int)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class StoredObject(Record):
    """One object as it lies in a store. `sha256` is of the stored bytes, in hex."""

    key: str
    size_bytes: int
    sha256: str
