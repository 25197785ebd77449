"""What taking a bucket back costs, beside s3-pit-restore on the same server; and who is right.

    python -m bench.bucket_undo [--keys 10000] [--rounds 3]

Two servers: SeaweedFS, which is itself the limit on this machine, and bench.s3_versions, which is
as late as S3 and no slower. Leeward's time includes its plan and its proof. Prints one JSON object
and rewrites its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench.lab import (
    ROOT,
    Cost,
    Store,
    free_ports,
    measure,
    object_store,
    peer,
    poll,
    publish,
    rounds,
    table,
    work_folder,
)
from bench.s3_versions import FATES, MOMENT, name_of, state_then
from chalicelib.adapters.s3.bucket import S3Bucket, S3Buckets
from chalicelib.adapters.s3.signing import ambient_credentials
from chalicelib.adapters.s3.store import connect_s3
from chalicelib.plan.records import parse_time
from leeward.bucket_undo import Undoing, Wish
from leeward.garbage import expect_many_rows

PIT_RESTORE = ("s3-pit-restore==0.9",)
LEEWARD = Path(sys.executable).with_name("leeward")
OBJECT_BYTES = 2048
# What encryption adds: a nonce and a tag.
ADDED_BYTES = 28
NOTES = 500
PUTS_AT_ONCE = 32
WORKERS = 64
State = dict[str, str]
Undo = Callable[[str, datetime], list[str | Path]]
# Makes a history; calls what it is given at the moment to go back to, and returns that.
Make = Callable[[Store, str, Callable[[], datetime]], datetime]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs=2, metavar=("BUCKET", "TIME"), help="undo this, no more")
    options = parser.parse_args()
    if options.only:
        undo_alone(*options.only)
        return
    figures: dict[str, Any] = {"keys": options.keys}
    figures["as late as S3"] = _measure(partial(_undo_late, options.keys), options.rounds)
    with work_folder() as work, object_store(work / "store") as store:
        figures["SeaweedFS"] = _measure(partial(_undo_stored, store, options.keys), options.rounds)
        figures["cases"] = {
            case: {name: _case(store, make, tool) for name, tool in TOOLS.items()}
            for case, make in CASES.items()
        }
    publish("bucket undo", _text(figures), figures)


def _measure(undo: Callable[[Undo, list[bool]], Cost], count: int) -> dict[str, Any]:
    tools = {**TOOLS, UNPROVEN: unproven}
    right: dict[str, list[bool]] = {name: [] for name in tools}
    variants = {name: partial(undo, tool, right[name]) for name, tool in tools.items()}
    found = rounds(variants, count)
    return {name: {**figures, "right": all(right[name])} for name, figures in found.items()}


def leeward(bucket: str, to_at: datetime) -> list[str | Path]:
    words = ["restore", "bucket", bucket, "--to", to_at.isoformat(), "--yes", "--format", "json"]
    return [LEEWARD, *words]


def unproven(bucket: str, to_at: datetime) -> list[str | Path]:
    """What s3-pit-restore does, and no more."""
    return [sys.executable, "-m", "bench.bucket_undo", "--only", bucket, to_at.isoformat()]


def undo_alone(bucket: str, to_at: str) -> None:
    expect_many_rows()
    with closing(Undoing(Wish(bucket, parse_time(to_at)))) as undoing:
        undoing.look()
        undoing.survey(lambda done: None)
        if not undoing.apply(lambda done: None).ok:
            sys.exit(1)


def pit_restore(bucket: str, to_at: datetime) -> list[str | Path]:
    """In place: it copies what was current, and deletes what is newer."""
    words = ["-b", bucket, "-B", bucket, "-t", to_at.isoformat(), "--max-workers", str(WORKERS)]
    return [peer(PIT_RESTORE, "s3-pit-restore"), *words]


# What is measured runs elsewhere.
FINDS_BENCH = {"PYTHONPATH": str(ROOT)}
# 3: as the versions say; there is no plan here whose inventories could witness it.
GOOD = (0, 3)
UNPROVEN = "leeward, without proof"
TOOLS: dict[str, Undo] = {"leeward": leeward, "s3-pit-restore": pit_restore}


def _undo_late(keys: int, tool: Undo, right: list[bool]) -> Cost:
    """Of the bucket of bench.s3_versions."""
    [port] = free_ports(1)
    words = [sys.executable, "-m", "bench.s3_versions", str(port), str(keys), str(NOTES)]
    url = f"http://127.0.0.1:{port}"
    login = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    where = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url, **FINDS_BENCH}
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        poll(lambda: _late_state(url), 30)
        cost = measure(tool("undo", MOMENT), environment=login | where, good=GOOD)
        right.append(_late_state(url) == state_then(keys))
    finally:
        process.kill()
        process.wait()
    return cost


def _late_state(url: str) -> State:
    with urlopen(f"{url}/state") as answer:
        found: State = json.load(answer)["state"]
    return found


def _undo_stored(store: Store, keys: int, tool: Undo, right: list[bool]) -> Cost:
    """The same history, made by requests."""
    bucket = _new_bucket()
    names = [name_of(number) for number in range(keys)]
    fate = {name: FATES[number % len(FATES)] for number, name in enumerate(names)}
    _put(store, bucket, dict.fromkeys(names, OBJECT_BYTES))
    wanted, to_at = _state(bucket), _next_second()
    _delete(bucket, [name for name in names if fate[name] == 0])
    overwritten = [name for name in names if fate[name] == 1]
    _put(store, bucket, dict.fromkeys(overwritten, OBJECT_BYTES + ADDED_BYTES))
    _put(store, bucket, {f"{n % 97:02}/READ_ME_{n:03}": 100 for n in range(NOTES)})
    cost = measure(tool(bucket, to_at), environment=store.environment | FINDS_BENCH, good=GOOD)
    right.append(_state(bucket) == wanted)
    return cost


def _case(store: Store, make: Make, tool: Undo) -> bool:
    """Whether readers get what they got at the moment that `make` returns."""
    bucket = _new_bucket()
    wanted: State = {}

    def remember() -> datetime:
        wanted.update(_state(bucket))
        return _next_second()

    to_at = make(store, bucket, remember)
    try:
        measure(tool(bucket, to_at), environment=store.environment | FINDS_BENCH, good=GOOD)
    except RuntimeError as error:
        print(error, file=sys.stderr)
    return _state(bucket) == wanted


def marker_ends_page(store: Store, bucket: str, moment: Callable[[], datetime]) -> datetime:
    _put(store, bucket, {f"a{n:04}": 1 for n in range(999)} | {"b": 1, "c": 1})
    _next_second()
    _delete(bucket, ["b"])
    to_at = moment()
    _put(store, bucket, {"c": 2})
    return to_at


def put_and_deleted_at_once(store: Store, bucket: str, moment: Callable[[], datetime]) -> datetime:
    _put(store, bucket, {"kept": 1})
    _next_second()
    _put(store, bucket, {"brief": 1})
    _delete(bucket, ["brief"])
    to_at = moment()
    _put(store, bucket, {"kept": 2})
    return to_at


def page_of_markers(store: Store, bucket: str, moment: Callable[[], datetime]) -> datetime:
    _put(store, bucket, {"a": 1, "z": 1})
    to_at = moment()
    for _ in range(1001):
        connect_s3().delete_object(Bucket=bucket, Key="a")
    return to_at


CASES: dict[str, Make] = {
    "a page of the listing ends with a delete marker, its version is on the next": marker_ends_page,
    "an object put and deleted within one second, before the moment": put_and_deleted_at_once,
    "a page of the listing that holds delete markers alone": page_of_markers,
}


def _new_bucket() -> str:
    name, client = f"undo-{secrets.token_hex(6)}", connect_s3()
    client.create_bucket(Bucket=name)
    versions = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration=versions)
    return name


def _put(store: Store, bucket: str, sizes: dict[str, int]) -> None:
    async def put(opened: S3Bucket) -> None:
        gate = asyncio.Semaphore(PUTS_AT_ONCE)

        async def one(key: str, size: int) -> None:
            async with gate:
                await opened.put(key, os.urandom(size))

        await asyncio.gather(*(one(key, size) for key, size in sizes.items()))

    _with_bucket(store, bucket, put)


def _with_bucket(
    store: Store, bucket: str, work: Callable[[S3Bucket], Coroutine[Any, Any, None]]
) -> None:
    async def run() -> None:
        async with S3Buckets(ambient_credentials()) as buckets:
            await work(buckets.bucket(bucket, "us-east-1", endpoint_url=store.http))

    asyncio.run(run())


def _delete(bucket: str, keys: list[str]) -> None:
    client = connect_s3()
    for start in range(0, len(keys), 1000):
        objects = [{"Key": key} for key in keys[start : start + 1000]]
        client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})


def _state(bucket: str) -> State:
    """Key -> ETag of what readers get; all were sent in one piece, so it is the MD5."""
    pages = connect_s3().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {row["Key"]: row["ETag"] for page in pages for row in page.get("Contents", ())}


def _next_second() -> datetime:
    """Waits until a second is over; the last moment of it."""
    begun = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    time.sleep((begun - datetime.now(UTC)).total_seconds() + 0.01)
    return begun - timedelta(microseconds=1)


def _text(figures: dict[str, Any]) -> str:
    lines = [
        [
            f"{server}: {name}",
            f"{found['wall_seconds']:.1f}",
            f"{found['client_seconds']:.1f}",
            f"{found['peak_mib']:.0f}",
            "yes" if found["right"] else "NO",
        ]
        for server in ("as late as S3", "SeaweedFS")
        for name, found in figures[server].items()
    ]
    late = {name: found["wall_seconds"] for name, found in figures["as late as S3"].items()}
    whole, alone = (late["s3-pit-restore"] / late[name] for name in ("leeward", UNPROVEN))
    cases = [
        [case, *("yes" if found[name] else "NO" for name in TOOLS)]
        for case, found in figures["cases"].items()
    ]
    timed = table(["server and tool", "wall s", "client CPU s", "peak MiB", "right"], lines)
    judged = table(["is the state right afterwards (SeaweedFS)", *TOOLS], cases)
    return (
        "## A bucket taken back in time\n\n"
        f"{figures['keys']:,} objects of 2 KiB, five of ten deleted, three overwritten, and "
        f"{NOTES} put beside them; then back, in place. Whole processes, interleaved, medians. "
        "Leeward's time includes its plan and its proof, for which all versions are read again; "
        f"s3-pit-restore has {WORKERS} workers and proves nothing. SeaweedFS is the limit itself; "
        "the other server answers from memory, a listing after 150 ms, a copy after 80 ms, a "
        f"deletion after 25 ms.\n\n{timed}\n"
        f"Against a server as late as S3 Leeward is {alone:.1f} times as fast at the same work, "
        f"and {whole:.1f} times with its proof.\n\n{judged}"
    )


if __name__ == "__main__":
    main()
