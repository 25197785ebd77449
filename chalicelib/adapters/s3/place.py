"""Where a bucket is, and how long a server that fails is waited for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from chalicelib.errors import LeewardError, Unavailable

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Patience:
    """How long a failing server is waited for: the defaults make about 35 s of pauses.

    Copies are read with `copy_seconds` of silence: S3 sends nothing while it copies a large part.
    """

    attempts: int = 10
    first_pause_seconds: float = 0.1
    longest_pause_seconds: float = 20.0
    read_seconds: float = 60.0
    copy_seconds: float = 600.0

    def pause(self, failures: int) -> float:
        longest = min(self.first_pause_seconds * 2.0 ** (failures - 1), self.longest_pause_seconds)
        return float(longest * random.uniform(0.5, 1))


@dataclass
class Place:
    """Where a bucket is. `endpoint_url` "" is AWS itself; the region is corrected by S3."""

    bucket: str
    region: str
    endpoint_url: str = ""

    def address(self) -> tuple[str, str]:
        """(origin, path before the key): virtual-hosted in AWS, in the path everywhere else.

        A dot in the name would not match the certificate, so such a bucket goes into the path.
        """
        if self.endpoint_url:
            return self.endpoint_url.rstrip("/"), f"/{self.bucket}"
        suffix = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        host = f"s3.{self.region}.{suffix}"
        if "." in self.bucket:
            return f"https://{host}", f"/{self.bucket}"
        return f"https://{self.bucket}.{host}", ""


def unreadable(bucket: str, key: str, error: Exception) -> LeewardError:
    """A field is missing, or holds what S3 never puts there."""
    failure = Unavailable(
        f"expected an answer as S3 gives it for {bucket}, found {error!r}",
        code="answer-unreadable",
        hint="It is tried again; look at what stands between here and S3 when it repeats.",
        bucket=bucket,
        key=key,
    )
    failure.__cause__ = error
    return failure
