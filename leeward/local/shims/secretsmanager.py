"""Secrets Manager: a replica becomes a secret of its own, asked in its own region alone.

moto has no StopReplicationToReplica. It refuses to write to a replica, as AWS does.
Source: "StopReplicationToReplica" in the API reference of Secrets Manager.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from moto.secretsmanager.models import ReplicaSecret, SecretsManagerBackend
from moto.secretsmanager.responses import SecretsManagerResponse

from chalicelib.errors import BadInput

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud


@contextmanager
def install(_cloud: LocalCloud) -> Iterator[None]:
    def stop_replication_to_replica(self: SecretsManagerResponse) -> str:
        return json.dumps({"ARN": _promote(self.backend, self._get_param("SecretId"))})

    name = stop_replication_to_replica.__name__
    if hasattr(SecretsManagerResponse, name):
        raise BadInput(f"moto has {name} of its own now", hint="remove this shim")
    setattr(SecretsManagerResponse, name, stop_replication_to_replica)
    try:
        yield
    finally:
        delattr(SecretsManagerResponse, name)


def _promote(backend: SecretsManagerBackend, secret_id: str) -> str:
    replica = backend.describe_secret(secret_id)
    if not isinstance(replica, ReplicaSecret):
        return str(replica.arn)
    own = copy.copy(replica.source)
    own.region, own.arn, own.replicas = replica.region, replica.arn, []
    own.versions = copy.deepcopy(replica.source.versions)
    replica.source.replicas.remove(replica)
    backend.secrets[replica.arn] = own
    return str(own.arn)
