"""The settings of a bucket as one JSON value, part by part; what may not be read is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import Refused
from chalicelib.plan.records import format_time
from chalicelib.ports.samples import Settings

# part -> call, the field of the answer that holds it ("" for all of it), and what S3 answers
# where nothing is set.
_PARTS: dict[str, tuple[str, str, str]] = {
    "versioning": ("get_bucket_versioning", "", ""),
    "lifecycle": ("get_bucket_lifecycle_configuration", "", "NoSuchLifecycleConfiguration"),
    "policy": ("get_bucket_policy", "Policy", "NoSuchBucketPolicy"),
    "encryption": (
        "get_bucket_encryption",
        "ServerSideEncryptionConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    "lock": (
        "get_object_lock_configuration",
        "ObjectLockConfiguration",
        "ObjectLockConfigurationNotFoundError",
    ),
    "replication": (
        "get_bucket_replication",
        "ReplicationConfiguration",
        "ReplicationConfigurationNotFoundError",
    ),
    "logging": ("get_bucket_logging", "LoggingEnabled", ""),
    "ownership": (
        "get_bucket_ownership_controls",
        "OwnershipControls",
        "OwnershipControlsNotFoundError",
    ),
    "public-access": (
        "get_public_access_block",
        "PublicAccessBlockConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
    ),
    "notification": ("get_bucket_notification_configuration", "", ""),
}

# What servers other than AWS answer where they have no such setting.
_UNSUPPORTED = frozenset(("NotImplemented", "MethodNotAllowed"))


def read_settings(client: Any, bucket: str, taken_at: datetime) -> Settings:
    """Ask for every part.

    Raises:
        NotReady: there is no such bucket. A part that is denied is no error: it is unknown.
    """
    parts: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for part, (call, field, absent) in _PARTS.items():
        try:
            parts[part] = _read_part(getattr(client, call), bucket, field, absent)
        except Refused as error:
            unknown[part] = error.instance_code
    return Settings(bucket, taken_at, parts, unknown)


def _read_part(call: Callable[..., Any], bucket: str, field: str, absent: str) -> Any:
    with mapped("s3", bucket=bucket):
        try:
            answer = call(Bucket=bucket)
        except ClientError as error:
            if absent and error_code(error) == absent:
                return None
            if error_code(error) in _UNSUPPORTED:
                raise _not_implemented(error.operation_name) from error
            raise
    value = answer.get(field) if field else _without_metadata(answer)
    return _plain(json.loads(str(value)) if field == "Policy" else value)


def _not_implemented(call: str) -> Refused:
    return Refused(
        f"expected s3 to answer {call}, it does not know it",
        hint="On a server that is not AWS this part cannot be watched.",
        code="not-implemented",
    )


def _without_metadata(answer: dict[str, Any]) -> dict[str, Any] | None:
    return {name: it for name, it in answer.items() if name != "ResponseMetadata"} or None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
