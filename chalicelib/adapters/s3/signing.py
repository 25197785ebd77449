"""AWS Signature Version 4 for S3, with the day's signing key kept.

The caller passes the path and the query as they go over the wire, so that what is signed is what
is sent. Source: AWS's "Signature Calculations for the Authorization Header: Transferring Payload
in a Single Chunk"; botocore's S3SigV4Auth is the oracle of its tests.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from chalicelib.errors import NotReady

EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str
    token: str = ""


class Signer:
    """Signs for one region. `credentials` is asked at every request, so that it may refresh."""

    def __init__(self, region: str, credentials: Callable[[], Credentials]) -> None:
        self._region = region
        self._credentials = credentials
        # In one piece: other threads sign meanwhile.
        self._kept = ("", "", b"")

    def sign(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        at: datetime,
        payload_sha256: str = EMPTY_SHA256,
    ) -> dict[str, str]:
        """All headers to send: `headers` (with Host; every one of them is signed) and the new ones.

        Args:
            path: encoded by `encode_path`.
            query: made by `encode_query`.
            at: aware UTC.
        """
        credentials = self._credentials()
        # A twentieth of strftime's time.
        stamp = at.isoformat(timespec="seconds")[:19].replace("-", "").replace(":", "") + "Z"
        sent = {**headers, "x-amz-content-sha256": payload_sha256, "x-amz-date": stamp}
        if credentials.token:
            sent["x-amz-security-token"] = credentials.token
        named = sorted((name.lower(), " ".join(value.split())) for name, value in sent.items())
        signed = ";".join(name for name, _ in named)
        lines = "".join(f"{name}:{value}\n" for name, value in named)
        request = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload_sha256}"
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode()
        signature = hmac.digest(self._signing_key(credentials, stamp[:8]), to_sign, "sha256").hex()
        sent["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return sent

    def _signing_key(self, credentials: Credentials, day: str) -> bytes:
        secret, kept_day, key = self._kept
        if (secret, kept_day) != (credentials.secret_key, day):
            key = f"AWS4{credentials.secret_key}".encode()
            for part in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._kept = (credentials.secret_key, day, key)
        return key


def encode_path(path: str) -> str:
    """Percent-encoded once, slashes kept; nothing is normalised."""
    return quote(path, safe="/")


def encode_query(pairs: Sequence[tuple[str, str]]) -> str:
    """In the order that the signature demands, which is also the one that is sent."""
    encoded = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _of_environment(variables: Mapping[str, str]) -> Credentials | None:
    """What botocore would find first, also where AWS_PROFILE is set: its import takes 80 ms. Those
    that expire are left to it."""
    access, secret, token, expiry = (
        variables.get(f"AWS_{name}", "")
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "CREDENTIAL_EXPIRATION")
    )
    if not (access and secret) or expiry:
        return None
    return Credentials(access, secret, token or variables.get("AWS_SECURITY_TOKEN", ""))


def ambient_credentials() -> Callable[[], Credentials]:
    """The credentials that boto3 would find, refreshed by botocore when they are about to expire.

    Raises:
        NotReady: code "no-credentials", at the first use.
    """
    if said := _of_environment(os.environ):
        return lambda: said

    from botocore.session import get_session

    return credentials_of(get_session().get_credentials())


def credentials_of(found: Any) -> Callable[[], Credentials]:
    """What botocore found, refreshed by it.

    Raises at the use: NotReady (code "no-credentials", or that they cannot be refreshed).
    """
    from chalicelib.adapters.aws_errors import mapped

    def current() -> Credentials:
        if found is None:
            raise NotReady(
                "expected AWS credentials for s3, found none",
                hint="Set AWS_PROFILE, or the key variables, or run where a role is attached.",
                code="no-credentials",
            )
        with mapped("s3"):
            frozen = found.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or "")

    return current
