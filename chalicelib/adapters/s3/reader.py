"""Objects in S3 read whole or on from anywhere, resumed where a connection broke, never of two.

`read` keeps a few ranges on their way: one connection to S3 gives a tenth of what a machine takes.
`feed` is for who reads many objects side by side: one request each, into a buffer that is used
again; a third of the processor time, as nothing is put together or copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import chain, islice
from typing import TypeVar

from chalicelib.adapters.http.blocking import Answer
from chalicelib.adapters.http.text import Headers
from chalicelib.adapters.read_ahead import RANGE_BYTES, fetch_ahead
from chalicelib.adapters.refusals import changed_meanwhile
from chalicelib.adapters.s3.answers import facts_of, in_our_words, version_of
from chalicelib.adapters.s3.calls import TELL as TELL
from chalicelib.adapters.s3.calls import Object
from chalicelib.adapters.s3.direct import S3Direct
from chalicelib.adapters.s3.read import Reading
from chalicelib.errors import BadInput
from chalicelib.ports import StoredFacts

READ_ATTEMPTS = 6
LONGEST_PAUSE_SECONDS = 10.0
# It stays in the processor's cache between the socket and the hash, which releases the interpreter
# once for each.
PIECE_BYTES = 512 << 10
NOTHING_ELSE: Mapping[str, str] = {}
OUT_OF_RANGE = 416

P = TypeVar("P", bytes, memoryview)
Cut = Callable[[Answer], Iterator[P]]


class ObjectReader:
    def __init__(self, direct: S3Direct, range_bytes: int = RANGE_BYTES) -> None:
        self._direct, self._range_bytes = direct, range_bytes
        self._buffers: list[memoryview] = []

    def head(self, of: Object, headers: Mapping[str, str] = NOTHING_ELSE) -> Headers:
        """What the server says of the object. Raises as `in_our_words` and `S3Direct.call` tell."""

        def once() -> Headers:
            with in_our_words(of.key):
                return self._direct.head(of.name, headers)

        return self._direct.tried(of.name, once)

    def get(self, of: Object) -> bytes:
        return b"".join(self._all_of(of, Reading(of.key, 0, -1, ""), self._copied))

    def read(self, of: Object) -> Iterator[bytes]:
        """The first answer says how much there is, and the others are asked for of the same."""
        reading = Reading(of.key, 0, self._range_bytes, "")
        pieces = self._all_of(of, reading, self._copied)
        try:
            begun = list(islice(pieces, 1))
        except BadInput as error:
            if error.context.get("status") != OUT_OF_RANGE:
                raise
            return  # It is empty.
        first = chain(begun, pieces)
        yield from self._ranges(of, reading.size_bytes, reading.etag, self._range_bytes, first)

    def read_on(self, of: Object, start: int, version: str) -> Iterator[bytes]:
        found = self.head(of)
        if version != version_of(found):
            raise changed_meanwhile(of.key)
        size, etag = int(found["Content-Length"]), found["ETag"].strip('"')
        return self._ranges(of, size, etag, start, iter(()))

    def feed(self, of: Object, take: Callable[[memoryview], None]) -> StoredFacts:
        """A read that was begun again is of the same ETag: the first answer speaks for all."""
        told: list[Headers] = []

        def pieces(answer: Answer, buffer: memoryview) -> Iterator[memoryview]:
            told.append(answer.headers)
            while filled := answer.read_into(buffer):
                yield buffer[:filled]

        with self._buffer() as buffer:
            cut = partial(pieces, buffer=buffer)
            for piece in self._all_of(of, Reading(of.key, 0, -1, ""), cut, TELL):
                take(piece)
        return facts_of(told[0])

    def _ranges(
        self, of: Object, size: int, etag: str, begin: int, first: Iterator[bytes]
    ) -> Iterator[bytes]:
        def fetch(start: int, end: int) -> list[bytes]:
            return list(self._all_of(of, Reading(of.key, start, end, etag), self._copied))

        pieces = ([piece] for piece in first)
        for found in fetch_ahead(
            size, fetch, range_bytes=self._range_bytes, begin=begin, first=pieces
        ):
            yield from found

    def _all_of(
        self, of: Object, reading: Reading, cut: Cut[P], asked: Mapping[str, str] = NOTHING_ELSE
    ) -> Iterator[P]:
        failures = 0
        while not reading.whole:
            before = reading.position
            with suppress(OSError):
                yield from self._pieces(of, reading, cut, asked)
            if reading.whole:
                return
            failures = 0 if reading.position > before else failures + 1
            if failures == READ_ATTEMPTS:
                reading.finish()
            time.sleep(min(0.1 * 2**failures, LONGEST_PAUSE_SECONDS))

    def _pieces(
        self, of: Object, reading: Reading, cut: Cut[P], asked: Mapping[str, str]
    ) -> Iterator[P]:
        """What comes over one connection."""
        with ExitStack() as stack:
            answer = self._direct.tried(of.name, lambda: self._begin(stack, of, reading, asked))
            for piece in cut(answer):
                reading.position += len(piece)
                yield piece
                if reading.whole:
                    return

    def _begin(
        self, stack: ExitStack, of: Object, reading: Reading, asked: Mapping[str, str]
    ) -> Answer:
        with in_our_words(of.key):
            opened = self._direct.open(of.name, {**asked, **reading.ask()})
            answer = stack.enter_context(opened)
            reading.begin(answer.status, answer.headers)
        return answer

    def _copied(self, answer: Answer) -> Iterator[bytes]:
        """Through a buffer that is used again, so that each piece is allocated at its own size."""
        with self._buffer() as buffer:
            while filled := answer.read_into(buffer):
                yield bytes(buffer[:filled])

    @contextmanager
    def _buffer(self) -> Iterator[memoryview]:
        """The warmest first: a quarter less processor time than with a new one a piece."""
        try:
            buffer = self._buffers.pop()
        except IndexError:
            buffer = memoryview(bytearray(PIECE_BYTES))
        try:
            yield buffer
        finally:
            self._buffers.append(buffer)
