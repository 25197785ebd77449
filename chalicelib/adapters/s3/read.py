"""How far a ranged read of one object has come, and whether the server sends what was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.errors import Truncated, Unavailable


class Reading:
    """How far a ranged read has come. `end` is known (-1: not) once the server has answered, and so
    are `etag` and `size_bytes`, which are of the whole object."""

    def __init__(self, key: str, start: int, end: int, etag: str) -> None:
        self._key, self._end, self.etag = key, end, etag
        self.size_bytes = -1
        self._ranged = start > 0 or end >= 0
        self.position = start

    @property
    def whole(self) -> bool:
        return 0 <= self._end <= self.position

    def ask(self) -> dict[str, str]:
        asked = {"If-Match": f'"{self.etag}"'} if self.etag else {}
        if self._ranged or self.position:
            last = str(self._end - 1) if self._end >= 0 else ""
            asked["Range"] = f"bytes={self.position}-{last}"
        return asked

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Raises Unavailable when the server sends something else than what was asked for."""
        self.etag = self.etag or headers.get("ETag", "").strip('"')
        length = int(headers.get("Content-Length", "-1"))
        if status == 206:
            span = headers.get("Content-Range", "")
            if not span.startswith(f"bytes {self.position}-"):
                raise self._wrong(f"bytes from {self.position}", span)
        elif length > 0 and (self._ranged or self.position):
            raise self._wrong("a range", f"HTTP {status}")
        if length < 0:
            raise self._wrong("a Content-Length", "none")
        self.size_bytes = self._size(status, headers, length)
        self._end = min(self._end, self.size_bytes) if self._end >= 0 else self.size_bytes

    def _size(self, status: int, headers: Mapping[str, str], length: int) -> int:
        """ "bytes 0-65535/1048576" names that of the whole object last."""
        if status != 206:
            return length
        span = headers.get("Content-Range", "")
        whole = span.rpartition("/")[2]
        if not whole.isdigit():
            raise self._wrong("the size of the whole object", span)
        return int(whole)

    def finish(self) -> None:
        if not self.whole:
            raise Truncated(
                f"expected {self._end} bytes of {self._key!r}, found {self.position}",
                code="object-short",
                hint="Use another copy; this object cannot be read to its end.",
            )

    def _wrong(self, expected: str, found: str) -> Unavailable:
        return Unavailable(
            f"expected {expected} of {self._key!r}, found {found}",
            code="answer-unreadable",
            hint="It is tried again; the server breaks S3's protocol when it repeats.",
        )
