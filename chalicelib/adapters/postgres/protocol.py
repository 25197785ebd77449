"""PostgreSQL's streaming replication protocol over one connection, with an end to every wait.

Source: PostgreSQL documentation, "Streaming Replication Protocol" and "Message Formats".
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

from psycopg import OperationalError, pq
from psycopg.conninfo import make_conninfo
from psycopg.pq import DiagnosticField, ExecStatus

from chalicelib.adapters.postgres.login import CONNECT_SECONDS, refused_login
from chalicelib.errors import Unavailable
from chalicelib.ports import TimelineEnd

# A forced checkpoint of a large, busy server may take minutes before the first byte arrives.
SILENCE_SECONDS = 600.0
# PostgreSQL counts microseconds from 2000-01-01.
EPOCH_SECONDS = 946_684_800

Row = tuple[str | None, ...]


# Larger than any pause in which an object store is waited for; a worker that vanished without a
# word must not keep its slot in use for long.
SERVER_OPTIONS = (
    "-c wal_sender_timeout=300000 -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 "
    "-c tcp_keepalives_count=3"
)


class Refusal(Exception):
    """The server refused a command: its SQLSTATE and its own words."""

    def __init__(self, sqlstate: str, said: str) -> None:
        super().__init__(f"{sqlstate}: {said}")
        self.sqlstate = sqlstate
        self.said = said


class ReplicationConnection:
    """A physical replication connection. Not for use by two threads at once."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        """Raises NotReady or Unavailable when the server does not let us in."""
        options = f"{parameters.get('options') or ''} {SERVER_OPTIONS}".strip()
        own = {
            "replication": "true",
            "application_name": "leeward",
            "connect_timeout": CONNECT_SECONDS,
            "keepalives_idle": 10,
            "keepalives_interval": 10,
            "keepalives_count": 6,
            "tcp_user_timeout": 120_000,
            "options": options,
        }
        self._notices: Callable[[str], None] = lambda _: None
        conninfo = make_conninfo("", **(parameters | own))
        self._pq = pq.PGconn.connect(conninfo.encode())
        if self._pq.status != pq.ConnStatus.OK:
            raise refused_login(self._pq, parameters)
        self._pq.notice_handler = self._on_notice
        self._pq.nonblocking = 1

    @property
    def server_version(self) -> int:
        return self._pq.server_version

    def close(self) -> None:
        self._pq.finish()

    def query(self, command: str) -> list[Row]:
        """Run a command that answers with rows. Raises Refusal."""
        self._pq.send_query(command.encode())
        rows: list[Row] = []
        while (result := self._next_result()) is not None:
            rows += _rows(result)
        return rows

    def upload(self, command: str, data: bytes) -> None:
        """Run a command that takes a COPY from us. Raises Refusal."""
        self._pq.send_query(command.encode())
        self._expect(ExecStatus.COPY_IN)
        for start in range(0, len(data), 65536):
            self._send(data[start : start + 65536])
        self._end_sending()
        list(self.results())

    def begin_copy_out(self, command: str) -> list[list[Row]]:
        """Start a command; the rows that come before its COPY, by result. Raises Refusal."""
        self._pq.send_query(command.encode())
        results: list[list[Row]] = []
        while (result := self._next_result()) is not None:
            if result.status == ExecStatus.COPY_OUT:
                return results
            results.append(_rows(result))
        raise Unavailable("expected a stream, the server sent none", hint="Try again.")

    def begin_copy_both(self, command: str) -> None:
        """Raises Refusal."""
        self._pq.send_query(command.encode())
        self._expect(ExecStatus.COPY_BOTH)

    def received(self) -> Iterator[memoryview]:
        """The messages of a running COPY until the server ends it, as libpq holds them."""
        while True:
            count, data = self._take()
            if count == -1:
                return
            if count:
                yield data
            else:
                self._wait_readable()

    def results(self) -> Iterator[list[Row]]:
        """What follows a COPY, to the end of the command. Raises Refusal."""
        while (result := self._next_result()) is not None:
            yield _rows(result)

    def confirm(self, lsn: int) -> None:
        """Standby status update: everything before `lsn` was written, flushed and applied."""
        now = int((time.time() - EPOCH_SECONDS) * 1_000_000)
        self._send(struct.pack(">cQQQqB", b"r", lsn, lsn, lsn, now, 0))

    def end_copy_both(self) -> None:
        """End our side and let what is on its way run out. Raises Refusal."""
        self._end_sending()
        for _ in self.received():
            pass
        list(self.results())

    def answer_end_of_copy_both(self) -> list[list[Row]]:
        """The server ended its side: end ours and return its results. Raises Refusal."""
        self._expect(ExecStatus.COPY_IN)
        self._end_sending()
        return list(self.results())

    def on_notice(self, handler: Callable[[str], None]) -> None:
        self._notices = handler

    def _on_notice(self, result: pq.abc.PGresult) -> None:
        if result.error_field(DiagnosticField.SEVERITY_NONLOCALIZED) == b"WARNING":
            self._notices(_text(result.error_field(DiagnosticField.MESSAGE_PRIMARY)) or "")

    def _take(self) -> tuple[int, memoryview]:
        try:
            return self._pq.get_copy_data(1)
        except OperationalError as error:
            raise _broken() from error

    def _next_result(self) -> pq.abc.PGresult | None:
        while self._pq.is_busy():
            self._wait_readable()
        result = self._pq.get_result()
        if result is not None and result.status == ExecStatus.FATAL_ERROR:
            refusal = _refusal(result)
            self._drain()
            raise refusal if refusal.sqlstate else _broken()
        return result

    def _drain(self) -> None:
        more = True
        while more and self._pq.status == pq.ConnStatus.OK:
            while self._pq.is_busy():
                self._wait_readable()
            more = self._pq.get_result() is not None

    def _expect(self, status: ExecStatus) -> None:
        result = self._next_result()
        if result is None or result.status != status:
            raise Unavailable(
                f"expected the server to answer with {status.name}, it did not",
                code="protocol",
                hint="Check that no connection pooler stands between; replication needs none.",
            )

    def _wait_readable(self) -> None:
        readable, _, _ = select.select([self._pq.socket], [], [], SILENCE_SECONDS)
        if not readable:
            raise Unavailable(
                f"expected the server to send something within {SILENCE_SECONDS:g} s, it did not",
                code="server-silent",
                hint="Look at the server's load and at the network in between.",
            )
        try:
            self._pq.consume_input()
        except OperationalError as error:
            raise _broken() from error

    def _send(self, data: bytes) -> None:
        try:
            self._pq.put_copy_data(data)
            self._flush()
        except OperationalError as error:
            raise _broken() from error

    def _end_sending(self) -> None:
        try:
            self._pq.put_copy_end(None)
            self._flush()
        except OperationalError as error:
            raise _broken() from error

    def _flush(self) -> None:
        while self._pq.flush():
            _, writable, _ = select.select([], [self._pq.socket], [], SILENCE_SECONDS)
            if not writable:
                raise _broken()


class WalMessages:
    """The port WalStream on a connection that is in COPY BOTH mode."""

    def __init__(self, connection: ReplicationConnection) -> None:
        self._connection = connection
        self._confirmed = 0
        self.ended: TimelineEnd | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        for message in self._connection.received():
            kind = bytes(message[:1])
            if kind == b"w":
                yield struct.unpack_from(">Q", message, 1)[0], bytes(message[25:])
            elif kind == b"k" and message[17] and self._confirmed:
                self._connection.confirm(self._confirmed)
        results = self._connection.answer_end_of_copy_both()
        if results and results[0]:
            timeline, lsn = results[0][0]
            high, _, low = str(lsn).partition("/")
            self.ended = TimelineEnd(int(timeline or 0), (int(high, 16) << 32) + int(low, 16))

    def confirm(self, lsn: int) -> None:
        # After the end of a timeline nothing can be said any more; the next stream says it.
        self._confirmed = lsn
        if self.ended is None:
            self._connection.confirm(lsn)


def _broken() -> Unavailable:
    return Unavailable(
        "expected the server to stay connected, it broke off",
        code="connection-lost",
        hint="Look at the server's log; the work is started again.",
    )


def _refusal(result: pq.abc.PGresult) -> Refusal:
    return Refusal(
        _text(result.error_field(DiagnosticField.SQLSTATE)) or "",
        _text(result.error_field(DiagnosticField.MESSAGE_PRIMARY)) or "",
    )


def _rows(result: pq.abc.PGresult) -> list[Row]:
    return [
        tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
        for row in range(result.ntuples)
    ]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
