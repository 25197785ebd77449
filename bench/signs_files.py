"""Generated files for bench.signs: archives, databases, sounds, of content that any machine has."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import wave
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import zstandard

COUNT = 24


def generate() -> Iterator[tuple[str, bytes]]:
    """(name, content), `COUNT` of each kind; most have more than 64 KiB."""
    draw = random.Random(5)
    texts, programs = _texts(), _programs()
    for number in range(COUNT):
        text = b"".join(draw.choices(texts, k=8))
        mixed = text + draw.choice(programs) + text[::-1]
        for kind, make in _KINDS.items():
            yield f"made/file-{number}.{kind}", make(mixed if number % 2 else text)
        yield f"made/sound-{number}.wav", _sound(draw)
        yield f"made/export-{number}.sqlite", _database(text, number)
        if number < 8 and (packed := _openpgp(mixed)):
            yield f"made/file-{number}.gpg", packed


def _texts() -> list[bytes]:
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return [path.read_bytes() for path in paths]


def _programs() -> list[bytes]:
    """Compiled code of the interpreter and its extensions."""
    folder = Path(sys.base_prefix) / "lib"
    found = [path.read_bytes()[:150_000] for path in sorted(folder.rglob("*.so*"))[:20]]
    return found or [Path(sys.executable).read_bytes()[:400_000]]


def _zip(data: bytes) -> bytes:
    """Members of 50 KiB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for at in range(0, len(data), 51200):
            archive.writestr(f"part-{at}", data[at : at + 51200])
    return buffer.getvalue()


def _tar(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for at in range(0, len(data), 51200):
            member = tarfile.TarInfo(f"part-{at}")
            part = gzip.compress(data[at : at + 51200]) if at % 3 else data[at : at + 51200]
            member.size = len(part)
            archive.addfile(member, io.BytesIO(part))
    return buffer.getvalue()


def _pdf(data: bytes) -> bytes:
    """Pages whose streams are deflated."""
    parts = [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"]
    for number in range(0, len(data), 20000):
        body = zlib.compress(data[number : number + 20000])
        head = b"%d 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\n" % (
            number + 1,
            len(body),
        )
        parts.append(head + body + b"\nendstream\nendobj\n")
    return b"".join(parts)


def _sealed(data: bytes) -> bytes:
    """As Leeward seals: a header of 72 bytes, then ciphertext."""
    return b"LWSEAL0120261122T084500Z" + os.urandom(48 + len(data))


def _zstd(data: bytes) -> bytes:
    return zstandard.compress(data)


_KINDS: dict[str, Callable[[bytes], bytes]] = {
    "zip": _zip,
    "docx": _zip,
    "tar": _tar,
    "gz": gzip.compress,
    "tgz": lambda data: gzip.compress(_tar(data)),
    "json": gzip.compress,
    "bz2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=1),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE, preset=1),
    "z": zlib.compress,
    "zst": _zstd,
    "pdf": _pdf,
    "sealed": _sealed,
    "b64": lambda data: base64.encodebytes(data),
    "eml": lambda data: (
        b"Subject: a\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(_zip(data))
    ),
    "pem": lambda data: base64.encodebytes(gzip.compress(data)),
    "jsonl": lambda data: b"".join(
        json.dumps({"n": at, "line": line.decode("latin-1")}).encode() + b"\n"
        for at, line in enumerate(data[:400_000].splitlines())
    ),
}


def _sound(draw: random.Random) -> bytes:
    samples = array("h", (int(8000 * (n % 97) / 97 + draw.gauss(0, 300)) for n in range(36000)))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def _database(data: bytes, number: int) -> bytes:
    """Every fourth has packed values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        with sqlite3.connect(path) as connection:
            connection.execute("create table t (id integer primary key, body)")
            rows = [data[at : at + 3000] for at in range(0, min(len(data), 600_000), 3000)]
            packed = [zlib.compress(row) if number % 4 == 0 else row for row in rows]
            connection.executemany("insert into t (body) values (?)", ((row,) for row in packed))
        connection.close()
        return path.read_bytes()


def _openpgp(data: bytes) -> bytes:
    """Encrypted with a passphrase by GnuPG where there is one."""
    if shutil.which("gpg") is None:
        return b""
    with tempfile.TemporaryDirectory() as home:
        command = ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback"]
        command += ["--passphrase", "bench", "--symmetric", "--output", "-"]
        return subprocess.run(command, input=data, capture_output=True, check=False).stdout
