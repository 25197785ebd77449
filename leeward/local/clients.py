"""Clients of the local cloud: its owner's, those that no fault meets, and those of users and
sessions, from wherever they say they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from leeward.local.faults import OUTSIDE

if TYPE_CHECKING:
    from boto3 import Session
    from botocore.client import BaseClient
    from botocore.loaders import Loader

    from leeward.local.cloud import LocalCloud

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "leeward-local", "AWS_SECRET_ACCESS_KEY": "leeward-local"}


class Clients:
    """boto3's clients of the cloud at `url`; none retries. `before_send`: see same_process.py."""

    def __init__(self, url: str, before_send: Callable[..., Any]) -> None:
        self._url = url
        self._before_send = before_send
        self._made: dict[tuple[str, str], BaseClient] = {}
        self._lock = threading.RLock()

    def own(self, service: str, region: str) -> Any:
        """The owner's, one for each service and region."""
        with self._lock:
            if (service, region) not in self._made:
                self._made[service, region] = self._new(service, region)
            return self._made[service, region]

    def outside(self, service: str, region: str) -> Any:
        """A new one, that no fault meets."""
        key_id, secret = OUTSIDE, CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
        return self._new(service, region, aws_access_key_id=key_id, aws_secret_access_key=secret)

    def _new(self, service: str, region: str, **keys: str) -> BaseClient:
        from botocore.config import Config

        config = Config(
            retries={"total_max_attempts": 1},
            read_timeout=1000,
            max_pool_connections=50,
            user_agent="leeward",  # botocore's own is put together anew for each call
        )
        make: Callable[..., BaseClient] = self._session.client
        client = make(service, region_name=region, endpoint_url=self._url, config=config, **keys)
        client.meta.events.register("before-send", self._before_send)
        return client

    @cached_property
    def _session(self) -> Session:
        import boto3
        import botocore.session

        core = botocore.session.get_session()
        core.register_component("data_loader", _service_models())
        return boto3.Session(
            botocore_session=core,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )


@cache
def _service_models() -> Loader:
    """Half a second of reading, done once for all the clouds of a process."""
    from botocore.loaders import create_loader

    loader: Loader = create_loader()
    return loader


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
