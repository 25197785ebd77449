"""A local Kubernetes with a small application, and Leeward's way to it."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.http.service import Patience
from chalicelib.adapters.kubernetes.api import KubernetesApi
from chalicelib.adapters.kubernetes.deployment import KubernetesDeployment
from chalicelib.adapters.kubernetes.token import EksAccess
from leeward.local.cloud import CREDENTIALS, LocalCloud
from leeward.local.kubernetes import LocalKubernetes

CLUSTER = "nexus-production"
# A cluster that does not answer is given up soon: tests wait for it.
IMPATIENT = Patience(attempts=3, seconds=3, connect_seconds=1, silence_seconds=0.5)
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: api-deployment}
spec:
  replicas: 3
  progressDeadlineSeconds: 2
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: api
          image: nexus/tiny:1.0
          env:
            - {name: DATABASE_URL, value: "postgresql://app:secret@db/nexus"}
          readinessProbe: {httpGet: {path: /health, port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec:
  selector: {app: api}
  ports: [{port: 80, targetPort: 8080}]
"""


def key_pairs() -> dict[str, str]:
    return {CREDENTIALS["AWS_ACCESS_KEY_ID"]: CREDENTIALS["AWS_SECRET_ACCESS_KEY"]}


@contextmanager
def tiny_cluster(cloud: LocalCloud, folder: Path) -> Iterator[LocalKubernetes]:
    with LocalKubernetes(
        folder,
        cloud.reaper,
        cluster=CLUSTER,
        sts_url=cloud.url,
        secrets=key_pairs(),
        images={"nexus/tiny": [sys.executable, "-S", str(Path(__file__).parent / "tiny_app.py")]},
        environment={"PATH": "/usr/bin:/bin"},
    ) as cluster:
        cluster.apply(MANIFEST)
        yield cluster


def reach(
    cloud: LocalCloud,
    cluster: LocalKubernetes,
    *,
    kind: type[KubernetesApi] = KubernetesApi,
    **more: Any,
) -> KubernetesApi:
    given: dict[str, Any] = {
        "cluster": CLUSTER,
        "endpoint": cluster.endpoint,
        "ca": cluster.ca,
        "access": EksAccess(cloud.client("sts"), more.pop("signed_for", CLUSTER)),
        "patience": IMPATIENT,
    }
    return kind(**(given | more))


def deployment(api: KubernetesApi, **more: Any) -> KubernetesDeployment:
    given: dict[str, Any] = {"namespace": "default", "clock": SystemClock(), "poll_seconds": 0.05}
    return KubernetesDeployment(api, "api-deployment", **(given | more))


def ask(address: str) -> dict[str, Any] | None:
    """What the application answers; None when nobody does."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return dict(json.load(answer))
    except (urllib.error.URLError, OSError):
        return None
