"""An S3 server with two equal buckets of any number of objects, none of which exists.

python -m bench.s3_listings PORT OBJECTS

Bucket `source` and bucket `same` list OBJECTS keys, every other bucket is empty; a copy is answered
at once. It shows what a client itself takes in time and memory.
"""

from __future__ import annotations

import asyncio
import sys

from bench.small_server import Request, serve

PAGE = 1000
ROW = (
    "<Contents><Key>{key}</Key><LastModified>2026-11-22T08:30:00.000Z</LastModified>"
    "<ETag>&quot;{etag}&quot;</ETag><Size>4096</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
COPIED = "<CopyObjectResult><ETag>&quot;" + "d" * 32 + "&quot;</ETag></CopyObjectResult>"


def key_of(number: int) -> str:
    return f"{number // 20_000:04d}/{number:08d}.jpg"


class Listings:
    def __init__(self, objects: int) -> None:
        self._objects = objects

    async def answer(self, request: Request) -> tuple[int, str]:
        if request.method == "PUT":
            return 200, COPIED
        bucket = request.path.split("/")[1]
        query = request.query
        after = query.get("continuation-token") or query.get("start-after", "")
        held = self._objects if bucket in ("source", "same") else 0
        if "delimiter" in query:
            return 200, self._folders(after)
        return 200, _page(_first_after(after), held)

    def _folders(self, after: str) -> str:
        names = (f"{number:04d}/" for number in range(-(-self._objects // 20_000)))
        rows = "".join(
            f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
            for name in names
            if name > after
        )
        return _listing(rows, "")


def _first_after(after: str) -> int:
    """The number of the first key after one; a folder's name stands before its keys."""
    folder, _, name = after.rstrip("\0").partition("/")
    if not folder:
        return 0
    return int(name.partition(".")[0]) + 1 if name else int(folder) * 20_000


def _page(first: int, held: int) -> str:
    end = min(first + PAGE, held)
    rows = "".join(ROW.format(key=key_of(n), etag=f"{n:032x}") for n in range(first, end))
    return _listing(rows, key_of(end - 1) if end < held else "")


def _listing(rows: str, token: str) -> str:
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    truncated = "true" if token else "false"
    return (
        f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{rows}</ListBucketResult>"
    )


if __name__ == "__main__":
    port, objects = (int(word) for word in sys.argv[1:])
    asyncio.run(serve(port, Listings(objects).answer))
