"""Leeward's own sync as a whole process, for bench.sync.

python -m bench.sync_subject SOURCE REPLICA [IN_FLIGHT]

The server is AWS_ENDPOINT_URL. Prints the result and the number of requests as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3.bucket import S3Buckets
from chalicelib.adapters.s3.signing import ambient_credentials
from chalicelib.backup.bucket.replicas import BucketReplica
from chalicelib.backup.bucket.sync import sync_buckets
from chalicelib.backup.bucket.sync_decision import SyncPolicy


async def main(source: str, replica: str, in_flight: str = "256") -> int:
    policy = SyncPolicy(in_flight=int(in_flight))
    async with S3Buckets(ambient_credentials()) as buckets:
        one, two = (
            buckets.bucket(name, "us-east-1", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
            for name in (source, replica)
        )
        done = await sync_buckets(one, BucketReplica(two), policy, clock=SystemClock())
        print(json.dumps({**done.to_json(), "requests": one.requests + two.requests}))
    return 0 if done.ok else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
