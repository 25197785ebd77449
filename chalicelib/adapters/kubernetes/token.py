"""Logging in to a cluster of EKS: a token is a presigned request to STS that the cluster makes.

    k8s-aws-v1. + base64url of https://sts.REGION.amazonaws.com/?Action=GetCallerIdentity&X-Amz-...

The cluster's name is signed with it, so that a token opens no other cluster. Nothing is asked of
AWS to make one; the cluster asks STS in the region that the token names, which is the caller's own.

Source: aws-iam-authenticator, "API Authorization from Outside a Cluster": header x-k8s-aws-id,
15 minutes from X-Amz-Date; awscli's `eks get-token`: X-Amz-Expires of 60 seconds.
"""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from typing import Any

from botocore.exceptions import BotoCoreError, NoCredentialsError

from chalicelib.adapters.http.service import Request
from chalicelib.errors import NotReady

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
EXPIRES_SECONDS = 60
# A minute less than the cluster accepts it: clocks differ.
RENEW_SECONDS = 14 * 60


def make_token(sts: Any, cluster: str) -> str:
    """Sign with the credentials of an STS client, which must be used for this cluster alone.

    Raises:
        NotReady: code "no-credentials".
    """

    def name_cluster(request: Any, **_: Any) -> None:
        request.headers[CLUSTER_HEADER] = cluster

    event, name = "before-sign.sts.GetCallerIdentity", f"leeward-{cluster}"
    sts.meta.events.register(event, name_cluster, unique_id=name)
    try:
        url = sts.generate_presigned_url(
            "get_caller_identity", ExpiresIn=EXPIRES_SECONDS, HttpMethod="GET"
        )
    except (NoCredentialsError, BotoCoreError) as error:
        raise NotReady(
            f"expected AWS credentials to log in to the cluster {cluster}, found none",
            hint="Set AWS_PROFILE, or the key variables, or run where a role is attached.",
            code="no-credentials",
        ) from error
    finally:
        sts.meta.events.unregister(event, name_cluster, unique_id=name)
    return PREFIX + urlsafe_b64encode(url.encode()).decode().rstrip("=")


class EksAccess:
    """Signs requests to one cluster; made anew before it ends, and when it is refused."""

    def __init__(self, sts: Any, cluster: str) -> None:
        self._sts, self._cluster = sts, cluster
        self._token = ""
        self._made_at = 0.0

    def sign(self, request: Request) -> None:
        if not self._token or time.monotonic() - self._made_at > RENEW_SECONDS:
            self._make()
        request.headers["Authorization"] = f"Bearer {self._token}"

    def renew(self) -> bool:
        """One that was made this moment is refused for what it is, not for its age."""
        if time.monotonic() - self._made_at < 1:
            return False
        self._make()
        return True

    def _make(self) -> None:
        self._token = make_token(self._sts, self._cluster)
        self._made_at = time.monotonic()
