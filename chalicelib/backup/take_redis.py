"""A key-value store as a stream of the commands that bring it back, in constant memory.

Works where replication and snapshot commands are blocked: SCAN, DUMP, PEXPIRETIME and INFO are
enough. Each key is of one instant; the whole is not: keys written while the dump runs may be in
it or not. Order: stream, what it holds, manifest.
"""

from __future__ import annotations

import hashlib

from chalicelib.backup.point_objects import PackedWriter, PointObjects, free_point_id
from chalicelib.errors import NotReady
from chalicelib.plan.dumps import (
    FACTS_NAME,
    STREAM_NAME,
    DumpFacts,
    encode_command,
    payload_version,
)
from chalicelib.plan.records import RecoveryPoint
from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.ports.sources import KeyValueFacts, KeyValueSource, StoredKey

WRITE_BYTES = 1 << 18


def take_redis(
    source: KeyValueSource,
    store: ObjectStore,
    catalogue: Catalogue,
    *,
    component: str,
    clock: Clock,
) -> RecoveryPoint:
    """Take one recovery point of all databases and enter it into the catalogue.

    Functions are in it; users, their rights, the configuration and cached scripts are not.

    Args:
        store: the component's own objects.
    Raises:
        NotReady, Refused, Unavailable: as KeyValueSource; nothing stays.
    """
    taken_at = clock.now()
    facts = source.facts()
    with PointObjects(store, free_point_id(store, clock, "dump")) as objects:
        stream = _Stream(objects.open_packed(STREAM_NAME))
        said = _take_functions(source, stream)
        for database in sorted(facts.keys):
            stream.select(database)
            for key in source.dump(database):
                stream.add(key)
        dumped = stream.finish(facts)
        objects.commit(stream.writer)
        objects.put_json(FACTS_NAME, dumped.to_json())
        point = RecoveryPoint(
            id=objects.point_id,
            component=component,
            kind="dump",
            taken_at=taken_at,
            finished_at=clock.now(),
            objects=objects.stored,
            source_bytes=dumped.bytes,
            encryption=store.encryption,
            note="; ".join(filter(None, [said, _note(dumped)])),
        )
        catalogue.add(point)
    return point


def _take_functions(source: KeyValueSource, stream: _Stream) -> str:
    """Returns what is to be said of it."""
    try:
        payload = source.functions()
    except NotReady as error:
        if error.instance_code not in ("no-permission", "command-refused"):
            raise
        return f"functions are not in it: {error.message}"
    if payload:
        stream.add_functions(payload)
    return ""


def _note(facts: DumpFacts) -> str:
    found, counted = sum(facts.keys.values()), sum(facts.counted.values())
    if not found and not counted:
        return "no key is in it: has somebody emptied the server?"
    if found >= counted and not facts.vanished:
        return ""
    return (
        f"{counted} keys were counted before, {found} are in it; "
        f"{facts.vanished} expired or were deleted between being seen and being read"
    )


class _Stream:
    """The commands on their way into the store, and what is to be known of them."""

    def __init__(self, writer: PackedWriter) -> None:
        self.writer = writer
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._bytes = 0
        self._database = ""
        self._keys: dict[str, int] = {}
        self._vanished = 0
        self._version = 0
        self._functions_bytes = 0

    def add_functions(self, payload: bytes) -> None:
        self._functions_bytes = len(payload)
        self._version = payload_version(payload)
        self._write(encode_command(b"FUNCTION", b"RESTORE", payload, b"REPLACE"))

    def select(self, database: int) -> None:
        self._database = str(database)
        self._keys[self._database] = 0
        self._write(encode_command(b"SELECT", b"%d" % database))

    def add(self, key: StoredKey | None) -> None:
        if key is None:
            self._vanished += 1
            return
        self._keys[self._database] += 1
        self._version = max(self._version, payload_version(key.payload))
        expiry = b"%d" % (key.expires_at_ms or 0)
        self._write(
            encode_command(b"RESTORE", key.name, expiry, key.payload, b"ABSTTL", b"REPLACE")
        )

    def finish(self, facts: KeyValueFacts) -> DumpFacts:
        self._flush()
        return DumpFacts(
            server=facts.server,
            keys=self._keys,
            counted={str(number): count for number, count in facts.keys.items()},
            vanished=self._vanished,
            functions_bytes=self._functions_bytes,
            payload_version=self._version,
            bytes=self._bytes,
            sha256=self._digest.hexdigest(),
        )

    def _write(self, command: bytes) -> None:
        self._buffer += command
        if len(self._buffer) >= WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._digest.update(self._buffer)
        self._bytes += len(self._buffer)
        self.writer.write(self._buffer)
        self._buffer = bytearray()
