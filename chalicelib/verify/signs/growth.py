"""Replaced objects that all grew by the same few bytes: a key and a mark appended to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chalicelib.plan.records import Record, parse_time
from chalicelib.plan.signs import Sign

LEAST_KEYS = 10
LEAST_SHARE = 0.8
MOST_BYTES = 65536
# How many replaced writes are remembered.
REMEMBERED = 50
# Files of one layout grow alike as well, so this never decides.
SCORE = 0.5


@dataclass(frozen=True)
class Grown(Record):
    """A write that replaced a version. `key` is a digest of the key, to tell keys apart."""

    at: datetime
    key: str
    grew_bytes: int

    @classmethod
    def _revive(cls, name: str, value: object) -> object:
        return parse_time(str(value)) if name == "at" else value


def find_growth(bucket: str, grown: Sequence[Grown]) -> Sign | None:
    """Different keys are needed: a log that grows by one line each time is one key."""
    by_key = {it.key: it for it in grown}
    sizes = Counter(it.grew_bytes for it in by_key.values())
    size, count = max(sizes.items(), key=lambda item: item[1], default=(0, 0))
    if not 0 < size <= MOST_BYTES or count < LEAST_KEYS or count < LEAST_SHARE * len(by_key):
        return None
    start = min(it.at for it in by_key.values() if it.grew_bytes == size)
    return Sign(
        "fixed-growth", "content", SCORE, bucket, start,
        f"{count} of {len(by_key)} replaced objects grew by exactly {size} bytes",
        {"keys": count, "grew_bytes": size},
    )  # fmt: skip
