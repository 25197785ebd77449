"""How far a ranged read of one object has come, and whether the server sends what was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.errors import Truncated, Unavailable


class Reading:
    """How far a ranged read has come. `end` is known (-1: not) once the server has answered."""

    def __init__(self, key: str, start: int, end: int, etag: str) -> None:
        self._key, self._end, self._etag = key, end, etag
        self._ranged = start > 0 or end >= 0
        self.position = start

    @property
    def whole(self) -> bool:
        return 0 <= self._end <= self.position

    def ask(self) -> dict[str, str]:
        asked = {"If-Match": f'"{self._etag}"'} if self._etag else {}
        if self._ranged or self.position:
            last = str(self._end - 1) if self._end >= 0 else ""
            asked["Range"] = f"bytes={self.position}-{last}"
        return asked

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Raises Unavailable when the server sends something else than what was asked for."""
        self._etag = self._etag or headers.get("ETag", "").strip('"')
        length = int(headers.get("Content-Length", "-1"))
        if status == 206:
            span = headers.get("Content-Range", "")
            if not span.startswith(f"bytes {self.position}-"):
                raise self._wrong(f"bytes from {self.position}", span)
        elif self._ranged or self.position:
            raise self._wrong("a range", f"HTTP {status}")
        if length < 0:
            raise self._wrong("a Content-Length", "none")
        if self._end < 0:
            self._end = self.position + length
        self._end = min(self._end, self.position + length)

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
