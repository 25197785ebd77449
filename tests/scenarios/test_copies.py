"""Copies in three clouds: the deployed package makes them, and any one of them is enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.azure_access import connect_azure
from chalicelib.adapters.azure_store import AzureObjectStore
from chalicelib.adapters.gcs_access import connect_gcs
from chalicelib.adapters.gcs_store import GcsObjectStore
from chalicelib.ports import ObjectStore
from tests.scenarios.stages import COMPONENT, Stage, stage

OTHERS = ("secondary", "tertiary")
BUCKET = "nexus-backups"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Stage]:
    with stage(tmp_path) as made:
        assert set(made.others) == set(OTHERS), "an emulator is not installed"
        yield made


def copy(here: Stage, location: str) -> dict[str, Any]:
    return here._invoke("copy", {"component": COMPONENT, "location": location})


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


def test_one_of_three_locations_is_enough(here: Stage) -> None:
    for location in OTHERS:
        assert copy(here, location)["complete"] is True
        assert copy(here, location)["found"] == f"{location}: 0 objects (0.0 MB) copied"
    mine = {row.key: row.size_bytes for row in here.backups.list()}
    for location in OTHERS:
        theirs = stored(here, location)
        keys = {row.key for row in theirs.list() if not row.key.startswith("keys/")}
        assert {key for key in mine if ".partial." not in key} <= keys
        [tar] = [key for key in keys if key.endswith("-incr/base.tar.zst")]
        # Sealed: what lies outside AWS is not the archive.
        assert theirs.get(tar)[:4] != here.backups.get(tar)[:4]

    here.damage("update-without-where")
    here.invoke("fetch_wal")
    assert copy(here, "tertiary")["complete"] is True
    empty(here)
    here.others["secondary"].stop()
    ended = here.ended(here.declare())

    assert ended.outcome["outcome"] == "recovered", ended.records[-3:]
    chosen = [it for it in ended.bodies("decision") if it["what"].startswith("read backups")]
    assert {it["what"] for it in chosen} == {"read backups from tertiary"}
    assert any(it.startswith("primary: ") for it in chosen[0]["alternatives"])
    assert any(it.startswith("secondary: unavailable") for it in chosen[0]["alternatives"])
