"""Keys as names that no store normalises, and back again.

A plain key is its own name, so that ordinary tools find it. Any other (`a//b`, `x/../y`, a newline)
stands below `odd-names/` as the hexadecimal digits of its UTF-8 bytes, 200 in a segment, with
`.key` at the end; `xxd -r -p` reads it. Hexadecimal keeps the byte order, so a listing is two
sorted streams, merged; it is one where all keys are Leeward's own.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace

from chalicelib.errors import BadInput, NotReady
from chalicelib.ports import Listed

ODD = "odd-names"
END = ".key"
SEGMENT_DIGITS = 200
# S3, GCS: bytes; Azure: characters. All three: 1,024.
LONGEST_NAME_BYTES = 1024
PLAIN_ASCII = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.=@,:~%+() "
)
_PLAIN_KEY = PLAIN_ASCII | {"/"}
# Below these all keys are Leeward's own, and plain: a listing need not ask for odd ones.
_OWN = re.compile(r"(points|wal|relations|schemas)/|(inc|people-inc|review-inc)-[^/]+/records/")
# Ours, a folder's own, and what Google refuses names below.
RESERVED = frozenset({ODD, ".incoming", ".well-known"})


class KeyNames:
    """Names below `prefix`, which is empty or ends with a slash."""

    def __init__(
        self,
        prefix: str = "",
        *,
        longest_bytes: int = LONGEST_NAME_BYTES,
        longest_segment_bytes: int = LONGEST_NAME_BYTES,
    ) -> None:
        self.prefix = prefix
        self._longest_bytes = longest_bytes
        self._longest_segment_bytes = longest_segment_bytes

    def name(self, key: str) -> str:
        """Raises BadInput: "key-empty", "key-not-utf8", "key-too-long", "key-not-plain"."""
        if not key:
            raise BadInput("expected a key, found none", code="key-empty", hint="Name the object.")
        digits, plain = _utf8(key).hex(), self._is_plain(key)
        if not plain and (own := _OWN.match(key)):
            raise BadInput(
                f"expected a plain key below {own[0]}, found {key[:60]!r}",
                code="key-not-plain",
                hint="Only Leeward writes there; store the object under another name.",
            )
        name = self.prefix + (key if plain else f"{ODD}/{_cut(digits)}{END}")
        found = len(name.encode())
        if found > self._longest_bytes:
            raise BadInput(
                f"expected a name of at most {self._longest_bytes} bytes, found {found}: "
                f"{key[:60]!r}...",
                code="key-too-long",
                hint="Shorten the key; one with unusual characters takes twice its length.",
            )
        return name

    def merged(self, prefix: str, rows: Callable[[str], Iterator[Listed]]) -> Iterator[Listed]:
        """Everything whose key begins with `prefix`, in byte order of the key.

        Args:
            rows: lists what the store has below a name, under whole names, in byte order.
        Raises:
            NotReady: the store does not keep that order (code "listing-unordered"); whoever
                joins two listings would take objects to be missing.
        """
        streams = []
        if not _OWN.match(prefix):
            streams.append(self._keys(rows(self._odd_prefix(prefix))))
        if self._is_plain(prefix + "x"):
            odd = f"{self.prefix}{ODD}/"
            plain = (row for row in rows(self.prefix + prefix) if not row.key.startswith(odd))
            streams.append(self._keys(plain))
        last = b""
        for row in heapq.merge(*streams, key=_order):
            if _order(row) < last:
                raise NotReady(
                    f"expected a listing in byte order, found {row.key!r} after {last!r}",
                    code="listing-unordered",
                    hint="Use a bucket without directories (no S3 Express, Data Lake, SeaweedFS).",
                )
            last = _order(row)
            yield row

    def _odd_prefix(self, prefix: str) -> str:
        return f"{self.prefix}{ODD}/{_cut(_utf8(prefix).hex())}"

    def _keys(self, rows: Iterator[Listed]) -> Iterator[Listed]:
        for row in rows:
            yield replace(row, key=self._key(row.key.removeprefix(self.prefix)))

    def _key(self, name: str) -> str:
        """What is no name of ours stays as it is: listings show it, and no key reaches it."""
        digits = name.removeprefix(f"{ODD}/")
        if digits == name:
            return name
        try:
            return bytes.fromhex(digits.removesuffix(END).replace("/", "")).decode()
        except ValueError:
            return name

    def _is_plain(self, key: str) -> bool:
        steps = key.split("/")
        return (
            steps[0] not in RESERVED
            and (_PLAIN_KEY.issuperset(key) or all(map(_is_plain_character, key.replace("/", ""))))
            and all(map(self._is_plain_step, steps))
            and unicodedata.is_normalized("NFC", key)
        )

    def _is_plain_step(self, step: str) -> bool:
        """No step of a path that Azure, a file system or a URL library changes."""
        kept = step == step.strip(" ").rstrip(".") != ""
        return kept and len(step.encode()) <= self._longest_segment_bytes


def _is_plain_character(character: str) -> bool:
    """Beyond the Basic Multilingual Plane, UTF-16 (Azure's order) and UTF-8 sort differently."""
    if character.isascii():
        return character in PLAIN_ASCII
    return character.isalnum() and ord(character) <= 0xFFFF


def _utf8(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise BadInput(
            f"expected a key of Unicode text, found {key[:60]!r}",
            code="key-not-utf8",
            hint="Rename what it stands for: a key that is not UTF-8 cannot be in a manifest.",
        ) from error


def _cut(digits: str) -> str:
    starts = range(0, len(digits), SEGMENT_DIGITS)
    return "/".join(digits[start : start + SEGMENT_DIGITS] for start in starts)


def _order(row: Listed) -> bytes:
    return row.key.encode()
