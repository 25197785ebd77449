"""Where S3 is, as boto3 would find it, without its import where the environment says everything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# What sends S3's requests elsewhere, or makes botocore read a file.
OTHER_SETTINGS = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)  # fmt: skip
# botocore's region for what has none.
EVERYWHERE = "aws-global"
CONFIG_FILE = Path("~/.aws/config")


def ambient_s3(region: str | None = None, endpoint_url: str | None = None) -> tuple[str, str]:
    """(region, address), the address "" for AWS itself. What is given goes before what is set."""
    told = of_environment(os.environ, region, endpoint_url)
    if told is not None:
        return told

    from chalicelib.adapters.s3.store import connect_s3

    return known_to(connect_s3(region, endpoint_url))


def ambient_proxy(host: str) -> str:
    """The proxy to a host that is spoken to over TLS, as boto3 finds it; "" without one."""
    if not any(name.lower() == "https_proxy" for name in os.environ):
        return ""

    from urllib import request

    proxies = request.getproxies_environment()
    # What proxy_bypass is on Linux; typeshed does not know it, and macOS's looks elsewhere too.
    if request.proxy_bypass_environment(host, proxies):  # type: ignore[attr-defined]
        return ""
    found = proxies.get("https", "")
    return found if "://" in found or not found else f"http://{found}"


def known_to(client: Any) -> tuple[str, str]:
    """As `ambient_s3`, of what a client of boto3's would ask."""
    region = str(client.meta.region_name or "us-east-1").replace(EVERYWHERE, "us-east-1")
    return region, special(str(client.meta.endpoint_url).replace(EVERYWHERE, region), region)


def special(address: str, region: str) -> str:
    """ "" for S3's own, which Place makes; an endpoint in a network of one's own, of dual stack or
    with FIPS 140 stays as it is."""
    host = urlsplit(address).hostname or ""
    usual = (f"s3.{region}.amazonaws.com", f"s3.{region}.amazonaws.com.cn", "s3.amazonaws.com")
    return "" if host in usual else address


def of_environment(
    variables: Mapping[str, str], region: str | None, endpoint_url: str | None
) -> tuple[str, str] | None:
    """None where more than the variables counts: a profile, a file, another kind of endpoint."""
    where = region or variables.get("AWS_DEFAULT_REGION")
    set_to = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL", "")
    address = endpoint_url or set_to
    if not where or any(variables.get(name) for name in OTHER_SETTINGS):
        return None
    if not address and CONFIG_FILE.expanduser().exists():
        return None
    return where, special(address, where)
