"""Sealed objects: AES-256-GCM in frames of 1 MiB, under a key of the object's own.

    header   "LWSEAL01" | created, 16 ASCII characters | fingerprint, 16 bytes | salt, 32 bytes
    frames   1 MiB each, the last one shorter, each followed by its tag of 16 bytes

Every byte is authenticated, and with it the object's place: location, name, number of the frame,
whether it is the last. An empty object has one empty frame; no other frame is empty. The whole
format, for somebody who writes another reader: docs/encryption.md.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from chalicelib.errors import LeewardError, Tampered

MAGIC = b"LWSEAL"
VERSION = b"01"
HEADER = struct.Struct("8s16s16s32s")
HEADER_BYTES = HEADER.size  # 72
FRAME_BYTES = 1 << 20
TAG_BYTES = 16
SEALED_FRAME_BYTES = FRAME_BYTES + TAG_BYTES
SECRET_BYTES = 32
SALT_BYTES = 32
SMALL_BYTES = 1 << 16

Data = bytes | bytearray | memoryview
CREATED = re.compile(rb"\d{8}T\d{6}Z")
ID_INFO = b"leeward key id 1"
OBJECT_INFO = b"leeward object key 1"


class Header(NamedTuple):
    """The first 72 bytes of a sealed object; `key_id` names the data key."""

    key_id: str
    salt: bytes

    def to_bytes(self) -> bytes:
        created, _, fingerprint = self.key_id.partition("-")
        return HEADER.pack(MAGIC + VERSION, created.encode(), bytes.fromhex(fingerprint), self.salt)


@dataclass(frozen=True)
class DataKey:
    """32 random bytes that seal the objects of a period.

    `id` is "<created, 20261122T084500Z>-<32 hex digits made from the secret>": no other secret
    has it, and ids sort by time. `location` is what all objects sealed with it are bound to.
    """

    id: str
    location: str
    secret: bytes = field(repr=False)


def make_data_key(location: str, now: datetime) -> DataKey:
    """`now`: aware UTC, used to the second."""
    secret = os.urandom(SECRET_BYTES)
    return DataKey(key_id_of(secret, f"{now:%Y%m%dT%H%M%SZ}"), location, secret)


def key_id_of(secret: bytes, created: str) -> str:
    fingerprint = derive(secret, salt=b"", info=ID_INFO + created.encode(), length=16)
    return f"{created}-{fingerprint.hex()}"


def derive(secret: bytes, *, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF with SHA-256. Source: RFC 5869."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def sealed_size(size_bytes: int) -> int:
    """How long an object of `size_bytes` is once it is sealed."""
    frames = max(1, -(-size_bytes // FRAME_BYTES))
    return HEADER_BYTES + size_bytes + frames * TAG_BYTES


def plain_size(size_bytes: int) -> int | None:
    """How long a sealed object of `size_bytes` was before; None: no sealed object is that long."""
    frames = max(1, -(-(size_bytes - HEADER_BYTES) // SEALED_FRAME_BYTES))
    plain = size_bytes - HEADER_BYTES - frames * TAG_BYTES
    return plain if plain >= 0 and sealed_size(plain) == size_bytes else None


class _Frames:
    """Key and additional data of one object's frames."""

    def __init__(self, header: Header, key: DataKey, name: str) -> None:
        self._cipher = AESGCM(
            derive(key.secret, salt=header.salt, info=OBJECT_INFO, length=SECRET_BYTES)
        )
        place = [struct.pack(">I", len(it)) + it for it in (key.location.encode(), name.encode())]
        self._bound = header.to_bytes() + b"".join(place)
        self.number = 0

    def seal(self, plain: memoryview, *, last: bool) -> bytes:
        sealed = self._cipher.encrypt(self._nonce(), plain, self._place(last))
        self.number += 1
        return sealed

    def open(self, sealed: memoryview, *, last: bool) -> bytes:
        """Raises InvalidTag."""
        plain = self._cipher.decrypt(self._nonce(), sealed, self._place(last))
        self.number += 1
        return plain

    def _nonce(self) -> bytes:
        return self.number.to_bytes(12, "big")

    def _place(self, last: bool) -> bytes:
        return self._bound + struct.pack(">QB", self.number, last)


class _Cutter:
    """Cuts a stream into pieces of `size_bytes` in a buffer that is used again.

    A piece is valid until the next one is asked for. What may be the last one is held back.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes, self._filled = size_bytes, 0
        self._held = memoryview(bytearray(min(SMALL_BYTES, size_bytes)))

    def push(self, data: Data) -> Iterator[memoryview]:
        rest = memoryview(data).cast("B")
        while rest:
            if self._filled == self._size_bytes:
                yield self._held
                self._filled = 0
            if not self._filled and len(rest) > self._size_bytes:
                yield rest[: self._size_bytes]
                rest = rest[self._size_bytes :]
            else:
                rest = self._hold(rest)

    def rest(self) -> memoryview:
        return self._held[: self._filled]

    def _hold(self, data: memoryview) -> memoryview:
        """Returns what there is no room for."""
        taken = min(len(data), self._size_bytes - self._filled)
        end = self._filled + taken
        if end > len(self._held):
            grown = memoryview(bytearray(self._size_bytes))
            grown[: self._filled] = self._held[: self._filled]
            self._held = grown
        self._held[self._filled : end] = data[:taken]
        self._filled = end
        return data[taken:]


class Sealer:
    """One object on its way: plaintext in, sealed bytes out. Holds one frame.

    `salt` is for known answers, and for whoever goes on with an object; it must be random
    otherwise. Who goes on `resume`s with the very content: other content under the same salt
    would tell both.
    """

    def __init__(self, key: DataKey, name: str, *, salt: bytes | None = None) -> None:
        self.salt = salt or os.urandom(SALT_BYTES)
        header = Header(key.id, self.salt)
        self._frames = _Frames(header, key, name)
        self._cutter = _Cutter(FRAME_BYTES)
        self.header = header.to_bytes()

    def update(self, data: Data) -> Iterator[bytes]:
        """The frames that `data` completes; `data` is used up when the iteration has ended."""
        for piece in self._cutter.push(data):
            yield self._frames.seal(piece, last=False)

    def finish(self) -> bytes:
        return self._frames.seal(self._cutter.rest(), last=True)

    def held(self) -> tuple[int, bytes]:
        """How many frames were sealed, and the content that is not."""
        return self._frames.number, bytes(self._cutter.rest())

    def resume(self, number: int, held: bytes) -> None:
        self._frames.number = number
        assert not list(self._cutter.push(held)), "at most one frame is held"


def seal(data: bytes, key: DataKey, name: str, *, salt: bytes | None = None) -> bytes:
    sealer = Sealer(key, name, salt=salt)
    return b"".join([sealer.header, *sealer.update(data), sealer.finish()])


def frame_at(plain_bytes: int) -> tuple[int, int]:
    """The frame in which that byte of the content is, and where it begins in the sealed object."""
    number = plain_bytes // FRAME_BYTES
    return number, HEADER_BYTES + number * SEALED_FRAME_BYTES


def unseal(
    chunks: Iterable[bytes], find_key: Callable[[str], DataKey], name: str, *, number: int = 0
) -> Iterator[bytes]:
    """The plaintext of a sealed object, a frame at a time; what is yielded is authentic.

    That nothing is missing at the end is known when the iteration has ended, not before.

    Args:
        chunks: the sealed bytes, cut anywhere: the header, then the frames from `number` on.
        find_key: gives the data key of an id; called once.
        name: under which the object was sealed.
    Raises:
        Tampered: "not-sealed", "seal-version", "wrong-key"; "seal-broken": cut, altered, put
            together anew, or sealed as another object.
    """
    stream = iter(chunks)
    head, body = _split_header(stream)
    header = read_header(head, name)
    frames = _Frames(header, check_key(find_key(header.key_id)), name)
    frames.number = number
    cutter = _Cutter(SEALED_FRAME_BYTES)
    rest: Iterator[Data] = chain([body], stream)
    for chunk in rest:
        for piece in cutter.push(chunk):
            yield _open(frames, piece, name, last=False)
    yield _open(frames, cutter.rest(), name, last=True)


def read_header(data: bytes, name: str) -> Header:
    """Raises Tampered: "not-sealed", "seal-version"."""
    if not data.startswith(MAGIC):
        raise Tampered(
            f"expected {name} to be sealed, it does not begin with {MAGIC.decode()}",
            code="not-sealed",
            hint="Copy it again from another location; nothing unsealed is stored here.",
            key=name,
        )
    version = data[len(MAGIC) : len(MAGIC) + len(VERSION)]
    if len(data) >= HEADER_BYTES and version != VERSION:
        raise Tampered(
            f"expected {name} in format {VERSION.decode()}, found {version!r}",
            code="seal-version",
            hint="A newer Leeward may read it; otherwise copy it again from another location.",
            key=name,
        )
    if len(data) < HEADER_BYTES:
        raise broken(name, 0)
    _, created, fingerprint, salt = HEADER.unpack(data)
    if not CREATED.fullmatch(created):
        raise broken(name, 0)
    return Header(f"{created.decode()}-{fingerprint.hex()}", salt)


def check_key(key: DataKey) -> DataKey:
    """Raises Tampered (code "wrong-key") when the secret is not the one that its id names."""
    found = key_id_of(key.secret, key.id.partition("-")[0])
    if found != key.id:
        raise Tampered(
            f"expected data key {key.id}, found {found}",
            code="wrong-key",
            hint="The key set was replaced; take the file of that name from a backup of keys/.",
            key_id=key.id,
        )
    return key


def broken(name: str, frame: int) -> LeewardError:
    return Tampered(
        f"expected frame {frame} of {name} as it was sealed, it was altered, cut or moved",
        code="seal-broken",
        hint="Copy the object again from another location.",
        key=name,
        frame=frame,
    )


def first_bytes(stream: Iterator[bytes], wanted: int) -> bytes:
    """Fewer when there are no more."""
    found = b""
    while len(found) < wanted and (more := next(stream, None)) is not None:
        found += more
    return bytes(found[:wanted])


def _split_header(stream: Iterator[bytes]) -> tuple[bytes, memoryview]:
    """The first 72 bytes, fewer when there are no more, and what came with them."""
    found = next(stream, b"")
    while len(found) < HEADER_BYTES and (more := next(stream, None)) is not None:
        found += more
    return bytes(found[:HEADER_BYTES]), memoryview(found)[HEADER_BYTES:]


def _open(frames: _Frames, sealed: memoryview, name: str, *, last: bool) -> bytes:
    if len(sealed) < TAG_BYTES or (len(sealed) == TAG_BYTES and frames.number):
        raise broken(name, frames.number)
    try:
        return frames.open(sealed, last=last)
    except InvalidTag as error:
        raise broken(name, frames.number) from error
