"""Addresses of S3 that let their bearer read or write one object for a while, and nothing else."""

from __future__ import annotations

import boto3
from botocore.config import Config

from chalicelib.adapters.aws_errors import mapped


def sign_download(bucket: str, key: str, *, seconds: int, region: str | None) -> str:
    """At most that long, and no longer than the credentials that sign it live.

    Version 4, as an object that is encrypted by KMS demands; it holds in the bucket's own region
    alone. `region`: None is the caller's.
    """
    return _sign("get_object", bucket, key, seconds=seconds, region=region)


def sign_upload(bucket: str, key: str, *, seconds: int, region: str | None) -> str:
    """As `sign_download`, for one PUT of at most 5 GiB."""
    return _sign("put_object", bucket, key, seconds=seconds, region=region)


def _sign(operation: str, bucket: str, key: str, *, seconds: int, region: str | None) -> str:
    with mapped("s3", key=key):
        config = Config(signature_version="s3v4")
        client = boto3.client("s3", region_name=region, config=config)
        url: str = client.generate_presigned_url(
            operation, Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds
        )
    return url
