"""Objects written under a key that this bucket never used: S3's own encryption as the weapon.

Source: the attacks of January 2025 that rewrote buckets with SSE-C, whose key nobody but the
attacker has; https://docs.aws.amazon.com/prescriptive-guidance names the defence, a bucket policy
that denies SSE-C.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from chalicelib.plan.records import Record
from chalicelib.plan.signs import Sign
from chalicelib.ports.samples import SampledWrite

# As for endings: a key is known when it was first seen a week ago, or in the first week.
KNOWN_AFTER = timedelta(days=7)
LEAST_REPLACED = 3
LEAST_NEW = 10
# Of more, a new one is not told from a known one: the bucket is named a blind spot.
MOST_KEYS = 300
CUSTOMERS, UNREADABLE = "SSE-C", "unreadable"


@dataclass(frozen=True)
class UsedKey(Record):
    """A way in which objects were encrypted. `replaced` counts those that had an older version."""

    first_at: datetime
    count: int
    replaced: int


def key_of(write: SampledWrite) -> str:
    """ "SSE-C", a KMS key's id, "unreadable" for what may not be decrypted, "" for S3's own."""
    if write.now.problem == "sse-c":
        return CUSTOMERS
    if write.now.problem == "denied":
        return write.now.kms_key_id or UNREADABLE
    return write.now.kms_key_id if write.now.encryption.startswith("aws:kms") else ""


def count_keys(
    known: dict[str, UsedKey], writes: list[tuple[datetime, SampledWrite]]
) -> dict[str, UsedKey]:
    found = dict(known)
    for at, write in writes:
        key = key_of(write)
        if not key:
            continue
        old = found.get(key) or UsedKey(at, 0, 0)
        replaced = old.replaced + (write.before is not None and _changed_key(key, write))
        found[key] = UsedKey(min(old.first_at, at), old.count + 1, replaced)
    return dict(sorted(found.items(), key=_first_kept)[:MOST_KEYS])


def _first_kept(item: tuple[str, UsedKey]) -> tuple[bool, datetime]:
    key, used = item
    return key not in (CUSTOMERS, UNREADABLE), used.first_at


def _changed_key(key: str, write: SampledWrite) -> bool:
    return write.before is not None and key_of(SampledWrite(write.before)) != key


def find_key_switch(
    keys: dict[str, UsedKey], allowed: frozenset[str], *, since: datetime, now: datetime
) -> list[Sign]:
    """Args: allowed: keys that the plan names; they are known from the start."""
    return [
        sign
        for key, it in keys.items()
        if key not in allowed
        and not (it.first_at < since + KNOWN_AFTER and key not in (CUSTOMERS, UNREADABLE))
        and it.first_at > now - KNOWN_AFTER
        and (sign := _switch(key, it)) is not None
    ]


def _switch(key: str, it: UsedKey) -> Sign | None:
    """A customer's own key over objects that others could read is extortion, not a policy."""
    if it.replaced >= LEAST_REPLACED:
        score = 0.97 if key == CUSTOMERS else 0.8
    elif it.count >= LEAST_NEW:
        score = 0.7 if key == CUSTOMERS else 0.5
    else:
        return None
    return Sign(
        "key-switch", "keys", score, key, it.first_at,
        f"{it.count} objects were written under {key}, which this bucket never used; "
        f"{it.replaced} of them over versions under another key",
        {"key": key, "objects": it.count, "replaced": it.replaced},
    )  # fmt: skip
