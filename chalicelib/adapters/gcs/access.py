"""Who calls Google Cloud Storage: a service account's key, or AWS's own identity (federation)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import urllib3

from chalicelib.adapters.http.service import HttpService, NoAccess, Patience, Request
from chalicelib.errors import NotReady, Refused, Unavailable

GCS_URL = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
GCS = "Google Cloud Storage"


def connect_gcs(
    login: Mapping[str, Any] | None, *, patience: Patience | None = None
) -> tuple[HttpService, str]:
    """The service and its address, as GcsObjectStore takes them.

    Args:
        login: what the location's secret holds: a credentials file of Google's as JSON, type
            service_account or external_account. "endpoint_url" in it names another address; an
            emulator there needs nothing else.
    Raises:
        NotReady: there is none (code "no-credentials"), or it is no such file.
    """
    given = dict(login or {})
    url = str(given.pop("endpoint_url", GCS_URL)).rstrip("/")
    if given:
        return HttpService(GCS, GoogleAccess(given), patience=patience), url
    if url == GCS_URL:
        raise NotReady(
            f"expected credentials for {GCS}, found none",
            code="no-credentials",
            hint="Put a credentials file of Google's into the secret that the location names.",
        )
    return HttpService(GCS, NoAccess(), patience=patience), url


class GoogleAccess:
    """An access token of google-auth, renewed before it ends."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        from google.auth.transport.urllib3 import Request as Transport

        self._transport = Transport(urllib3.PoolManager())  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()
        with _mapped_login():
            self._credentials = _load(info)

    def sign(self, request: Request) -> None:
        with self._lock, _mapped_login():
            self._credentials.before_request(
                self._transport, request.method, request.url, request.headers
            )

    def renew(self) -> bool:
        with self._lock, _mapped_login():
            self._credentials.refresh(self._transport)
        return True


def _load(info: Mapping[str, Any]) -> Any:
    """A key of a service account, or a role of AWS that Google trusts; no other kind."""
    if info.get("type") == "service_account":
        from google.oauth2 import service_account

        return service_account.Credentials.from_service_account_info(info, scopes=[SCOPE])  # type: ignore[no-untyped-call]
    if info.get("type") == "external_account":
        from google.auth import aws

        return aws.Credentials.from_info(info, scopes=[SCOPE])  # type: ignore[no-untyped-call]
    raise ValueError("another type")


@contextmanager
def _mapped_login() -> Iterator[None]:
    from google.auth.exceptions import GoogleAuthError, OAuthError, RefreshError, TransportError

    try:
        yield
    except TransportError as error:
        raise Unavailable(
            "Google's login did not answer", hint="Check the network; the call is tried again."
        ) from error
    except (OAuthError, RefreshError) as error:
        if error.retryable or not _is_refusal(error):
            raise Unavailable(
                "Google's login did not answer",
                hint="It is tried again; federation also needs the identity of an AWS role.",
            ) from error
        raise Refused(
            "expected a login at Google, found it refused",
            code="access-denied",
            hint="Is the service account enabled and its key not revoked? Renew the secret.",
        ) from error
    except (GoogleAuthError, ValueError) as error:
        raise NotReady(
            f"expected a credentials file of Google's, found {type(error).__name__}",
            code="no-credentials",
            hint="Put the JSON of a service_account or external_account into the secret.",
        ) from error


def _is_refusal(error: Exception) -> bool:
    """Whether the login said so itself (RFC 6749, 5.2); a broken one answers in another form."""
    said = error.args[-1] if error.args else None
    try:
        return "error" in (json.loads(said) if isinstance(said, str) else said or {})
    except ValueError:
        return False
