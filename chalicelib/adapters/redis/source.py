"""Redis and Valkey, over ordinary commands, one key's value in memory at a time.

The replies of a batch are read one by one instead of by redis-py's pipelines, which hold all of
them: with values of hundreds of megabytes that is the difference between working and not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from redis import Redis, exceptions
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from chalicelib.errors import BadInput, Damaged, LeewardError, NotReady, Refused, Unavailable
from chalicelib.plan.dumps import encode_command, payload_version
from chalicelib.ports.sources import KeyValueFacts, StoredKey

SCAN_KEYS = 512
FIRST_BATCH = 16
BATCH_BYTES = 4 << 20
PEXPIRETIME_SINCE = (7, 0)
FUNCTIONS_SINCE = (7, 0)
PROBE_MS = 10_000
# What FUNCTION DUMP gives when there are none: only a footer.
EMPTY_FUNCTIONS_BYTES = 10


class RedisServer:
    """The ports KeyValueSource and KeyValueTarget. `with RedisServer(url) as server`."""

    def __init__(self, url: str, *, connect_seconds: float = 5, answer_seconds: float = 60) -> None:
        """`url`: redis://, rediss:// (TLS) or unix://, with user and password where needed.

        Raises BadInput (code "bad-redis-url").
        """
        try:
            self._client = Redis.from_url(
                url, protocol=2, decode_responses=False, socket_connect_timeout=connect_seconds,
                socket_timeout=answer_seconds, retry=Retry(ExponentialBackoff(cap=1), 2),
            )  # fmt: skip
        except ValueError as error:
            raise BadInput(
                "expected a url redis://, rediss:// or unix://, found another",
                code="bad-redis-url",
                hint="Write it as rediss://user:password@host:6379 into the component's secret.",
            ) from error
        address = self._client.connection_pool.connection_kwargs
        host = address.get("path") or f"{address.get('host')}:{address.get('port', 6379)}"
        self._name = str(host)
        self._connection: Any = None
        self._version: tuple[int, ...] = ()
        self._per_batch = FIRST_BATCH

    @property
    def name(self) -> str:
        return self._name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()
        self._client.connection_pool.disconnect()

    def facts(self) -> KeyValueFacts:
        said = _parse_info(self._ask(("INFO",))[0])
        if said.get("cluster_enabled") == "1":
            raise _cluster(self._name)
        is_replica = said.get("role") == "slave"
        if is_replica and said.get("master_link_status") != "up":
            raise Refused(
                f"expected {self._name} to follow its primary, found the link down",
                code="replica-behind",
                hint="Back up the primary, or mend the replica's connection to it.",
            )
        self._version = _version(said.get("redis_version", ""))
        keys = {
            int(name[2:]): int(value.partition(",")[0].removeprefix("keys="))
            for name, value in said.items()
            if name[:2] == "db" and name[2:].isdigit()
        }
        return KeyValueFacts(_server_name(said), keys, is_replica)

    def dump(self, database: int) -> Iterator[StoredKey | None]:
        self._require_version()
        cursor = b"0"
        while True:
            _, (cursor, names) = self._ask(
                ("SELECT", database), ("SCAN", cursor, "COUNT", SCAN_KEYS)
            )
            while names:
                batch, names = names[: self._per_batch], names[self._per_batch :]
                yield from self._dump_batch(database, batch)
            if cursor == b"0":
                return

    def functions(self) -> bytes:
        self._require_version()
        if self._version < FUNCTIONS_SINCE:
            return b""
        payload: bytes = self._ask(("FUNCTION", "DUMP"))[0]
        return payload if len(payload) > EMPTY_FUNCTIONS_BYTES else b""

    def payload_version(self) -> int:
        name = f"leeward-probe-{secrets.token_hex(16)}"
        commands = (("SET", name, "", "PX", PROBE_MS), ("DUMP", name), ("DEL", name))
        return payload_version(self._ask(*commands)[1])

    def databases(self, number: int) -> bool:
        try:
            self._ask(("SELECT", number))
        except NotReady as error:
            if error.instance_code != "command-refused":
                raise
            return False
        self._ask(("SELECT", 0))
        return True

    def clear(self) -> None:
        self._require_version()
        self._ask(("FLUSHALL", "SYNC"))
        if self._version >= FUNCTIONS_SINCE:
            self._ask(("FUNCTION", "FLUSH", "SYNC"))

    def restore_functions(self, payload: bytes) -> None:
        with _payload_refused("the functions"):
            self._ask(("FUNCTION", "RESTORE", payload, "REPLACE"))

    def restore(self, keys: Sequence[StoredKey]) -> None:
        commands: list[tuple[Any, ...]] = []
        database = -1
        for key in keys:
            if key.database != database:
                database = key.database
                commands.append(("SELECT", database))
            words = (key.name, key.expires_at_ms or 0, key.payload, "ABSTTL", "REPLACE")
            commands.append(("RESTORE", *words))
        with _payload_refused(f"a key between {keys[0].name[:80]!r} and {keys[-1].name[:80]!r}"):
            self._ask(*commands)

    def expiries(self, database: int, names: Sequence[bytes]) -> list[tuple[bool, int | None]]:
        self._require_version()
        asked = [(self._expiry_command, name) for name in names]
        now, values = self._transact(database, ("TIME",), asked)
        return [self._expiry(value, now) for value in values]

    def now_ms(self) -> int:
        return _milliseconds(self._ask(("TIME",))[0])

    @property
    def _expiry_command(self) -> str:
        return "PEXPIRETIME" if self._version >= PEXPIRETIME_SINCE else "PTTL"

    def _expiry(self, value: int, now: Any) -> tuple[bool, int | None]:
        """-2: no such key; -1: it never expires."""
        if value < 0:
            return value == -1, None
        return True, value if self._version >= PEXPIRETIME_SINCE else value + _milliseconds(now)

    def _dump_batch(self, database: int, names: list[bytes]) -> Iterator[StoredKey | None]:
        asked = [word for name in names for word in (("DUMP", name), (self._expiry_command, name))]
        now, values = self._transact(database, ("TIME",), asked)
        found = 0
        for name, payload, value in zip(names, values[::2], values[1::2], strict=True):
            found += len(payload or b"")
            there, expires_at_ms = self._expiry(value, now)
            if payload is None or not there:
                yield None
            else:
                yield StoredKey(database, name, payload, expires_at_ms)
        fitting = BATCH_BYTES * len(names) // max(found, 1)
        self._per_batch = min(max(fitting, 1), 4 * self._per_batch, SCAN_KEYS)

    def _transact(
        self, database: int, first: tuple[Any, ...], others: list[tuple[str, bytes]]
    ) -> tuple[Any, list[Any]]:
        """All answers of one instant: that of `first`, and those of the others."""
        answers = self._ask(("SELECT", database), ("MULTI",), first, *others, ("EXEC",))[-1]
        for answer in answers:
            if isinstance(answer, exceptions.RedisError):
                raise self._mapped(answer)
        return answers[0], answers[1:]

    def _require_version(self) -> None:
        if not self._version:
            self.facts()

    def _ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        """The answers to commands that are sent together, on one connection that is kept."""
        try:
            if self._connection is None:
                self._connection = self._client.connection_pool.get_connection()
            packed = b"".join(encode_command(*map(_word, command)) for command in commands)
            self._connection.send_packed_command([packed])
            return [self._connection.read_response() for _ in commands]
        except exceptions.RedisError as error:
            self._drop()
            raise self._mapped(error) from error

    def _drop(self) -> None:
        """Answers that nobody read would be taken for those of the next commands."""
        if self._connection is not None:
            self._connection.disconnect()
            self._client.connection_pool.release(self._connection)
            self._connection = None

    def _mapped(self, error: exceptions.RedisError) -> LeewardError:
        return next(make(self._name, error) for kind, make in MAPPED if isinstance(error, kind))


def _refused_credentials(name: str, _: Exception) -> LeewardError:
    return NotReady(
        f"expected {name} to accept the user and password, it refused them",
        code="credentials-refused",
        hint="Correct the url in the component's secret.",
    )


def _no_permission(name: str, error: Exception) -> LeewardError:
    return NotReady(
        f"expected the right to read {name}, found: {error}",
        code="no-permission",
        hint="Allow the user all keys and +scan +dump +pexpiretime +pttl +time +info +select "
        "+multi +exec +function|dump; a restore needs +restore and +flushall too.",
    )


def _full(name: str, _: Exception) -> LeewardError:
    return NotReady(
        f"expected room in {name}, found its memory at the limit",
        code="target-full",
        hint="Raise maxmemory, or restore into a larger server.",
    )


def _replica(name: str, _: Exception) -> LeewardError:
    return Refused(
        f"expected a server that takes writes, found {name} to be a replica",
        code="target-is-replica",
        hint="Restore into its primary.",
    )


def _cluster(name: str, _: object = None) -> LeewardError:
    return Refused(
        f"expected a server that holds all keys, found {name} to be a node of a cluster",
        code="cluster-mode",
        hint="Cluster mode is not supported: a dump of one node would look whole.",
    )


def _silent(name: str, _: Exception) -> LeewardError:
    return Unavailable(
        f"expected an answer from {name}, found none",
        hint="Look whether it runs, and whether the network lets this machine reach it.",
    )


def _refused_command(name: str, error: Exception) -> LeewardError:
    return NotReady(
        f"expected {name} to carry out a command, it said: {error}",
        code="command-refused",
        hint="Look whether the command is renamed or blocked there.",
    )


# The most specific first.
MAPPED = (
    (exceptions.AuthenticationError, _refused_credentials),
    (exceptions.AuthorizationError, _refused_credentials),
    (exceptions.AuthenticationWrongNumberOfArgsError, _refused_credentials),
    (exceptions.NoPermissionError, _no_permission),
    (exceptions.OutOfMemoryError, _full),
    (exceptions.ReadOnlyError, _replica),
    (exceptions.ClusterDownError, _cluster),
    (exceptions.AskError, _cluster),
    (exceptions.ResponseError, _refused_command),
    (exceptions.RedisError, _silent),
)


@contextmanager
def _payload_refused(what: str) -> Iterator[None]:
    try:
        yield
    except NotReady as error:
        if error.instance_code != "command-refused":
            raise
        raise Damaged(
            f"expected the server to read {what}, {error.message}",
            code="payload-refused",
            hint="Restore from an older recovery point, or into a server of the source's version.",
        ) from error


def _word(value: bytes | str | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _parse_info(text: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _server_name(said: dict[str, str]) -> str:
    if "valkey_version" in said:
        return f"valkey {said['valkey_version']}"
    return f"redis {said.get('redis_version', 'of unknown version')}"


def _version(text: str) -> tuple[int, ...]:
    """ "7.2.4" -> (7, 2, 4); what Valkey says here is the Redis that it is compatible with."""
    return tuple(int(part) for part in text.split(".") if part.isdigit()) or (0,)


def _milliseconds(time: list[bytes]) -> int:
    return int(time[0]) * 1000 + int(time[1]) // 1000
