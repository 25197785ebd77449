"""What a plan finds outside its own stack in the local cloud: the application's buckets, and
locations in other clouds (an emulator each, where it is installed)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from chalicelib.plan.model import Plan
from leeward.local.cloud import PRIMARY_REGION, LocalCloud
from leeward.local.other_clouds import OtherCloud, installed, start_azure, start_gcs

STARTS = {"gcp": start_gcs, "azure": start_azure}


def startable_locations(plan: Plan) -> tuple[str, ...]:
    """The plan's locations that can be put up on this machine."""
    here = installed()
    return tuple(
        name
        for name, location in plan.locations.items()
        if location.provider in here and location.bucket and location.secret
    )


def start_locations(cloud: LocalCloud, plan: Plan) -> dict[str, OtherCloud]:
    """Start what the plan names, make the bucket, put the login into the plan's secret.

    A location whose emulator is not installed is left out. They end with the cloud's reaper.
    """
    wanted = startable_locations(plan)

    def start(name: str) -> OtherCloud | None:
        location = plan.locations[name]
        started = STARTS[location.provider](cloud.folder / "locations" / name, cloud.reaper)
        if started is None:
            return None
        started.create_bucket(str(location.bucket))
        cloud.client("secretsmanager").create_secret(
            Name=str(location.secret), SecretString=json.dumps(started.login)
        )
        return started

    with ThreadPoolExecutor() as threads:
        found = dict(zip(wanted, threads.map(start, wanted), strict=True))
    return {name: started for name, started in found.items() if started}


def create_application_buckets(cloud: LocalCloud, plan: Plan) -> None:
    """The buckets that the plan protects, as it wants them: versioned, with events."""
    client = cloud.client("s3", PRIMARY_REGION)
    for component in plan.live.values():
        if component.kind != "bucket":
            continue
        client.create_bucket(Bucket=component.bucket)
        client.put_bucket_versioning(
            Bucket=component.bucket, VersioningConfiguration={"Status": "Enabled"}
        )
        client.put_bucket_notification_configuration(
            Bucket=component.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
