"""Where S3 is, who asks, and how long it is waited for: all that a request needs to be signed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chalicelib.adapters.s3.ambient import ambient_s3, known_to
from chalicelib.adapters.s3.place import Patience, Place
from chalicelib.adapters.s3.signing import Credentials, ambient_credentials, credentials_of

# Some 40 s of pauses: about a minute of 503, SlowDown and resets is ridden out.
PATIENCE = Patience(attempts=9, first_pause_seconds=0.3, read_seconds=30)
# Of botocore, where nothing else is set.
USUAL_ATTEMPTS = 5


@dataclass(frozen=True)
class S3Access:
    """`endpoint_url` "" is AWS itself. `credentials` is asked at every request."""

    region: str
    endpoint_url: str
    credentials: Callable[[], Credentials]
    patience: Patience = PATIENCE

    def place(self, bucket: str) -> Place:
        return Place(bucket, self.region, self.endpoint_url)


def reach_s3(
    region: str | None = None, endpoint_url: str | None = None, patience: Patience = PATIENCE
) -> S3Access:
    """As boto3 would find it, without its import where the environment says everything."""
    where, address = ambient_s3(region, endpoint_url)
    return S3Access(where, address, ambient_credentials(), patience)


def access_of(client: Any) -> S3Access:
    """What a client of boto3's would use."""
    meta, credentials = client.meta, credentials_of(client._request_signer._credentials)
    retries = meta.config.retries or {}
    attempts = retries.get("total_max_attempts") or retries.get("max_attempts", -1) + 1
    patience = Patience(
        attempts=attempts or USUAL_ATTEMPTS,
        first_pause_seconds=PATIENCE.first_pause_seconds,
        read_seconds=float(meta.config.read_timeout),
    )
    return S3Access(*known_to(client), credentials, patience)
