"""Leeward's own sync as a whole process, for bench.sync.

python -m bench.sync_subject SOURCE REPLICA [NOTE [IN_FLIGHT]]

The collector of cycles is told what `leeward sync` tells it. NOTE: a file in which what was
compared is kept for the next sync, as a job keeps it in a store. The server is AWS_ENDPOINT_URL.
Prints the result and the number of requests as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3.bucket import S3Buckets
from chalicelib.adapters.s3.signing import ambient_credentials
from chalicelib.backup.bucket.in_parts import Compared
from chalicelib.backup.bucket.replicas import BucketReplica
from chalicelib.backup.bucket.sync import sync_buckets
from chalicelib.backup.bucket.sync_decision import SyncPolicy
from leeward.garbage import expect_many_rows


async def main(source: str, replica: str, note: str = os.devnull, in_flight: str = "256") -> int:
    expect_many_rows()
    policy = SyncPolicy(in_flight=int(in_flight))
    kept = Path(note)
    compared = Compared.from_bytes(kept.read_bytes() if kept.is_file() else b"")
    async with S3Buckets(ambient_credentials()) as buckets:
        one, two = (
            buckets.bucket(name, "us-east-1", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
            for name in (source, replica)
        )
        done = await sync_buckets(
            one, BucketReplica(two), policy, clock=SystemClock(), compared=compared
        )
        print(json.dumps({**done.to_json(), "requests": one.requests + two.requests}))
    if done.ok:
        kept.write_bytes(compared.to_bytes())
    return 0 if done.ok else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
