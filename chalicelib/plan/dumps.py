"""A dump of a key-value store: its own commands, as `redis-cli --pipe` takes them.

    dump.resp.zst    FUNCTION RESTORE <payload> REPLACE, then for each database SELECT <n> and for
                     each key RESTORE <key> <expiry> <payload> ABSTTL REPLACE, all in RESP arrays
    dump.json        what the stream holds: DumpFacts

Source: Redis documentation, "Redis serialization protocol specification", RESTORE, DUMP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chalicelib.plan.records import Record

FORMAT = "leeward-dump-1"
STREAM_NAME = "dump.resp.zst"
FACTS_NAME = "dump.json"
# A payload ends with the version of its format (2 bytes) and a CRC-64 (8 bytes).
FOOTER_BYTES = 10
# Valkey 9 left these numbers to Redis 7.4 and later, whose format it does not read.
# Source: valkey 9.0, src/rdb.h, RDB_FOREIGN_VERSION_MIN and _MAX.
FOREIGN_TO_VALKEY = range(12, 80)


@dataclass(frozen=True)
class DumpFacts(Record):
    """What a dump's stream holds, written when it was read to its end.

    keys: number of RESTORE commands for each database, by its number as text. counted: what the
    server counted before. vanished: keys that expired or were deleted between being seen and
    being read. payload_version: the highest. sha256: of the stream before compression.
    """

    server: str
    keys: dict[str, int]
    counted: dict[str, int]
    vanished: int
    functions_bytes: int
    payload_version: int
    bytes: int
    sha256: str
    format: str = FORMAT

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DumpFacts:
        """Raises TypeError when it is none."""
        facts = super().from_json(data)
        if facts.format != FORMAT:
            raise TypeError(f"format {facts.format!r}")
        return facts


def encode_command(*words: bytes) -> bytes:
    """A command as RESP: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def payload_version(payload: bytes) -> int:
    """Of a DUMP payload; 0 when it is too short to be one."""
    footer = payload[-FOOTER_BYTES:]
    return int.from_bytes(footer[:2], "little") if len(footer) == FOOTER_BYTES else 0


def can_read(own_version: int, version: int) -> bool:
    """Whether a server that writes payloads of `own_version` reads those of `version`."""
    if own_version in FOREIGN_TO_VALKEY or own_version < FOREIGN_TO_VALKEY.start:
        return version <= own_version
    return version <= own_version and version not in FOREIGN_TO_VALKEY
