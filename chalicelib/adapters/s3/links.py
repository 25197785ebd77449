"""Addresses of S3 that let their bearer read one object for a while, without credentials."""

from __future__ import annotations

import boto3
from botocore.config import Config

from chalicelib.adapters.aws_errors import mapped


def sign_download(bucket: str, key: str, *, seconds: int, region: str | None) -> str:
    """At most that long, and no longer than the credentials that sign it live.

    Version 4, as an object that is encrypted by KMS demands; it holds in the bucket's own region
    alone. `region`: None is the caller's.
    """
    with mapped("s3", key=key):
        config = Config(signature_version="s3v4")
        client = boto3.client("s3", region_name=region, config=config)
        url: str = client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=seconds
        )
    return url
