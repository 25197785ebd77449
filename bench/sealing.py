"""What sealing a copy costs one core, beside the parts that it is made of.

No network and no disk: the store behind keeps nothing, or digests what it is sent as S3's adapter
does. CPU time of this process, the variants in turn, median of ROUNDS.

    python -m bench.sealing
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.lab import MIB, publish, table
from chalicelib.adapters.sealing.envelope import DataKey, Sealer, make_data_key, seal, unseal
from chalicelib.adapters.sealing.store import SealedStore

ROUNDS = 5
OBJECT_MIB = 256
SMALL_BYTES, SMALL_OBJECTS = 4096, 5000
PIECE = os.urandom(MIB)
KEY = make_data_key("bench", datetime.now(UTC))


class OneKey:
    """A key ring of one data key that asks nobody."""

    def sealing_key(self) -> DataKey:
        return KEY

    def opening_key(self, _key_id: str) -> DataKey:
        return KEY


class Sink:
    """A store and its writer: keeps nothing; digests when told to."""

    def __init__(self, *, digests: bool = False) -> None:
        self._digest = hashlib.sha256() if digests else None

    @contextmanager
    def open_writer(self, _key: str) -> Iterator[Sink]:
        yield self

    def write(self, data: bytes) -> None:
        if self._digest:
            self._digest.update(data)

    def commit(self) -> None:
        pass


def store(*, digests: bool = False) -> SealedStore:
    sink: Any = Sink(digests=digests)
    keys: Any = OneKey()
    return SealedStore(sink, keys)


def sealed_stream(size_mib: int) -> Iterator[bytes]:
    sealer = Sealer(KEY, "object")
    yield sealer.header
    for _ in range(size_mib):
        yield from sealer.update(PIECE)
    yield sealer.finish()


def write(target: SealedStore, size_mib: int = OBJECT_MIB) -> None:
    with target.open_writer("object") as writer:
        for _ in range(size_mib):
            writer.write(PIECE)
        writer.commit()


def encrypt_alone() -> None:
    cipher = AESGCM(KEY.secret)
    for number in range(OBJECT_MIB):
        cipher.encrypt(number.to_bytes(12, "big"), PIECE, None)


def digest_alone() -> None:
    digest = hashlib.sha256()
    for _ in range(OBJECT_MIB):
        digest.update(PIECE)


def seal_alone() -> None:
    for _ in sealed_stream(OBJECT_MIB):
        pass


def open_digesting(sealed: list[bytes], *, digests: bool) -> None:
    digest = hashlib.sha256()
    for chunk in unseal(sealed, lambda _: KEY, "object"):
        if digests:
            digest.update(chunk)


def variants() -> dict[str, Callable[[], None]]:
    sealed = list(sealed_stream(OBJECT_MIB))
    keeping, digesting = store(), store(digests=True)
    return {
        "AES-256-GCM alone": encrypt_alone,
        "SHA-256 alone": digest_alone,
        "seal": seal_alone,
        "seal, with the SHA-256 of the content": lambda: write(keeping),
        "the same, and the store's of the sealed bytes": lambda: write(digesting),
        "open": lambda: open_digesting(sealed, digests=False),
        "open, with the SHA-256 of the content": lambda: open_digesting(sealed, digests=True),
    }


def cpu_seconds(act: Callable[[], Any]) -> float:
    before = time.process_time()
    act()
    return time.process_time() - before


def small_objects() -> dict[str, float]:
    """Objects of 4 KiB a second."""
    plain = PIECE[:SMALL_BYTES]
    sealed = seal(plain, KEY, "object")
    acts: dict[str, Callable[[], Any]] = {
        "seal": lambda: seal(plain, KEY, "object"),
        "open": lambda: list(unseal([sealed], lambda _: KEY, "object")),
    }
    return {
        name: SMALL_OBJECTS / cpu_seconds(lambda act=act: [act() for _ in range(SMALL_OBJECTS)])
        for name, act in acts.items()
    }


def peak_mib(size_mib: int) -> float:
    """Resident memory at most, of a process that seals and opens an object of this size."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.sealing", str(size_mib)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout)


def use_memory(size_mib: int) -> None:
    write(store(), size_mib)
    for _ in unseal(sealed_stream(size_mib), lambda _: KEY, "object"):
        pass
    # Not ru_maxrss: a new process begins with that of its parent.
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def main() -> None:
    acts = variants()
    runs: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(ROUNDS):
        for name, act in acts.items():
            runs[name].append(OBJECT_MIB * MIB / 1e6 / cpu_seconds(act))
    rates = {name: round(median(values)) for name, values in runs.items()}
    small = {name: round(rate, -2) for name, rate in small_objects().items()}
    memory = {size: round(peak_mib(size)) for size in (64, 2048)}
    publish(
        "sealing",
        "## Sealing copies that leave AWS\n\n"
        f"One core, pieces of 1 MiB, no network, no disk; CPU time, median of {ROUNDS}. Objects of "
        f"4 KiB: {small['seal']:.0f} sealed and {small['open']:.0f} opened a second. Peak memory "
        f"of the process: {memory[64]} MiB for an object of 64 MiB, {memory[2048]} MiB for one of "
        "2 GiB.\n\n" + table(["", "MB/s"], [[name, str(rate)] for name, rate in rates.items()]),
        {"mb_per_second": rates, "small_per_second": small, "peak_mib": memory},
    )


if __name__ == "__main__":
    use_memory(int(sys.argv[1])) if len(sys.argv) > 1 else main()
