"""Two components that are one bucket: each event of it is brought to the replica of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from leeward.local.cloud import LocalCloud
from leeward.local.deploy import Deployed, deploy
from leeward.local.locations import create_application_buckets
from leeward.packaging.package import build_package
from leeward.plan_file import load_plan
from tests.scenarios.drills import PLAN

BUCKET, REPLICAS = "nexus-assets", ("ReplicaNexusPictures", "ReplicaNexusUploads")
SECOND = """
  nexus-pictures:
    kind: bucket
    site: primary
    bucket: nexus-assets
    backups: [{ kind: sync, when: daily at 02:00, to: [primary] }]
    retention: { daily: 7 }
  nexus-uploads:"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCloud, Deployed]]:
    file = tmp_path_factory.mktemp("plan") / "plan.yaml"
    file.write_text(PLAN.read_text().replace("\n  nexus-uploads:", SECOND, 1))
    plan = load_plan(file).plan
    with ExitStack() as stack:
        package = build_package(plan, tmp_path_factory.mktemp("package"))
        cloud = stack.enter_context(LocalCloud(schedules=False))
        create_application_buckets(cloud, plan)
        yield cloud, deploy(cloud, package)


def told(cloud: LocalCloud, metric: str) -> list[str]:
    """The components of which a value of it was published, in order."""
    from moto.cloudwatch.models import cloudwatch_backends

    data = cloudwatch_backends["123456789012"]["us-east-1"].metric_data
    return [
        dimension.value
        for it in data
        if it.name == metric
        for dimension in it.dimensions
        if dimension.name == "Component"
    ]


def contents(s3: Any, bucket: str) -> dict[str, bytes]:
    rows = s3.list_objects_v2(Bucket=bucket).get("Contents", ())
    bodies = (s3.get_object(Bucket=bucket, Key=it["Key"])["Body"].read() for it in rows)
    return dict(zip([it["Key"] for it in rows], bodies, strict=True))


def test_an_event_serves_every_component_that_is_its_bucket(
    here: tuple[LocalCloud, Deployed],
) -> None:
    cloud, deployed = here
    s3 = cloud.client("s3")
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"one")
    assert cloud.wait_idle()
    assert not cloud.lost
    for name in REPLICAS:
        assert contents(s3, deployed.names[name]) == {"a": b"one"}
    assert told(cloud, "ReplicationLag") == ["nexus-pictures", "nexus-uploads"]
    assert told(cloud, "ReplicationFailures") == []


def test_what_fails_for_one_component_is_brought_to_the_other(
    here: tuple[LocalCloud, Deployed],
) -> None:
    """The first of the two: a failed event is told of its component, and delivered again."""
    cloud, deployed = here
    s3, first = cloud.client("s3"), deployed.names[REPLICAS[0]]
    for it in s3.list_object_versions(Bucket=first)["Versions"]:
        s3.delete_object(Bucket=first, Key=it["Key"], VersionId=it["VersionId"])
    s3.delete_bucket(Bucket=first)
    s3.put_object(Bucket=BUCKET, Key="b", Body=b"two")
    assert cloud.wait_idle()
    assert contents(s3, deployed.names[REPLICAS[1]]) == {"a": b"one", "b": b"two"}
    assert set(told(cloud, "ReplicationFailures")) == {"nexus-pictures"}
    assert told(cloud, "ReplicationLag")[2:] == ["nexus-uploads"]
