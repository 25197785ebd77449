"""Copies in three clouds: the deployed package makes them, and any one of them is enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.adapters.azure.access import connect_azure
from chalicelib.adapters.azure.store import AzureObjectStore
from chalicelib.adapters.gcs.access import connect_gcs
from chalicelib.adapters.gcs.store import GcsObjectStore
from chalicelib.ports import ObjectStore
from tests.scenarios.stages import COMPONENT, Stage, overwrite_middle, stage

OTHERS = ("secondary", "tertiary")
BUCKET = "nexus-backups"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The tests of this file follow each other on one stage; the last one destroys it."""
    with stage(tmp_path_factory.mktemp("copies"), other_clouds=True) as made:
        assert set(made.others) == set(OTHERS), "an emulator is not installed"
        yield made


def copy(here: Stage, location: str) -> dict[str, Any]:
    return here.invoke("copy", {"component": COMPONENT, "location": location})


def check(here: Stage, location: str) -> dict[str, Any]:
    """A check, and the repair that it starts."""
    told = here.invoke("check", {"component": COMPONENT, "location": location})
    assert here.cloud.wait_idle()
    return told


def stored(here: Stage, location: str) -> ObjectStore:
    """What really lies there, sealed."""
    login, prefix = here.others[location].login, f"{COMPONENT}/"
    if location == "secondary":
        return GcsObjectStore(connect_gcs(login), BUCKET, prefix)
    return AzureObjectStore(connect_azure(login), BUCKET, prefix)


def empty(here: Stage) -> None:
    """Somebody with rights to it removes every version of every backup in AWS."""
    client, bucket = here.cloud.client("s3"), here.deployed.names["BackupBucket"]
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        rows = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        keys = [{"Key": row["Key"], "VersionId": row["VersionId"]} for row in rows]
        client.delete_objects(Bucket=bucket, Delete={"Objects": keys})


def test_an_object_that_takes_longer_than_one_invocation_is_gone_on_with(here: Stage) -> None:
    """Nobody asks again: each invocation puts down what it has not finished and starts the next."""
    sizes = {row.key: row.size_bytes for row in here.backups.list("points/")}
    assert max(sizes.values()) > 3 << 20
    long = {"bytes": 1 << 20, "seconds": 0}
    event = {"component": COMPONENT, "location": "tertiary", "long": long}
    told = here.invoke("copy", event)
    assert told["complete"] is False
    assert "to be gone on with" in told["found"]
    assert list(here.backups.list("copying/tertiary/"))
    assert here.cloud.wait_idle()
    assert here.cloud.logs("copy").count("START RequestId") > 3
    assert not list(here.backups.list("copying/"))
    assert copy(here, "tertiary")["found"] == "tertiary: 0 objects (0.0 MB) copied"
    assert check(here, "tertiary")["ok"] is True


def test_the_copies_hold_what_a_recovery_uses_and_outside_aws_nobody_can_read_it(
    here: Stage,
) -> None:
    for location in OTHERS:
        assert copy(here, location)["complete"] is True
        assert copy(here, location)["found"] == f"{location}: 0 objects (0.0 MB) copied"
    mine = {row.key: row.size_bytes for row in here.backups.list()}
    for location in OTHERS:
        theirs = stored(here, location)
        keys = {row.key for row in theirs.list() if not row.key.startswith("keys/")}
        copied = {key for key in mine if ".partial." not in key and "sealed-keys" not in key}
        assert copied <= keys
        [tar] = [key for key in keys if key.endswith("-incr/base.tar.zst")]
        # The wrapped data keys lie here too: losing them there would lose the copy.
        [own] = [row.key for row in theirs.list("keys/")]
        [kept] = [row.key for row in here.backups.list(f"sealed-keys/{location}/")]
        assert here.backups.get(kept) == theirs.get(own)
        # Sealed: what lies outside AWS is not the archive.
        assert theirs.get(tar)[:4] != here.backups.get(tar)[:4]


def test_every_copy_is_checked_and_every_byte_of_it_read_in_time(here: Stage) -> None:
    for location in ("primary", *OTHERS):
        told = check(here, location)
        assert told["ok"] is True, told
        assert " 0.0 MB read" not in told["found"]
    metrics = here.cloud.client("cloudwatch").list_metrics(Namespace="Leeward")["Metrics"]
    names = {it["MetricName"] for it in metrics}
    assert {f"OldestUnread.{location}" for location in ("primary", *OTHERS)} <= names


def test_what_is_damaged_is_found_when_it_arrives_and_copied_back(here: Stage) -> None:
    [key] = [row.key for row in here.backups.list() if row.key.endswith("-incr/base.tar.zst")]
    good = here.backups.get(key)
    overwrite_middle(here.backups, key)
    # S3 tells the function `arrive`, which starts `repair`: nobody called either.
    assert here.cloud.wait_idle()
    assert here.backups.get(key) == good
    assert "arrived-damaged" not in here.cloud.logs("repair")
    assert check(here, "primary")["ok"] is True


def test_what_is_lost_in_another_cloud_is_copied_back_by_the_check(here: Stage) -> None:
    outside = stored(here, "tertiary")
    [key] = [row.key for row in outside.list() if row.key.endswith("-incr/base.tar.zst")]
    outside.delete(key)
    told = check(here, "tertiary")
    assert (told["ok"], "missing" in told["found"]) == (False, True)
    assert key in {row.key for row in outside.list()}
    assert check(here, "tertiary")["ok"] is True


def test_nothing_that_the_plan_keeps_is_pruned(here: Stage) -> None:
    before = {row.key for row in here.backups.list("points/")}
    told = here.invoke("prune", {"component": COMPONENT})
    assert told["found"].count("0 points") == 3
    assert {row.key for row in here.backups.list("points/")} == before


# Granted for what did not happen here.
RARE = {
    "s3:AbortMultipartUpload": "an upload that broke",
    "s3:DeleteObject": "a point whose time is over",
    "dynamodb:DeleteItem": "a point whose time is over",
    "dynamodb:GetItem": "a turn that a dead worker held; a point whose time is over",
    "dynamodb:PutItem": "a quarantine, when no location has the point sound",
    "s3:ListBucket": "without it S3 says of a missing object that it may not be read",
    "s3:ListBucketMultipartUploads": "a location in another region of AWS",
    "s3:ListMultipartUploadParts": "the same",
    "s3:ListBucketVersions": "the replica of a bucket: test_buckets.py",
    "s3:GetObjectVersion": "the same",
    "kms:Encrypt": "a data key for a new period",
    "kms:Decrypt": "an object in parts, of which S3 keeps no SHA-256 and which is read",
}


@pytest.mark.parametrize("function", ["copy", "check", "arrive", "repair", "prune"])
def test_each_function_has_the_rights_that_it_needs(here: Stage, function: str) -> None:
    rights = here.cloud.rights()[f"leeward-primary-{function}"]
    assert rights.denied == ()
    assert set(rights.unused) <= RARE.keys()


def test_one_of_three_locations_is_enough(here: Stage) -> None:
    here.damage("update-without-where")
    here.job("fetch_wal")
    assert copy(here, "tertiary")["complete"] is True
    empty(here)
    here.others["secondary"].stop()
    ended = here.ended(here.declare_run())

    assert ended.outcome["outcome"] == "recovered", ended.records[-3:]
    chosen = [it for it in ended.bodies("decision") if it["what"].startswith("read backups")]
    assert {it["what"] for it in chosen} == {"read backups from tertiary"}
    assert any(it.startswith("primary: ") for it in chosen[0]["alternatives"])
    assert any(it.startswith("secondary: unavailable") for it in chosen[0]["alternatives"])
