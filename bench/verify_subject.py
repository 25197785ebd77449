"""What bench.verify measures of Leeward and of hashlib, each as a whole process.

python -m bench.verify_subject check BUCKET LEDGER_FOLDER | hash FOLDER THREADS

Prints the seconds of the work itself, without the start of the interpreter and its imports.
"""

from __future__ import annotations

import hashlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chalicelib.adapters.catalogue import StoredCatalogue
from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.s3.access import reach_s3
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.verify.copies.location import verify_location
from chalicelib.verify.copies.rotation import CheckPolicy

PREFIX = "copies/"


def check(bucket: str, ledgers: Path) -> None:
    store = S3ObjectStore(reach_s3(), bucket, PREFIX)
    started = time.monotonic()
    result = verify_location(
        store, StoredCatalogue(store, "db"), location="bench", component="db",
        policy=CheckPolicy(), ledgers=FolderObjectStore(ledgers), clock=SystemClock(),
    )  # fmt: skip
    seconds = time.monotonic() - started
    if not result.ok or result.read_bytes != result.total_bytes:
        raise SystemExit(f"expected everything to be read and sound: {result.to_json()}")
    print(seconds)


def hash_files(folder: Path, threads: int) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_digest, sorted(folder.rglob("part-*"))))
    print(time.monotonic() - started)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check(sys.argv[2], Path(sys.argv[3]))
    else:
        hash_files(Path(sys.argv[2]), int(sys.argv[3]))
