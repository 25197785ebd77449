"""Which service of moto a request is for; it takes every one that is signed in its query for S3's.

A presigned request to STS is the token with which somebody logs in to a cluster of EKS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from moto.moto_server.werkzeug_app import DomainDispatcherApplication


class Dispatcher(DomainDispatcherApplication):
    """`create_app` makes the application of a service, once."""

    def __init__(self, create_app: Callable[[Any], Any]) -> None:
        super().__init__(create_app)
        self._known: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        """Once for each host: the patterns of 180 services are tried, twice a request."""
        if host not in self._known:
            self._known[host] = super().get_backend_for_host(host)
        return self._known[host]

    def infer_service_region_host(self, environ: dict[str, Any], path: str) -> str | None:
        return host_of_presigned(environ.get("QUERY_STRING", "")) or (
            super().infer_service_region_host(environ, path)
        )


def host_of_presigned(query: str) -> str | None:
    """The host of STS when the query is signed for it, else None."""
    scope = dict(parse_qsl(query)).get("X-Amz-Credential", "").split("/")
    return f"sts.{scope[2]}.amazonaws.com" if scope[3:] == ["sts", "aws4_request"] else None
