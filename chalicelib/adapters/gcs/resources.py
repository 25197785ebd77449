"""What the requests and answers of Google Cloud Storage hold: digests, resources, ranges."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import google_crc32c

from chalicelib.adapters.http.service import Answer
from chalicelib.plan.records import StoredObject
from chalicelib.ports.lasting import RunningDigest


class Digests:
    """`lasting`: they have a `state`, with which others are made."""

    def __init__(self, state: Mapping[str, Any] | None = None, *, lasting: bool = False) -> None:
        known = state or {}
        sha256 = known.get("sha256", "")
        self._sha256: Any = RunningDigest(state=sha256) if lasting else hashlib.sha256()
        self._crc32c = known.get("crc32c", 0)
        self.size_bytes = known.get("size", 0)

    def state(self) -> dict[str, Any]:
        sha256 = self._sha256.state()
        return {"sha256": sha256, "crc32c": self._crc32c, "size": self.size_bytes}

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._sha256.update(data)
        self._crc32c = google_crc32c.extend(self._crc32c, bytes(data))
        self.size_bytes += len(data)

    def sha256(self) -> str:
        return str(self._sha256.hexdigest())

    def crc32c(self) -> str:
        return b64encode(self._crc32c.to_bytes(4, "big")).decode()

    def stored(self, key: str) -> StoredObject:
        return StoredObject(key, self.size_bytes, self.sha256())

    def metadata(self, note: str = "") -> dict[str, str]:
        """The CRC-32C is the store's own business: noted beside the rest, it tells whether that
        is of the bytes that lie there."""
        digests = {"sha256": self.sha256(), "crc32c": f"{self._crc32c:08x}"}
        return {**digests, "note": note} if note else digests

    def resource(self, name: str, note: str = "") -> dict[str, Any]:
        """Google refuses other bytes. `write` tells this request from any other that sends the
        same."""
        return {
            "name": name,
            "crc32c": self.crc32c(),
            "contentType": "application/octet-stream",
            "metadata": {**self.metadata(note), "write": secrets.token_hex(8)},
        }

    def last_headers(self, note: str = "") -> dict[str, str]:
        told = {f"X-Goog-Meta-{name}": value for name, value in self.metadata(note).items()}
        return {"X-Goog-Hash": f"crc32c={self.crc32c()}", **told}


def kept_bytes(answer: Answer) -> int | None:
    """How many bytes an unfinished upload has; None when it is finished or refused."""
    if answer.status != 308:
        return None
    last = answer.headers.get("Range", "").rpartition("-")[2]
    return int(last) + 1 if last else 0


def says_invalid(answer: Answer) -> bool:
    """What Google answers, among others, when bytes differ from the checksum that was declared."""
    if answer.status != 400:
        return False
    try:
        errors = json.loads(answer.body)["error"]["errors"]
        return any(error["reason"] == "invalid" for error in errors)
    except (KeyError, TypeError, ValueError):
        return False


def related(resource: Mapping[str, Any], data: bytes) -> tuple[str, bytes]:
    """The body of a multipart upload (RFC 2387): the object's resource, then its bytes."""
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
    middle = f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
    start = (head + json.dumps(resource) + middle).encode()
    return boundary, b"".join((start, data, f"\r\n--{boundary}--\r\n".encode()))


def checksums_of(found: Mapping[str, Any]) -> dict[str, str]:
    """Google computes CRC-32C and MD5; the SHA-256 is what the writer noted."""
    stored = {"crc32c": found.get("crc32c"), "md5": found.get("md5Hash")}
    checksums = {name: b64decode(value).hex() for name, value in stored.items() if value}
    noted = found.get("metadata", {}).get("sha256")
    return {**checksums, "sha256": noted} if noted else checksums


def noted_as(found: Mapping[str, Any]) -> dict[str, str]:
    """The CRC-32C that the writer noted."""
    noted = found.get("metadata", {}).get("crc32c")
    return {"crc32c": noted} if noted else {}


def note_of(found: Mapping[str, Any]) -> str:
    """What was noted, "" when Google's CRC-32C is not the one that was noted with it."""
    metadata, stored = found.get("metadata", {}), found.get("crc32c")
    if not stored or b64decode(stored).hex() != metadata.get("crc32c"):
        return ""
    return str(metadata.get("note", ""))


def locked_until(found: Mapping[str, Any]) -> datetime | None:
    """By the bucket's retention policy, by the object's own retention, or both."""
    named = (
        found.get("retentionExpirationTime"),
        found.get("retention", {}).get("retainUntilTime"),
    )
    return max((datetime.fromisoformat(until) for until in named if until), default=None)
