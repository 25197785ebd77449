"""What the plan's infrastructure components find in AWS: a CodeBuild project each, its buckets.

The project runs the example of examples/terraform, for real; its state lies in a bucket.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from chalicelib.plan.components import Infrastructure
from chalicelib.plan.model import Plan
from leeward.local.cloud import STANDBY_REGION, LocalCloud
from leeward.local.deploy import create_bucket
from leeward.local.iam import ACCOUNT

EXAMPLE = Path(__file__).parents[2] / "examples" / "terraform"
# The state's bucket is on loopback: no name of its own, no account to ask.
LOCAL_BACKEND = " ".join(
    f"-backend-config={name}=true"
    for name in (
        "use_path_style",
        "skip_credentials_validation",
        "skip_metadata_api_check",
        "skip_region_validation",
        "skip_requesting_account_id",
        "skip_s3_checksum",
    )
)


def create_projects(cloud: LocalCloud, plan: Plan, *, example: Path = EXAMPLE) -> None:
    """A project for each that the plan names, once."""
    made: set[tuple[str, str]] = set()
    for component in plan.components.values():
        if isinstance(component, Infrastructure):
            region = region_of(plan, component)
            if (region, component.project) not in made:
                create_project(cloud, component, region, example)
                made.add((region, component.project))


def region_of(plan: Plan, component: Infrastructure) -> str:
    """Its own, else that of its site, else the standby region."""
    site = plan.sites.get(component.site or "")
    return component.region or (site.region if site else None) or STANDBY_REGION


def create_project(
    cloud: LocalCloud, component: Infrastructure, region: str, example: Path, **more: Any
) -> None:
    """The project, its source, and the bucket for state and outputs."""
    storage = cloud.client("s3", region)
    bucket = state_bucket(component)
    create_bucket(storage, bucket, region)
    outputs = urlsplit(component.outputs or "").netloc
    if outputs and outputs != bucket:
        create_bucket(storage, outputs, region)
    storage.put_object(Bucket=bucket, Key="source.zip", Body=_zipped(example))
    variables = {"STATE_BUCKET": bucket, "TF_CLI_ARGS_init": LOCAL_BACKEND}
    settings: dict[str, Any] = {
        "name": component.project,
        "source": {"type": "S3", "location": f"{bucket}/source.zip"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": [{"name": k, "value": v} for k, v in variables.items()],
        },
        "serviceRole": f"arn:aws:iam::{ACCOUNT}:role/{component.project}",
    }
    cloud.client("codebuild", region).create_project(**(settings | more))


def state_bucket(component: Infrastructure) -> str:
    return f"{component.project}-state"


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return buffer.getvalue()
