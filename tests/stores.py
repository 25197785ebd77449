"""Real object stores for tests: two S3 servers, Google's and Azure's emulators."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from chalicelib.adapters.azure.access import connect_azure
from chalicelib.adapters.azure.store import AzureObjectStore
from chalicelib.adapters.gcs.access import connect_gcs
from chalicelib.adapters.gcs.store import GcsObjectStore
from chalicelib.adapters.http.service import Patience
from chalicelib.adapters.read_ahead import MIB
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.ports import ObjectStore
from leeward.local.other_clouds import OtherCloud, start_azure, start_gcs
from leeward.local.reaper import Reaper
from tests.s3_servers import S3Server, moto_server, seaweed_server

# For stores behind a proxy of faults. A server may itself be silent for a second on a busy machine.
QUICK = Patience(attempts=4, seconds=6.0, silence_seconds=2.0, first_pause_seconds=0.01)
Reach = Callable[[int, str, str, bool], ObjectStore]


@dataclass(frozen=True)
class Backend:
    """`reach(port, bucket, prefix, wrong_login)`: the store there, or through a proxy's port."""

    name: str
    port: int
    reach: Reach
    create: Callable[[str], Any]

    def bucket(self) -> str:
        name = f"b-{os.urandom(6).hex()}"
        self.create(name)
        return name

    def store(
        self, bucket: str, prefix: str = "first/", *, port: int = 0, wrong_login: bool = False
    ) -> ObjectStore:
        return self.reach(port or self.port, bucket, prefix, wrong_login)


@contextmanager
def running_backend(name: str) -> Iterator[Backend]:
    """moto, seaweedfs, gcs or azure; parts and ranges are small, waits short."""
    with tempfile.TemporaryDirectory(prefix="lw-stores-") as folder:
        if name in ("moto", "seaweedfs"):
            with moto_server() if name == "moto" else seaweed_server() as server:
                yield _s3_backend(server)
        else:
            with _emulator(name, Path(folder)) as cloud:
                yield _gcs_backend(cloud) if name == "gcs" else _azure_backend(cloud)


@contextmanager
def _emulator(name: str, folder: Path) -> Iterator[OtherCloud]:
    reaper = Reaper()
    reaper.start()
    try:
        cloud = (start_gcs if name == "gcs" else start_azure)(folder, reaper)
        assert cloud is not None, f"the emulator of {name} is not installed: make setup"
        yield cloud
        cloud.stop()
    finally:
        reaper.stop()


def _s3_backend(server: S3Server) -> Backend:
    def reach(port: int, bucket: str, prefix: str, wrong_login: bool) -> ObjectStore:
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 3},
            read_timeout=30 if port == server.port else 4, s3={"payload_signing_enabled": False},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )  # fmt: skip
        client = boto3.client(
            "s3", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}", config=config,
            aws_access_key_id=server.key,
            aws_secret_access_key="wrong" if wrong_login else server.secret,
        )  # fmt: skip
        return S3ObjectStore(client, bucket, prefix, part_bytes=5 * MIB, range_bytes=2 * MIB)

    def create(name: str) -> None:
        server.client.create_bucket(Bucket=name)

    return Backend(server.name, server.port, reach, create)


def _gcs_backend(cloud: OtherCloud) -> Backend:
    def reach(port: int, bucket: str, prefix: str, wrong_login: bool) -> ObjectStore:
        patience = None if port == cloud.port else QUICK
        service = connect_gcs({"endpoint_url": f"http://127.0.0.1:{port}"}, patience=patience)
        return GcsObjectStore(
            service, bucket, prefix, chunk_bytes=2 * MIB, range_bytes=2 * MIB, page_rows=20
        )

    return Backend("gcs", cloud.port, reach, cloud.create_bucket)


def _azure_backend(cloud: OtherCloud) -> Backend:
    def reach(port: int, bucket: str, prefix: str, wrong_login: bool) -> ObjectStore:
        url = cloud.login["endpoint_url"].replace(f":{cloud.port}/", f":{port}/")
        login = {**cloud.login, "endpoint_url": url}
        if wrong_login:
            login["account_key"] = "d3Jvbmc="
        service = connect_azure(login, patience=None if port == cloud.port else QUICK)
        return AzureObjectStore(
            service, bucket, prefix, block_bytes=2 * MIB, range_bytes=2 * MIB, page_rows=20
        )

    return Backend("azure", cloud.port, reach, cloud.create_bucket)
