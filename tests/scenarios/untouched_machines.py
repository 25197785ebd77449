"""What machines of the local cloud hold: PostgreSQL servers, hosts, clusters, other clouds' stores.

Nothing of it may be written meanwhile: `still` holds the writers.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leeward.local.cloud import LocalCloud
from leeward.local.kubernetes.server import LocalKubernetes
from leeward.local.other_clouds import OtherCloud
from leeward.local.production import Production

Found = dict[str, Any]
SETTINGS_FILES = ("postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf")
KINDS = (
    ("apps/v1", "deployments"),
    ("v1", "configmaps"),
    ("v1", "secrets"),
    ("v1", "services"),
    ("v1", "serviceaccounts"),
    ("networking.k8s.io/v1", "ingresses"),
    ("autoscaling/v2", "horizontalpodautoscalers"),
    ("policy/v1", "poddisruptionbudgets"),
)
# Of a host: what its units and its first process write by themselves.
LIVE = ("var/log", "run", "tmp")
SHOW = "systemctl show artisttech nginx redis | grep -v MainPID; systemctl is-enabled artisttech"


def server_state(server: Production) -> Found:
    """Roles with passwords and grants, settings, slots; of each database its whole content."""
    names = _lines(server, "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")
    slots = _lines(
        server, "SELECT slot_name, slot_type, plugin FROM pg_replication_slots ORDER BY 1"
    )
    return {
        "roles": _dump(server, "pg_dumpall", "--globals-only"),
        "databases": {
            name: _dump(server, "pg_dump", "--create", name) for name in names if name != "postgres"
        },
        "slots": slots,
        "settings": {
            name: _digest((server.data_dir / name).read_bytes())
            for name in SETTINGS_FILES
            if (server.data_dir / name).exists()
        },
    }


def _lines(server: Production, sql: str) -> list[str]:
    return _run(server, "psql", "-X", "-At", "-c", sql).decode().splitlines()


def _dump(server: Production, tool: str, *options: str) -> str:
    """Newer dumps hold a random word, in a line that says "restrict"."""
    lines = _run(server, tool, *options).splitlines()
    return _digest(b"\n".join(line for line in lines if b"restrict" not in line))


def _run(server: Production, tool: str, *options: str) -> bytes:
    command = [str(server.binaries.tool(tool)), *options]
    environment = server.binaries.environment() | server.environment()
    return subprocess.run(command, env=environment, capture_output=True, check=True).stdout


def host_state(cloud: LocalCloud, instance: str) -> Found:
    """Its files, byte for byte, and how its units stand."""
    root = cloud.hosts.root(instance)
    _, units, _ = cloud.hosts.run(instance, SHOW, limit_seconds=60)
    return {"files": dict(_files(root)), "units": units.splitlines()}


def _files(root: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(root.rglob("*")):
        name = str(file.relative_to(root))
        if name.startswith(LIVE):
            continue
        if file.is_symlink():
            yield name, f"-> {file.readlink()}"
        elif file.is_file():
            yield name, f"{file.stat().st_mode:o} {_digest(file.read_bytes())}"


def redis_state(url: str) -> Found:
    """Every key as its server dumps it, with the time at which it expires."""
    from redis import Redis

    with Redis.from_url(url) as client:
        return {
            key.decode(): [_digest(client.dump(key)), client.execute_command("PEXPIRETIME", key)]
            for key in sorted(client.keys("*"))
        }


def cluster_state(cluster: LocalKubernetes) -> Found:
    """What is wanted there: every object but the pods that follow from it."""
    return {
        f"{plural} {it['metadata'].get('namespace', '')}/{it['metadata']['name']}": {
            key: value for key, value in it.items() if key not in ("status", "metadata")
        }
        | {name: it["metadata"].get(name) for name in ("labels", "annotations", "uid")}
        for version, plural in KINDS
        for it in cluster.objects.list(version, plural)
    }


def copies_state(other: OtherCloud, bucket: str) -> Found:
    """Each object of a location outside AWS, with its time and size."""
    from chalicelib.adapters.azure.access import connect_azure
    from chalicelib.adapters.azure.store import AzureObjectStore
    from chalicelib.adapters.gcs.access import connect_gcs
    from chalicelib.adapters.gcs.store import GcsObjectStore

    store: Any = (
        GcsObjectStore(connect_gcs(other.login), bucket)
        if other.provider == "gcp"
        else AzureObjectStore(connect_azure(other.login), bucket)
    )
    return {it.key: str(it) for it in store.list("")}


@contextmanager
def still(groups: Iterable[int]) -> Iterator[None]:
    """Processes that stand still for a while, as they are: nothing but them is changed."""
    held = [pid for pid in groups if pid]
    assert held, "expected writers to hold, found none"
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)


def pods_of(*clusters: LocalKubernetes) -> list[int]:
    """The processes of their pods."""
    containers = [one for it in clusters for pod in it.pods() for one in pod.containers]
    return [one._process.pid for one in containers if one._process]


def unit_of(cloud: LocalCloud, instance: str, unit: str) -> int:
    """The process of a unit on a host."""
    status, said, errors = cloud.hosts.run(instance, f"systemctl show {unit}", limit_seconds=60)
    assert status == 0, errors
    return next(
        int(line.partition("=")[2]) for line in said.splitlines() if line.startswith("MainPID=")
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
