"""Where S3 is, as boto3 would find it, without its import where the environment says everything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")
# What sends S3's requests elsewhere, or makes botocore read a file.
OTHER_SETTINGS = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)  # fmt: skip
CONFIG_FILE = Path("~/.aws/config")


def ambient_s3(region: str | None = None, endpoint_url: str | None = None) -> tuple[str, str]:
    """(region, address), the address "" for AWS itself. What is given goes before what is set."""
    told = of_environment(os.environ, region, endpoint_url)
    if told is not None:
        return told

    from chalicelib.adapters.s3.store import connect_s3

    meta = connect_s3(region, endpoint_url).meta
    host = urlsplit(meta.endpoint_url).hostname or ""
    return meta.region_name or "us-east-1", "" if host.endswith(AWS_HOSTS) else meta.endpoint_url


def of_environment(
    variables: Mapping[str, str], region: str | None, endpoint_url: str | None
) -> tuple[str, str] | None:
    """None where more than the variables counts: a profile, a file, another kind of endpoint."""
    where = region or variables.get("AWS_DEFAULT_REGION")
    set_to = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL", "")
    address = endpoint_url or set_to
    host = urlsplit(address).hostname or ""
    if not where or any(variables.get(name) for name in OTHER_SETTINGS):
        return None
    if (not address and CONFIG_FILE.expanduser().exists()) or host.endswith(AWS_HOSTS):
        return None
    return where, address
