"""Is the body of a packed file what its first bytes promise?

A program that encrypts a file and keeps its header escapes a look at the magic number; it does not
escape a decompressor. Each check reads the first bytes of a file, which may be cut off anywhere,
and answers "sound", "broken", or "" when it cannot tell.
"""

from __future__ import annotations

import bz2
import lzma
import re
import struct
import zlib
from collections.abc import Callable
from typing import Protocol

# What may follow FF in the coded part of a JPEG: a stuffed 00, restarts, markers, fill bytes.
_NOT_AFTER_FF = re.compile(rb"\xff[\x01-\xbf\xf0-\xfd]")
# Encrypted bytes have one such pair in 320; camera makers' oddities stay below this.
_BAD_PAIRS = 3
_SEALED = re.compile(rb"LWSEAL\d\d\d{8}T\d{6}Z")
_LOCAL = struct.Struct("<4xHHH2xHLLLHH")


class Inflater(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


def check_body(kind: str, head: bytes) -> str:
    """`head`: the first bytes of the file, at least 1 KiB for an answer; `kind` as in kinds.py."""
    check = _CHECKS.get(kind)
    return check(head) if check else ""


def _gzip(head: bytes) -> str:
    return _unpacks(zlib.decompressobj(31), head)


def _zlib(head: bytes) -> str:
    return _unpacks(zlib.decompressobj(), head)


def _bzip2(head: bytes) -> str:
    return _unpacks(bz2.BZ2Decompressor(), head)


def _xz(head: bytes) -> str:
    return _unpacks(lzma.LZMADecompressor(), head)


def _unpacks(inflater: Inflater, head: bytes) -> str:
    try:
        inflater.decompress(head)
    except (zlib.error, lzma.LZMAError, OSError, EOFError):
        return "broken"
    return "sound"


def _png(head: bytes) -> str:
    """Every chunk that lies whole in `head` has a name of letters and its checksum."""
    at, image = 8, bytearray()
    while at + 12 <= len(head):
        size, name = struct.unpack_from(">L4s", head, at)
        end = at + 12 + size
        if not name.isalpha():
            return "broken"
        if name == b"IDAT":
            image += head[at + 8 : end - 4]
        if end <= len(head) and zlib.crc32(head[at + 4 : end - 4]) != _long(head, end - 4):
            return "broken"
        if name == b"IEND":
            break
        at = end
    return _zlib(bytes(image)) if image else "sound"


def _long(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _jpeg(head: bytes) -> str:
    at = 2
    while at + 4 <= len(head):
        if head[at] != 0xFF:
            return "broken"
        marker = head[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (0x01, *range(0xD0, 0xDA)):
            return _jpeg_scan(head[at + 2 :])
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
        if marker == 0xDA:
            return _jpeg_scan(head[at:])
    return "sound"


def _jpeg_scan(coded: bytes) -> str:
    """Segments between scans hold any bytes, so only what comes before them counts."""
    image = coded.partition(b"\xff\xd9")[0]
    return "broken" if len(_NOT_AFTER_FF.findall(image)) >= _BAD_PAIRS else "sound"


def _zip(head: bytes) -> str:
    """Each entry unpacks, and the next one begins where it ends."""
    at = 0
    while at + 30 <= len(head):
        if head[at : at + 2] != b"PK":
            return "broken"
        if head[at : at + 4] != b"PK\x03\x04":
            return "sound"
        end = _zip_entry_end(head, at)
        if end < 0:
            return "broken"
        if not end:
            return ""
        at = end
    return "sound"


def _zip_entry_end(head: bytes, at: int) -> int:
    """Where the next entry begins; 0 when that cannot be told, -1 when the data is broken."""
    flags, method, _, _, _, packed, _, name, extra = _zip_header(head, at)
    body = at + 30 + name + extra
    if flags & 1 or method != 8:
        return 0 if flags & 8 or packed == 0xFFFFFFFF else body + packed
    inflater = zlib.decompressobj(-15)
    try:
        inflater.decompress(head[body:])
    except zlib.error:
        return -1
    if not inflater.eof:
        return len(head)
    end = len(head) - len(inflater.unused_data)
    if not flags & 8:
        return end
    following = head.find(b"PK", end + (4 if head.startswith(b"PK\x07\x08", end) else 0), end + 30)
    return following if following > 0 else (-1 if end + 30 <= len(head) else len(head))


def _zip_header(head: bytes, at: int) -> tuple[int, ...]:
    version, flags, method, date, crc, packed, size, name, extra = _LOCAL.unpack_from(head, at)
    return flags, method, version, date, crc, packed, size, name, extra


def _ogg(head: bytes) -> str:
    """Pages follow each other without a gap."""
    at = 0
    while at + 27 <= len(head):
        if head[at : at + 4] != b"OggS":
            return "broken"
        table = head[at + 27 : at + 27 + head[at + 26]]
        at += 27 + len(table) + sum(table)
    return "sound"


def _pdf(head: bytes) -> str:
    """Objects and streams are announced in plain words; a whole sample without any has none."""
    if len(head) < 16384:
        return ""
    # An image may fill the first 64 KiB, after the words that announce it.
    return "sound" if b" obj" in head[:16384] else "broken"


def _java_modules(head: bytes) -> str:
    """A zip behind four bytes."""
    return _zip(head[4:])


def _ar(head: bytes) -> str:
    """Members follow each other, each behind a header of 60 bytes that ends in a certain way."""
    at = 8
    while at + 60 <= len(head):
        size = head[at + 48 : at + 58].strip()
        if head[at + 58 : at + 60] != b"`\n" or not size.isdigit():
            return "broken"
        at += 60 + int(size) + int(size) % 2
    return "sound"


def _tar(head: bytes) -> str:
    """Headers carry a checksum and the size up to the next one."""
    at = 0
    while at + 512 <= len(head):
        header = head[at : at + 512]
        if not any(header):
            return "sound"
        digits = header[148:156].strip(b" \0")
        if not digits.isdigit() or int(digits, 8) != sum(header) - sum(header[148:156]) + 256:
            return "broken"
        size = header[124:136].strip(b" \0")
        if not size.isdigit():
            return ""
        at += 512 + -(-int(size, 8) // 512) * 512
    return "sound"


def _sealed(head: bytes) -> str:
    """Version and time of creation follow the magic (docs/encryption.md)."""
    return "sound" if _SEALED.match(head) else "broken"


_CHECKS: dict[str, Callable[[bytes], str]] = {
    "gzip": _gzip,
    "zlib": _zlib,
    "bzip2": _bzip2,
    "xz": _xz,
    "lzma": _xz,
    "png": _png,
    "jpeg": _jpeg,
    "zip": _zip,
    "ogg": _ogg,
    "pdf": _pdf,
    "java modules": _java_modules,
    "ar": _ar,
    "tar": _tar,
    "sealed by leeward": _sealed,
}
