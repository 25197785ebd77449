"""Ransomware with stolen keys, recovered from by the deployed package; nothing of it is left."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from leeward.commands.drill import load_runnable
from leeward.local.attack import THEIR_ADDRESS
from leeward.local.drill import DrillOptions, DrillResult, Told
from leeward.local.stages.ransomware import INFECTED
from tests.scenarios.drills import PLAN

# What this attack does not need, and why it is granted all the same.
RARE = {
    "isolate": {
        "dynamodb:DeleteItem": "what was left to a person is done",
        "ec2:CreateTags": "CreateSnapshots with tags asks for it",
        "iam:DeleteRolePolicy": "lifting the sessions of a role",
        "iam:DeleteUserPolicy": "lifting the sessions of a user",
        "s3:DeleteBucketPolicy": "a bucket that had no policy before",
        "s3:PutBucketVersioning": "versioning was suspended",
    },
    "inspect": {
        "s3:AbortMultipartUpload": "an upload that broke",
        "s3:DeleteObject": "partial WAL that was superseded",
        "secretsmanager:GetSecretValue": "copies in other clouds",
    },
}


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[DrillResult, list[Told]]:
    heard: list[Told] = []
    plan, stage = load_runnable(PLAN, "ransomware")
    out: Path = tmp_path_factory.mktemp("attack")
    options = DrillOptions("ransomware", "nexus-uploads", "ransomware", out, projects=1000, rate=20)
    return stage(plan, options, heard.append).run(), heard


def bodies(heard: list[Told], kind: str) -> list[dict[str, Any]]:
    return [it.record.body for it in heard if it.record and it.record.kind == kind]


def test_everything_from_before_the_attack_is_back_and_the_key_opens_nothing(
    drilled: tuple[DrillResult, list[Told]],
) -> None:
    result, heard = drilled
    assert result.problems == [], bodies(heard, "step-failed")
    facts = {it.name: it for it in result.facts}
    lost = facts["objects of the last clean moment lost"]
    assert lost.met is True
    assert int(lost.measured.split()[-1]) > 36
    assert facts["objects of the attacker's"].met is True
    assert result.reckoning is not None
    assert result.reckoning.lost == ()
    assert result.score.ok, result.score.shortfalls


def test_a_quarantined_point_is_passed_over_and_the_record_says_why(
    drilled: tuple[DrillResult, list[Told]],
) -> None:
    """The newest before the attack is quarantined, the newest of all holds what the attack did."""
    _, heard = drilled
    [chosen] = bodies(heard, "chosen-point")
    rejected = {it["point"]: it["reason"] for it in bodies(heard, "rejected-point")}
    assert chosen["point"] not in rejected
    assert len(rejected) == 2
    planted, infected = (rejected[point] for point in sorted(rejected))
    assert INFECTED in planted
    assert "quarantined" in infected
    assert chosen["point"] < min(rejected) < max(rejected)


def test_who_from_where_since_when_and_what_first(
    drilled: tuple[DrillResult, list[Told]],
) -> None:
    result, heard = drilled
    [found] = bodies(heard, "infection")
    assert found["vector"]["identity"] == "user/nexus-uploader"
    assert found["vector"]["address"] == THEIR_ADDRESS
    assert found["counts"]["versions_removed"] == 3
    assert found["counts"]["settings_changed"] == 1
    assert found["counts"]["rows"] == result.injected[0].rows
    named = {it["what"] for it in found["timeline"]}
    assert {"s3:ListObjects", "s3:PutBucketLifecycle", "s3:PutObject", "database"} <= named


def test_each_barrier_is_in_the_evidence_with_what_was_there_before(
    drilled: tuple[DrillResult, list[Told]],
) -> None:
    _, heard = drilled
    before = {(it["kind"], it["target"]): it["before"] for it in bodies(heard, "isolating")}
    raised = {(it["kind"], it["target"]) for it in bodies(heard, "isolated")}
    assert raised <= set(before)
    assert {kind for kind, _ in raised} == {
        "bucket-policy", "bucket-history", "access-keys", "sessions", "network", "snapshots",
    }  # fmt: skip
    assert before["bucket-policy", "nexus-assets"] == {"policy": None}
    assert all(it["undo"] for it in bodies(heard, "isolated"))
    lifted = {it["kind"] for it in bodies(heard, "lifted")}
    assert lifted == {"bucket-policy", "bucket-history", "network"}, "keys stay disabled"


def test_what_proves_it_is_kept_with_its_digests(drilled: tuple[DrillResult, list[Told]]) -> None:
    result, _ = drilled
    custody = json.loads((result.folder / "forensics/custody.json").read_text())
    assert custody["left"] == []
    assert len(custody["snapshots"]) == 1
    for item in custody["items"]:
        data = (result.folder / item["object"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == item["sha256"]
    what = [it["what"] for it in custody["items"]]
    assert what.count("a damaged version") == 20
    assert "a file of the trail" in what
    acts = (result.folder / "forensics/damaged.jsonl").read_text().splitlines()
    assert {json.loads(it)["address"] for it in acts} == {THEIR_ADDRESS}


def test_no_right_was_lacking_and_none_is_granted_in_vain(
    drilled: tuple[DrillResult, list[Told]],
) -> None:
    result, _ = drilled
    for function, rare in RARE.items():
        found = result.rights[f"leeward-primary-{function}"]
        assert found.denied == (), function
        assert set(found.unused) <= set(rare), function
