"""What the answers of an object store mean, in the same words for every provider."""

from __future__ import annotations

from chalicelib.errors import BadInput, DigestMismatch, NotReady, Refused, Truncated, Unavailable


def missing_object(key: str) -> Truncated:
    return Truncated(
        f"expected an object {key}, found none",
        code="object-missing",
        hint="Use another recovery point, or copy the object back from another location.",
        key=key,
    )


def key_too_long(key: str) -> BadInput:
    """By a server that takes less than S3 does (SeaweedFS: 255 bytes between two slashes)."""
    return BadInput(
        f"expected a shorter name, found one of {len(key.encode())} bytes: {key[:60]!r}...",
        code="key-too-long",
        hint="Shorten the key, or use a server that takes 1,024 bytes as S3 does.",
    )


def missing_bucket() -> NotReady:
    return NotReady(
        "expected the bucket or container of the plan, found none of that name",
        code="no-bucket",
        hint="Create it, or correct its name in the plan.",
    )


def exists(key: str) -> Refused:
    return Refused(
        f"expected no object {key}, found one",
        code="exists",
        hint="Read what is there; objects of this kind are written once.",
        key=key,
    )


def changed_meanwhile(key: str) -> DigestMismatch:
    return DigestMismatch(
        f"expected {key} to stay as it is while it is read, it was replaced",
        code="object-changed",
        hint="Find out who writes to the backups; then restore from another recovery point.",
        key=key,
    )


def not_as_sent(key: str, sent: str, found: str) -> DigestMismatch:
    return DigestMismatch(
        f"expected the store to hold {key} with {sent}, found {found}",
        hint="Send it again; if it repeats, the network or the store changes bytes.",
        key=key,
    )


def access_denied(service: str, key: str) -> Refused:
    return Refused(
        f"{service} refused access to {key}",
        code="access-denied",
        hint="Are the location's credentials and this machine's clock right, and may they do this?",
        key=key,
    )


def unexpected(service: str, key: str, status: int, said: str = "") -> NotReady:
    return NotReady(
        f"{service} refused the request for {key}: HTTP {status} {said}".rstrip(),
        hint="Does the bucket exist, and is its name right?",
        key=key,
    )


def unreadable(service: str, key: str) -> Unavailable:
    return Unavailable(
        f"expected {service} to answer in its own form about {key}, found something else",
        code="answer-unreadable",
        hint="Is there a proxy or a login page in between? The call is tried again.",
        key=key,
    )
