"""Deploys a package into the local cloud, resource by resource through AWS's own APIs.

    stacks.py -> stack.py (one template) -> resources.py, buckets.py, zones.py (a type each)

The template is the one that goes to AWS (after the SAM transform). A resource type, a function or
a property that is not known here is an error: what was skipped in silence would be missed in AWS.
moto's own CloudFormation is not used; it ignores half of these resources.
"""

from __future__ import annotations

from leeward.local.deploy.buckets import create_bucket
from leeward.local.deploy.stack import Deployed, Stack
from leeward.local.deploy.stacks import deploy

__all__ = ["Deployed", "Stack", "create_bucket", "deploy"]
