"""S3 servers for tests: moto in this process, and SeaweedFS as one that is not moto."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from bench.lab import free_ports
from chalicelib.adapters.s3.signing import Credentials
from tests.servers import _end_with_parent

WEED = Path(sys.executable).parent / "weed"


@dataclass(frozen=True)
class S3Server:
    """A running server; `client` is boto3's, to look at it from outside."""

    name: str
    url: str
    key: str
    secret: str

    def credentials(self) -> Credentials:
        return Credentials(self.key, self.secret)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @cached_property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def create_bucket(self, *, versioned: bool = False) -> str:
        name = f"b-{secrets.token_hex(6)}"
        client = self.client
        client.create_bucket(Bucket=name)
        if versioned:
            status = {"Status": "Enabled"}
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration=status)
        return name


@contextmanager
def moto_server() -> Iterator[S3Server]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3Server("moto", f"http://{host}:{port}", "testing", "testing")
    finally:
        server.stop()


@contextmanager
def seaweed_server() -> Iterator[S3Server]:
    """Each bucket takes about seven volumes, hence so many of them."""
    with tempfile.TemporaryDirectory(prefix="lw-weed-", ignore_cleanup_errors=True) as folder:
        ports = free_ports(4)
        server = S3Server(
            "seaweedfs", f"http://127.0.0.1:{ports[0]}", "test", secrets.token_hex(16)
        )
        process = _start_seaweed(Path(folder), server, ports)
        try:
            _wait_until_ready(server, process, Path(folder))
            yield server
        finally:
            process.kill()
            process.wait(30)


def _start_seaweed(folder: Path, server: S3Server, ports: list[int]) -> subprocess.Popen[bytes]:
    keys = [{"accessKey": server.key, "secretKey": server.secret}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = {"identities": [{"name": "test", "credentials": keys, "actions": actions}]}
    (folder / "s3.json").write_text(json.dumps(identities))
    command: list[str | Path] = [
        WEED, "server", f"-dir={folder}", "-ip=127.0.0.1", f"-master.port={ports[1]}",
        f"-volume.port={ports[2]}", f"-filer.port={ports[3]}", "-volume.max=2000",
        "-master.volumeSizeLimitMB=64", "-s3", f"-s3.port={ports[0]}",
        f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, preexec_fn=_end_with_parent
        )


def _wait_until_ready(
    server: S3Server, process: subprocess.Popen[bytes], folder: Path, seconds: float = 60
) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            server.client.create_bucket(Bucket="ready")
            server.client.put_object(Bucket="ready", Key="ready", Body=b"")
            return
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError((folder / "log").read_text()[-3000:]) from None
            time.sleep(0.05)
