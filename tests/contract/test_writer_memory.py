"""A large object takes no more memory on its way to S3 than a small one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.s3_servers import S3Server, moto_server

ROOT = Path(__file__).parents[2]
SEND = """
import os, re, sys
from chalicelib.adapters.s3.access import reach_s3
from chalicelib.adapters.s3.store import MIB, S3ObjectStore
store = S3ObjectStore(reach_s3(), sys.argv[1])
with store.open_writer("object") as writer:
    for _ in range(int(sys.argv[2]) * 8):
        writer.write(os.urandom(MIB // 8))
    writer.commit()
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
def test_the_peak_does_not_grow_with_the_object() -> None:
    with moto_server() as server:
        bucket = server.create_bucket()
        small, large = (_peak_mib(server, bucket, size) for size in (15, 90))
    assert large <= small * 1.2, f"{small} MiB for 15 MiB, {large} MiB for 90 MiB"


def _peak_mib(server: S3Server, bucket: str, size_mib: int) -> int:
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [sys.executable, "-c", SEND, bucket, str(size_mib)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return int(done.stdout)
