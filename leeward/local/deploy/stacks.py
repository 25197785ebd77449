"""The stacks of a package: that of the primary region, and what the other region has of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.deploy.buckets import create_bucket
from leeward.local.deploy.stack import Deployed, Stack

if TYPE_CHECKING:
    from leeward.packaging.package import Package

STANDBY_STACK = "leeward-standby"


def deploy(
    cloud: LocalCloud,
    package: Package,
    *,
    region: str = PRIMARY_REGION,
    standby: bool = False,
    names: bool = False,
) -> Deployed:
    """Upload the zip and make every resource of the template.

    Args:
        standby: the stack of the standby region too; without, only its key, which copies need.
        names: without that stack, what moves names all the same, the names, and the status page.
    Raises:
        BadInput: code "unknown-resource" for a type, property or function not known here.
    """
    from leeward.local.names import deploy_names, make_switches
    from leeward.local.status import make_page
    from leeward.packaging.application import CODE_BUCKET, CODE_KEY

    storage, code = cloud.client("s3", region), package.zip.read_bytes()
    digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
    threading.Thread(target=cloud.runner.unpack, args=(digest, code), daemon=True).start()
    create_bucket(storage, CODE_BUCKET, region)
    storage.put_object(Bucket=CODE_BUCKET, Key=CODE_KEY, Body=code)
    stack = Stack(cloud, json.loads(package.expanded.read_text()), region)
    deployed = stack.apply()
    cloud.note(deployed={"region": region, **deployed.outputs})
    if package.names and not package.standby_expanded:
        deploy_names(cloud, package.names, region, deployed.outputs)
    if package.standby_expanded:
        template = json.loads(package.standby_expanded.read_text())
        other = Stack(cloud, template, STANDBY_REGION, deployed.outputs, stack_name=STANDBY_STACK)
        if not standby:
            other.make("EnvelopeKeyReplica")
            if names:
                make_page(stack, other)
            if names and package.names:
                deploy_names(cloud, package.names, STANDBY_REGION, make_switches(other))
            return deployed
        made = other.apply()
        if package.names:
            deploy_names(cloud, package.names, STANDBY_REGION, made.outputs)
        return replace(deployed, standby=made)
    return deployed
