"""When pruned bytes are gone: never said sooner than the bucket's own rules take them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chalicelib.backup.retention.freeing import freed_after
from chalicelib.errors import CheckFailed
from chalicelib.ports.bucket_rules import BucketRules, Expiry

WEEK, MONTH = Expiry("", 7), Expiry("db/", 30)


def test_without_versions_at_once() -> None:
    assert freed_after(BucketRules(""), "db/") == timedelta(0)


def test_with_versions_when_the_first_rule_takes_them() -> None:
    assert freed_after(BucketRules("Enabled", expiries=(MONTH,)), "db/") == timedelta(days=30)
    assert freed_after(BucketRules("Suspended", expiries=(MONTH, WEEK)), "db/") == timedelta(days=7)


@pytest.mark.parametrize(
    "rules", [BucketRules("Enabled"), BucketRules("Enabled", expiries=(MONTH,))]
)
def test_no_rule_for_the_prefix_means_never(rules: BucketRules) -> None:
    with pytest.raises(CheckFailed) as caught:
        freed_after(rules, "files/")
    assert caught.value.instance_code == "never-freed"


def test_rules_that_cannot_be_read_are_not_taken_for_none() -> None:
    with pytest.raises(CheckFailed) as caught:
        freed_after(BucketRules("Enabled", unread=("lifecycle rules",)), "db/")
    assert caught.value.instance_code == "rules-unknown"
