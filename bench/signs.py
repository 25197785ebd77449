"""How well the signs of ransomware tell encryption from honest files: `python -m bench.signs`.

Files that any machine has, and generated ones, beside what an attacker makes of each. Half of them,
drawn by name, sets the threshold; the figures come from the other half. Then attacks on buckets
with a history: after how many objects is the judgement there, and how often is it wrong?
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from bench.lab import peer, publish, table
from bench.signs_attacks import simulate
from bench.signs_files import generate
from chalicelib.ports.samples import Sample, SampledWrite
from chalicelib.verify.signs.content import SAMPLE_BYTES, look_at
from chalicelib.verify.signs.kinds import ending, recognise
from chalicelib.verify.signs.randomness import SPREAD, chi_square, entropy, looks_random
from chalicelib.verify.signs.versions import look_at_write

PER_ENDING = 60
LEAST_BYTES = 4096
SPREADS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
DETECTION = 0.99
PILLOW = ("pillow==13.0.0",)
MEDIA = frozenset(
    ("jpg", "jpeg", "png", "gif", "webp", "avif", "jp2", "wav", "au", "woff", "woff2", "ttf")
)
PACKED = frozenset(
    ("zip", "jar", "whl", "gz", "tgz", "bz2", "xz", "lzma", "zst", "z", "deb", "pack", "pdf",
     "docx", "jmod", "br", "brotli", "gpg", "tar", "sealed")
)  # fmt: skip


@dataclass(frozen=True)
class File:
    key: str
    head: bytes
    size: int

    @property
    def large(self) -> bool:
        return self.size >= SAMPLE_BYTES

    @property
    def family(self) -> str:
        end = ending(self.key)
        if end in MEDIA:
            return "media"
        if end in PACKED:
            return "packed"
        return "text" if look_at(self.key, self.head).text else "other"

    @property
    def half(self) -> int:
        return hashlib.sha256(self.key.encode()).digest()[0] % 2


def main() -> None:
    files = [*found_files(), *made_files()]
    training = [it for it in files if it.half == 0]
    held_out = [it for it in files if it.half == 1]
    spread = choose_spread(training)
    figures: dict[str, Any] = {
        "files": Counter(it.family for it in files),
        "spread": spread,
        "alone": measure_rules(training, held_out, spread),
        "twins": measure_twins(held_out, spread),
        "replaced": measure_replaced(held_out),
        "us_per_sample": time_samples(held_out),
    }
    print(figures, file=sys.stderr, flush=True)
    figures["attacks"] = simulate([(it.key, it.head) for it in files if it.family != "other"])
    publish("signs", render(files, held_out, figures), figures)


def found_files() -> Iterator[File]:
    """At most `PER_ENDING` of each ending, drawn by the digest of the path."""
    roots = (sys.base_prefix, sys.prefix, "/usr/share", "/usr/lib", "/usr/local", "/opt")
    by_ending: dict[str, set[str]] = defaultdict(set)
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                by_ending[ending(name)[:12]].add(os.path.realpath(os.path.join(folder, name)))
    for _, paths in sorted(by_ending.items()):
        drawn = sorted(
            paths, key=lambda path: hashlib.sha256(path.encode("utf-8", "replace")).digest()
        )
        yield from _first_readable(drawn)


def _first_readable(paths: list[str]) -> Iterator[File]:
    taken = 0
    for path in paths:
        if taken == PER_ENDING:
            return
        try:
            size = os.path.getsize(path)
            if size < LEAST_BYTES or not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                yield File(path, file.read(SAMPLE_BYTES), size)
        except OSError:
            continue
        taken += 1


def made_files() -> Iterator[File]:
    """Kinds that a machine may lack, of the content that it has."""
    for name, data in generate():
        yield File(name, data[:SAMPLE_BYTES], len(data))
    with TemporaryDirectory(prefix="lw-bench-") as folder:
        script = Path(__file__).with_name("signs_pictures.py")
        subprocess.run([peer(PILLOW, "python"), script, folder], check=True)
        for path in sorted(Path(folder).iterdir()):
            data = path.read_bytes()
            yield File(f"made/{path.name}", data[:SAMPLE_BYTES], len(data))


def encrypt(data: bytes) -> bytes:
    """AES-256 in counter mode, a new key each time."""
    cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16)))
    return cipher.encryptor().update(data)


def _every_fourth(data: bytes, start: int) -> bytes:
    """4 KiB of every 16 KiB, from `start` on."""
    found = bytearray(data)
    for at in range(start, len(data), 4 * 4096):
        found[at : at + 4096] = encrypt(data[at : at + 4096])
    return bytes(found)


TWINS: dict[str, Callable[[File], tuple[str, bytes]]] = {
    "whole": lambda it: (it.key, encrypt(it.head)),
    "whole, renamed .locked": lambda it: (f"{it.key}.locked", encrypt(it.head)),
    "first 4 KiB": lambda it: (it.key, encrypt(it.head[:4096]) + it.head[4096:]),
    "4 of every 16 KiB": lambda it: (it.key, _every_fourth(it.head, 0)),
    "4 of every 16 KiB, header kept": lambda it: (it.key, _every_fourth(it.head, 4096)),
    "all but 256 bytes": lambda it: (it.key, it.head[:256] + encrypt(it.head[256:])),
    "all but 4 KiB": lambda it: (it.key, it.head[:4096] + encrypt(it.head[4096:])),
    "base64": lambda it: (it.key, base64.b64encode(encrypt(it.head))[:SAMPLE_BYTES]),
}


def choose_spread(training: list[File]) -> float:
    """The narrowest that finds 99 % of the large files' twins: chi-square alone depends on it."""
    twins = [TWINS["whole"](it) for it in training if it.large]
    for spread in SPREADS:
        found = sum(look_at(key, head, spread=spread).encrypted for key, head in twins)
        if found >= DETECTION * len(twins):
            return spread
    return SPREADS[-1]


def measure_rules(training: list[File], held_out: list[File], spread: float) -> dict[str, Any]:
    """rule -> share flagged of the held-out files and of their encrypted twins, by size."""
    twins = [encrypt(it.head) for it in training if it.large]
    least = sorted(_entropy(it) for it in twins)[len(twins) // 100]
    rules: dict[str, Callable[[str, bytes], bool]] = {
        "entropy alone": lambda _, head: _entropy(head) >= least,
        "chi-square alone": lambda _, head: _random(head, spread),
        "no magic number, chi-square": lambda _, head: (
            _random(head, spread) and recognise(head[:512]) is None
        ),
        "Leeward": lambda key, head: look_at(key, head, spread=spread).encrypted,
        "Leeward, as shipped": lambda key, head: look_at(key, head).encrypted,
    }
    large = [it for it in held_out if it.large]
    return {
        name: {
            "false_large": _share(rule(it.key, it.head) for it in large),
            "false_all": _share(rule(it.key, it.head) for it in held_out),
            "found_large": _share(rule(it.key, encrypt(it.head)) for it in large),
        }
        for name, rule in rules.items()
    }


def _entropy(data: bytes) -> float:
    return entropy(Counter(data), len(data))


def _random(data: bytes, spread: float) -> bool:
    return looks_random(chi_square(Counter(data), len(data)), spread)


def _share(answers: Iterator[bool]) -> tuple[int, int]:
    found = list(answers)
    return sum(found), len(found)


def measure_twins(held_out: list[File], spread: float) -> dict[str, Any]:
    """what was done -> found by the object alone, and beside the version it replaced."""
    large = [it for it in held_out if it.large]
    found: dict[str, Any] = {}
    for name, make in TWINS.items():
        twins = [(it, *make(it)) for it in large]
        found[name] = {
            "alone": _share(look_at(key, head, spread=spread).encrypted for _, key, head in twins),
            "beside": _share(_replaced(it.key, it.head, head) != "" for it, _, head in twins),
        }
    return found


def _replaced(key: str, before: bytes, after: bytes) -> str:
    now, then = Sample(key, "2", after, len(after)), Sample(key, "1", before, len(before))
    return look_at_write(SampledWrite(now, then)).weight


def measure_replaced(held_out: list[File]) -> tuple[int, int]:
    """False alarms where one honest file replaces another of the same ending."""
    by_ending: dict[str, list[File]] = defaultdict(list)
    for it in held_out:
        by_ending[ending(it.key)].append(it)
    pairs = [
        (before, after)
        for found in by_ending.values()
        for before, after in zip(found, found[1:], strict=False)
    ]
    return _share(_replaced(after.key, before.head, after.head) != "" for before, after in pairs)


def time_samples(held_out: list[File]) -> float:
    """Median microseconds of processor time for 64 KiB."""
    seconds = []
    for it in held_out:
        if it.large:
            started = time.process_time()
            look_at(it.key, it.head)
            seconds.append(time.process_time() - started)
    return median(seconds) * 1e6


def render(files: list[File], held_out: list[File], figures: dict[str, Any]) -> str:
    large = sum(it.large for it in held_out)
    kinds = "; ".join(f"{name} {n}" for name, n in sorted(figures["files"].items()))
    endings = Counter(ending(it.key) or "none" for it in files if it.family in ("media", "packed"))
    common = ", ".join(f"{name} {n}" for name, n in endings.most_common(40))
    rules = [
        [name, _percent(it["false_large"]), _percent(it["false_all"]), _percent(it["found_large"])]
        for name, it in figures["alone"].items()
    ]
    twins = [
        [name, _percent(it["alone"]), _percent(it["beside"])]
        for name, it in figures["twins"].items()
    ]
    false = _percent(figures["replaced"])
    return (
        "## Signs of ransomware\n\n"
        f"{len(files)} files ({kinds}), of which half, drawn by name, are held out: "
        f"{len(held_out)}, {large} of them 64 KiB and more. Packed and media: {common}.\n\n"
        f"The other half chose {figures['spread']} standard deviations of chi-square as the "
        f"narrowest that finds 99 %; shipped are {SPREAD}. One sample takes "
        f"{figures['us_per_sample']:.0f} us.\n\n"
        + table(["held out", "false, 64 KiB and more", "false, 4 KiB and more",
                 "AES-256 found, 64 KiB and more"], rules)
        + "\nWhat was encrypted how, 64 KiB and more; beside the version before, an honest file "
        f"that replaces another of its ending is flagged {false}:\n\n"
        + table(["encrypted", "found alone", "found beside the version before"], twins)
        + "\n"
        + render_attacks(figures["attacks"])
    )  # fmt: skip


def render_attacks(found: dict[str, Any]) -> str:
    quiet = [
        [name, str(it["writes"]), str(it["infected"]), str(it["suspicious"])]
        for name, it in found["honest"].items()
    ]
    attacks = [
        [
            it["history"],
            it["attack"],
            it["rate"],
            _when(it),
            _how(it),
            f"{it['start_seconds']:+.0f} s",
        ]
        for it in found["attacks"]
    ]
    return (
        "Thirty days of honest work after four weeks of history, a look each half hour:\n\n"
        + table(["bucket", "writes", "judged infected", "times a person was asked to look"], quiet)
        + "\nThe same buckets attacked. The start is the judgement's against the first write of "
        "the attack:\n\n"
        + table(["bucket", "attack", "rate", "judged after", "by", "start"], attacks)
    )  # fmt: skip


def _when(it: dict[str, Any]) -> str:
    if it["objects"] is None:
        return "never"
    return f"{it['objects']} objects, {it['minutes']:.0f} min"


def _how(it: dict[str, Any]) -> str:
    return ", ".join(it["families"]) or "-"


def _percent(share: tuple[int, int]) -> str:
    found, count = share
    return f"{100 * found / max(1, count):.2f} % ({found} of {count})"


if __name__ == "__main__":
    main()
