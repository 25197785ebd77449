"""Clients of the local cloud for users and sessions, from wherever they say they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud


def open_client(cloud: LocalCloud, service: str, key: dict[str, str], *, source: str = "") -> Any:
    """A boto3 client by a key as IAM's CreateAccessKey or STS's AssumeRole gave it.

    source: the address that the trail is to show.
    """
    import boto3

    client = boto3.client(
        service,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
        aws_session_token=key.get("SessionToken"),
        endpoint_url=cloud.url,
        region_name="us-east-1",
    )
    if source:
        client.meta.events.register("before-send", _coming_from(source))
    return client


def _coming_from(source: str) -> Any:
    def set_header(request: Any, **_: Any) -> None:
        request.headers["X-Forwarded-For"] = source

    return set_header
