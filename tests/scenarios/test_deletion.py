"""Rows and uploads that were deleted come back by the deployed package, while others write."""

from __future__ import annotations

import json

import pytest

from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions, DrillResult
from leeward.local.stages.deletion import DELETED, INTERN
from tests.scenarios.drills import PLAN

SCENARIO = "accidental-deletion"
# What this deletion does not need, and why it is granted all the same.
RARE = {
    "s3:AbortMultipartUpload": "an upload that broke",
    "s3:DeleteObject": "partial WAL that was superseded; markers on what came since (bucket.undo)",
    "s3:DeleteBucketPolicy": "a drill's statement out of a bucket that had no policy",
    "dynamodb:Query": "what another location is asked for",
}
# Read when objects are gone for good: rules that remove versions would explain it.
SETTINGS = {
    "s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration",
}  # fmt: skip
# Copies of versions: taking a bucket back to a moment, filling a recovery bucket. Of a batch of
# deletions the recorder does not see that each names a version.
COPYING = {
    "s3:DeleteObjectVersion",
    "s3:GetObject", "s3:GetObjectTagging", "s3:GetObjectVersion", "s3:GetObjectVersionTagging",
    "s3:ListBucket", "s3:ListBucketVersions", "s3:PutObject", "s3:PutObjectTagging", "kms:Decrypt",
}  # fmt: skip
OTHER_LOCATIONS = {"s3:GetObject", "s3:ListBucket", "kms:Decrypt", "secretsmanager:GetSecretValue"}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> DrillResult:
    plan, stage = load_runnable(PLAN, SCENARIO)
    out = tmp_path_factory.mktemp("deletion")
    options = DrillOptions(SCENARIO, "", "rows-and-objects", out, projects=1000, rate=30)
    return stage(plan, options, lambda told: None).run()


def test_everything_deleted_is_back_and_nothing_else_changed(result: DrillResult) -> None:
    assert result.problems == []
    assert result.score.rto_met
    assert result.score.rpo_seconds == 0


def test_the_record_says_what_who_and_how_to_undo(result: DrillResult) -> None:
    files = sorted((result.folder / "records").glob("*.json"))
    records = [json.loads(file.read_text()) for file in files]
    [scope] = [it["body"] for it in records if it["kind"] == "deletion-scope"]
    assert scope["objects"]["deleted"] == DELETED
    assert scope["objects"]["who"] == [f"user/{INTERN}"]
    [damage] = scope["rows"]["damages"]
    assert damage["xid"] == result.injected[0].xid
    assert scope["rows"]["roles"] == ["nexus_app"]
    before, after = (
        [it["seq"] for it in records if it["kind"] == kind]
        for kind in ("access-tightening", "access-tightened")
    )
    assert len(before) == len(after) == 2
    assert before[0] < after[0] < before[1] < after[1]
    undo = [it["body"]["undo"] for it in records if it["kind"] == "access-tightened"]
    assert 'GRANT DELETE ON public.assets TO "nexus_app"' in undo[0]


@pytest.mark.parametrize(
    ("function", "more"),
    [
        ("find_scope", OTHER_LOCATIONS | SETTINGS),
        ("restore_bucket", COPYING),
        ("tighten", {"s3:GetObject"}),
    ],
)
def test_nothing_is_granted_that_is_not_needed(
    result: DrillResult, function: str, more: set[str]
) -> None:
    found = result.rights[f"leeward-primary-{function}"]
    assert set(found.unused) <= set(RARE) | more
