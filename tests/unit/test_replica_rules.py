"""What the rules on a replica say: of its versions, of what its bucket erases, and whose it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_rules import findings_of, plan_with

UPLOADS = {
    "kind": "bucket",
    "bucket": "example-uploads",
    "site": "main",
    "backups": [{"kind": "replication", "to": ["far", "elsewhere"]}],
}


def told(retention: dict[str, Any] | None, **more: Any) -> list[tuple[str, str]]:
    uploads = UPLOADS | {"retention": retention} | more
    change = {"components": {"uploads": uploads}}
    found = [it for it in findings_of(plan_with(change)) if it.rule == "LW114"]
    return [(".".join(map(str, it.path)), it.message) for it in found]


def test_the_price_of_versions_that_stay_for_ever_is_that_of_writing_all_anew() -> None:
    [(path, message)] = told({"daily": 7}, size="2 TB")
    assert path == "components.uploads.retention"
    assert message.endswith("each time that all of its 2 TB are written anew costs $46.00 more a "
                            "month")  # fmt: skip
    [(path, message)] = told(None)
    assert (path, message.endswith("and is paid for")) == ("components.uploads", True)


@pytest.mark.parametrize(
    ("versions", "why"), [("1 day", "up to 2d apart"), ("2 days", ""), ("90 days", "")]
)
def test_versions_outlast_the_nights_between_inventories(versions: str, why: str) -> None:
    found = told({"daily": 7, "versions": versions})
    assert [why in message for _, message in found] == ([True] if why else [])


@pytest.mark.parametrize(("versions", "fires"), [("9 days", True), ("10 days", False)])
def test_versions_outlast_the_time_in_which_damage_goes_unnoticed(
    versions: str, fires: bool
) -> None:
    scenario = {
        "title": "Deletion",
        "component": "uploads",
        "detection": ["Users"],
        "detected_within": "10 days",
        "steps": [{"name": "look", "says": "Look", "by": "engineer"}],
    }
    uploads = UPLOADS | {"retention": {"daily": 7, "versions": versions}}
    change = {"components": {"uploads": uploads}, "scenarios": {"deletion": scenario}}
    found = [it.message for it in findings_of(plan_with(change)) if it.rule == "LW114"]
    assert ["deletion is noticed within 10d" in it for it in found] == ([True] if fires else [])


def test_what_has_no_replica_has_no_versions() -> None:
    change = {"components": {"db": {"retention": {"versions": "30 days"}}}}
    found = [it for it in findings_of(plan_with(change)) if it.rule == "LW114"]
    assert [it.message for it in found] == [
        "db has no replica, so that there are no versions to keep"
    ]


def erasing(share: str, **more: Any) -> list[str]:
    uploads = UPLOADS | {"retention": {"daily": 7, "versions": "30 days"}, "mirror": True}
    change = {"components": {"uploads": uploads | {"erases_at_most": share} | more}}
    return [it.message for it in findings_of(plan_with(change)) if it.rule == "LW115"]


@pytest.mark.parametrize(("share", "fires"), [("0%", False), ("5%", False), ("5.5%", True)])
def test_no_more_is_erased_without_a_word_than_may_be_deleted(share: str, fires: bool) -> None:
    found = erasing(share)
    assert ["5.5% of uploads may be removed for good" in it for it in found] == [True] * fires
    assert erasing(share, deletes_at_most="10%") == []


def test_an_erasure_that_no_copy_follows_is_found() -> None:
    assert ["which mirrors nothing" in it for it in erasing("1%", mirror=False)] == [True]
    assert erasing("0%", mirror=False) == []
    assert ["nobody looks" in it for it in erasing("1%", backups=[])] == [True]


def test_a_bucket_is_one_component_but_for_those_that_are_retired() -> None:
    kept = UPLOADS | {"retention": {"daily": 7, "versions": "30 days"}}

    def told(**other: Any) -> list[tuple[str, str]]:
        change = {"components": {"uploads": kept, "older": kept | other}}
        found = [it for it in findings_of(plan_with(change)) if it.rule == "LW116"]
        return [(".".join(map(str, it.path)), it.message.partition(":")[0]) for it in found]

    same = "older and uploads are the same bucket, example-uploads"
    assert told() == [("components.older.bucket", same)]
    assert told(backups=[], retention=None) == [("components.older.bucket", same)]
    assert told(bucket="example-older") == []
    assert told(retired="2026-11-01") == []
