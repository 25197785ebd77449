"""The schema that a restored database should have, by the moment it was restored to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.plan.records import canonical_json, format_time
from chalicelib.services.jobs.schemas import PREFIX, schema_near, traits_seen
from chalicelib.verify.schema import Schema

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("hours", "found", "expected"),
    [
        (3.5, "b", "b"),
        # Restored to just after the change, which was seen half an hour later.
        (2.5, "b", "b"),
        (2.5, "a", "a"),
        (1.5, "b", "b"),
        # What it has was not seen near that moment.
        (1.5, "c", "a"),
        (3.5, "a", "b"),
        (2.5, "x", "a"),
        (0.5, "x", None),
        (4.5, "a", "c"),
    ],
)
def test_the_schema_seen_before_or_the_next_if_it_is_that_one(
    tmp_path: Path, hours: float, found: str, expected: str | None
) -> None:
    store = FolderObjectStore(tmp_path)
    for at, digest in ((1, "a"), (3, "b"), (4, "c")):
        seen_at = format_time(NOON + at * HOUR)
        content = {"seen_at": seen_at, "database": "db", "objects": {"table t": digest}}
        store.put(f"{PREFIX}{seen_at}.json", canonical_json(content))
    chosen = schema_near(store, NOON + hours * HOUR, Schema({"table t": found}))
    assert (chosen.objects["table t"] if chosen else None) == expected


def test_all_that_was_ever_so_counts_and_older_schemas_tell_nothing(tmp_path: Path) -> None:
    """A right that was taken is in none of the last ones, when nobody noticed."""
    store = FolderObjectStore(tmp_path)
    seen: list[dict[str, object]] = [
        {},
        {"traits": {"table t": ["app: INSERT", "owner app"], "role app": ["LOGIN"]}},
        {"traits": {"table t": ["owner app", "owner other"]}},
    ]
    for hours, more in enumerate(seen):
        seen_at = format_time(NOON + hours * HOUR)
        content = {"seen_at": seen_at, "database": "db", "objects": {}} | more
        store.put(f"{PREFIX}{seen_at}.json", canonical_json(content))
    assert traits_seen(store) == {
        "table t": ["app: INSERT", "owner app", "owner other"],
        "role app": ["LOGIN"],
    }
