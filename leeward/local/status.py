"""The status page where the standby region's stack is not deployed: kept by the primary's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud
    from leeward.local.deploy import Stack

PARTS = ("StatusBucket", "StatusBucketPolicy")
CLOCK = ("ScheduleStatusPagePublish", "ScheduleStatusPagePublishPermission")


def make_page(primary: Stack, standby: Stack) -> None:
    """The bucket in the standby region, and its clock in the primary one; nothing for a plan
    without a page."""
    if not standby.has(PARTS[0]):
        return
    for logical in PARTS:
        standby.make(logical)
    for logical in CLOCK:
        primary.take_over(logical, standby)


def open_page(cloud: LocalCloud) -> str:
    """Have the page written; its address for a browser, "" when the deployment has none."""
    variables = dict(cloud.functions()[0].environment)
    bucket = variables.get("LEEWARD_STATUS_BUCKET")
    if not bucket:
        return ""
    cloud.fire("status-page-publish")
    return f"{cloud.url}/{bucket}/index.html"
