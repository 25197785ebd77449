"""A plan that locks: all that is written, at once, and longer what the plan keeps longer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.gcs.access import connect_gcs
from chalicelib.adapters.gcs.store import GcsObjectStore
from chalicelib.plan.records import RecoveryPoint
from tests.scenarios.stages import COMPONENT, Stage, stage

BUCKET = "nexus-backups"


def follow_tiers(plan: dict[str, Any]) -> None:
    plan["locations"]["primary"]["locks_follow_tiers"] = True


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("locks"), follow_tiers, other_clouds=True) as made:
        yield made


def locked_days(here: Stage) -> dict[str, float]:
    """Of each object of a point, from now."""
    client, bucket = here.cloud.client("s3"), here.deployed.names["BackupBucket"]
    found = {}
    for row in here.backups.list("points/"):
        key = f"{COMPONENT}/{row.key}"
        until = client.get_object_retention(Bucket=bucket, Key=key)["Retention"]["RetainUntilDate"]
        found[row.key] = (until - datetime.now(UTC)) / timedelta(days=1)
    return found


def add_older(here: Stage, days: int, hour: int | None = None) -> str:
    """A point of so many days ago, at a given hour, as it would still be there."""
    at = datetime.now(UTC) - timedelta(days=days)
    at = at if hour is None else at.replace(hour=hour, minute=0)
    point_id = f"{at:%Y%m%dT%H%M%SZ}-archive"
    stored = here.backups.put(f"points/{point_id}/files.tar.zst", b"content")
    point = RecoveryPoint(
        id=point_id, component=COMPONENT, kind="archive", taken_at=at, finished_at=at,
        objects=(stored,), source_bytes=7, encryption="none",
    )  # fmt: skip
    client = here.cloud.client("dynamodb")
    state = DynamoDbState(client, here.deployed.names["StateTable"])
    StoredCatalogue(here.backups, COMPONENT, index=state).add(point)
    return f"points/{point_id}/files.tar.zst"


def test_what_is_written_is_locked_at_once_and_extended_by_another_function(here: Stage) -> None:
    older = add_older(here, 40)
    at_write = locked_days(here)
    # Seven dailies: a point taken in the last moment of a day is promised six more.
    assert min(at_write.values()) > 5.9
    assert max(at_write.values()) < 8

    told = here.invoke("extend_locks", {"component": COMPONENT})
    assert "3 points locked for longer" in told["found"]
    after = locked_days(here)
    # It is what is left of its month: twelve are promised.
    assert after[older] > 300
    assert all(after[key] >= at_write[key] - 0.1 for key in at_write)
    rights = here.cloud.rights()["leeward-primary-extend_locks"]
    assert (rights.denied, rights.unused) == ((), ())


def test_a_locked_version_outlives_everybody(here: Stage) -> None:
    client, bucket = here.cloud.client("s3"), here.deployed.names["BackupBucket"]
    [row] = [
        it
        for it in client.list_object_versions(Bucket=bucket, Prefix=COMPONENT)["Versions"]
        if it["Key"].endswith("-incr/base.tar.zst")
    ]
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(
            Bucket=bucket, Key=row["Key"], VersionId=row["VersionId"],
            BypassGovernanceRetention=True,
        )  # fmt: skip


def test_a_locked_point_is_not_pruned(here: Stage) -> None:
    before = {row.key for row in here.backups.list("points/")}
    here.invoke("prune", {"component": COMPONENT})
    assert {row.key for row in here.backups.list("points/")} == before


def test_what_the_primary_location_has_locked_stays_in_the_others_too(here: Stage) -> None:
    """Of three points of one day long ago, no tier asks for the middle one; its lock still does."""
    keys = [add_older(here, 70, hour) for hour in (3, 4, 5)]
    here.invoke("copy", {"component": COMPONENT, "location": "secondary"})
    store = GcsObjectStore(connect_gcs(here.others["secondary"].login), BUCKET, f"{COMPONENT}/")
    here.invoke("prune", {"component": COMPONENT})
    assert {row.key for row in store.list("points/")} >= set(keys)
