"""Keys to be deleted once all of them are known: any number, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import IO

SPOOL_BYTES = 4 << 20


class KeySpool:
    """Keys in the order they came: in memory while they are few, then in a temporary file."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._count = 0

    def __enter__(self) -> KeySpool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return self._count

    def add(self, key: str) -> None:
        self._opened().write(json.dumps(key).encode() + b"\n")
        self._count += 1

    def batches(self, size: int) -> Iterator[list[str]]:
        if self._file is None:
            return
        self._file.seek(0)
        while lines := list(islice(self._file, size)):
            yield [json.loads(line) for line in lines]

    def _opened(self) -> IO[bytes]:
        """Most syncs delete nothing, and need not import it."""
        if self._file is None:
            import tempfile

            self._file = tempfile.SpooledTemporaryFile(SPOOL_BYTES)  # noqa: SIM115
        return self._file
