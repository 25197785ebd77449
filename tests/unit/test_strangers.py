"""What somebody else wrote into a replica, told by two inventories of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chalicelib.plan.inventory import InventoryEntry, SourceVersion
from chalicelib.verify.copies.strangers import find_overwritten

AT = datetime(2026, 11, 22, 2, tzinfo=UTC)
SOURCE = SourceVersion("v1", AT, 3, '"e1"')
WRITTEN_AGAIN = replace(SOURCE, version="v2")


def entry(key: str, sha256: str, version: str = "r1") -> InventoryEntry:
    return InventoryEntry(key, 3, AT, version=version, sha256=sha256, source=SOURCE)


BEFORE = [entry(key, f"of {key}") for key in "bcde"]


def overwritten(now: list[InventoryEntry]) -> list[str]:
    return [it.key for it in find_overwritten(BEFORE, now, point_id="p2")]


def test_another_content_over_the_same_version_of_the_bucket_is_a_strangers() -> None:
    now = [entry(key, f"of {key}") for key in "abdf"]
    now[2] = entry("d", "of somebody", version="r2")
    [found] = find_overwritten(BEFORE, now, point_id="p2")
    assert (found.code, found.key, found.point_id) == ("overwritten", "d", "p2")
    assert "of somebody, version r2" in found.found


@pytest.mark.parametrize(
    "now",
    [
        entry("d", "of d", version="r2"),
        replace(entry("d", "new"), source=WRITTEN_AGAIN),
        replace(entry("d", "new"), source=None),
    ],
    ids=["copied once more", "written again", "gone from the bucket"],
)
def test_what_a_sync_does_or_nobody_can_judge_is_no_finding(now: InventoryEntry) -> None:
    assert overwritten([entry("b", "of b"), now, entry("e", "of e")]) == []


def test_a_stranger_who_gives_no_digest_is_found_too() -> None:
    assert overwritten([entry("d", "", version="r2")]) == ["d"]
    too_large = [entry("d", "")]
    assert list(find_overwritten(too_large, [entry("d", "", version="r2")], point_id="p")) == []


def test_an_empty_inventory_on_either_side_ends_well() -> None:
    assert overwritten([]) == []
    assert list(find_overwritten([], BEFORE, point_id="p2")) == []
