"""IAM: a job of S3 Batch Operations has a region in its ARN, which moto takes for a mistake.

Source: service authorization reference, "Amazon S3", resource type `job`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moto.iam import policy_validation

from leeward.local.shims import replaced

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

RULES, WITH_REGION = "SERVICE_TYPE_REGION_INFORMATION_ERROR_ASSOCIATIONS", "valid_starting_values"


@contextmanager
def install(cloud: LocalCloud) -> Iterator[None]:
    def with_jobs(original: dict[str, Any]) -> dict[str, Any]:
        own = original["s3"]
        return original | {"s3": own | {WITH_REGION: [*own[WITH_REGION], "job/"]}}

    with replaced(policy_validation, RULES, with_jobs):
        yield
