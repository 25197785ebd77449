"""Versions that somebody removed for good: what makes an attack on a versioned bucket last.

A person removes a version now and then. Ten in a day are worth a person's look; by themselves they
are deletion, which is never judged an infection (docs/ransomware.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from chalicelib.plan.records import format_time
from chalicelib.plan.signs import RemovedVersion, Sign

MANY = 10
FEW_SCORE, MANY_SCORE = 0.5, 0.85
SHOWN = 5


def sign_of_removals(
    bucket: str, named: Sequence[RemovedVersion], removed: int, replaced_at: datetime | None
) -> Sign | None:
    """None when nothing is gone. Pure.

    Its time is that of the first version that replaced a removed one, which an attack writes; where
    nothing did, that of the last sight.
    """
    if not removed:
        return None
    score = MANY_SCORE if removed >= MANY else FEW_SCORE
    seen_at = named[0].seen_at
    keys = ", ".join(repr(it.key) for it in named[:SHOWN])
    return Sign(
        "versions-removed", "versions", score, bucket, replaced_at or seen_at,
        f"versions that were there at {format_time(seen_at)}, removed for good: {removed}: {keys}",
        {"removed": removed, "point": named[0].point_id,
         "first": [[it.key, it.version_id] for it in named[:SHOWN]]},
    )  # fmt: skip
