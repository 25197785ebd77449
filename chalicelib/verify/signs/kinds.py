"""What a file says it is: by its first bytes, and by its name.

The table is ours because the libraries do not fit: puremagic recognises 1 % of random bytes,
filetype misses a third of what looks random; neither looks behind the first bytes, and a program
that encrypts may keep those (docs/ransomware.md).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """`packed`: the body of a whole file of this kind looks random, or may in places."""

    name: str
    packed: bool = True

    @property
    def sealed(self) -> bool:
        """Encrypted by nature: its header can be put before any ciphertext."""
        return self.name in SEALED_KINDS


@dataclass(frozen=True)
class Signature:
    """`magic` at `offset`; `also` at `also_at` when one alone is too short to be sure."""

    magic: bytes
    kind: Kind
    offset: int = 0
    also: bytes = b""
    also_at: int = 0

    def matches(self, head: bytes) -> bool:
        return head.startswith(self.magic, self.offset) and head.startswith(self.also, self.also_at)


# First bytes of what Leeward seals itself: `docs/encryption.md`.
SEALED_MAGIC = b"LWSEAL"
SEALED = Kind("sealed by leeward")
SEALED_KINDS = frozenset((SEALED.name, "age", "openpgp", "openssl", "luks", "keepass"))


def _packed(name: str, *magics: bytes, at: int = 0) -> list[Signature]:
    return [Signature(magic, Kind(name), at) for magic in magics]


def _plain(name: str, *magics: bytes, at: int = 0) -> list[Signature]:
    return [Signature(magic, Kind(name, packed=False), at) for magic in magics]


# Sources: the formats' own specifications; file(1)'s database for those that have none. Two bytes
# alone are listed only where structure.py looks at what follows them.
_SIGNATURES: tuple[Signature, ...] = (
    Signature(SEALED_MAGIC, SEALED),
    *_packed("zip", b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08PK"),
    *_packed("gzip", b"\x1f\x8b\x08"),
    *_packed("zlib", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"),
    *_packed("zstd", b"\x28\xb5\x2f\xfd", *(bytes([n]) + b"\x2a\x4d\x18" for n in range(80, 96))),
    *_packed("xz", b"\xfd7zXZ\x00"),
    *_packed("bzip2", *(b"BZh%d1AY&SY" % n for n in range(1, 10))),
    *_packed("lzma", b"\x5d\x00\x00"),
    *_packed("lz4", b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18"),
    *_packed("lzip", b"LZIP\x01"),
    *_packed("lzop", b"\x89LZO\x00\r\n\x1a\n"),
    *_packed("snappy", b"\xff\x06\x00\x00sNaPpY"),
    *_packed("7z", b"7z\xbc\xaf\x27\x1c"),
    *_packed("rar", b"Rar!\x1a\x07"),
    *_packed("cab", b"MSCF\x00\x00\x00\x00"),
    *_packed("squashfs", b"hsqs", b"sqsh"),
    *_packed("rpm", b"\xed\xab\xee\xdb"),
    *_packed("ar", b"!<arch>\n"),
    *_packed("tar", b"ustar\x00", b"ustar  \x00", at=257),
    *_packed("jpeg", b"\xff\xd8\xff"),
    *_packed("png", b"\x89PNG\r\n\x1a\n"),
    *_packed("gif", b"GIF87a", b"GIF89a"),
    Signature(b"RIFF", Kind("webp"), also=b"WEBP", also_at=8),
    Signature(b"RIFF", Kind("wav", packed=False), also=b"WAVE", also_at=8),
    Signature(b"RIFF", Kind("avi"), also=b"AVI ", also_at=8),
    *_packed("mp4", b"ftyp", at=4),
    *_packed("quicktime", b"moov", b"mdat", b"wide", at=4),
    *_packed("jpeg 2000", b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"),
    *_packed("jpeg xl", b"\xff\x0a", b"\x00\x00\x00\x0cJXL "),
    *_packed("matroska", b"\x1a\x45\xdf\xa3"),
    *_packed("ogg", b"OggS\x00"),
    *_packed("flac", b"fLaC"),
    *_packed("mp3", b"ID3\x02", b"ID3\x03", b"ID3\x04"),
    *_packed("mpeg audio", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9"),
    *_packed("mpeg", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"),
    *_packed("flash", b"CWS", b"ZWS", b"FLV\x01"),
    *_packed("asf", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    *_packed("woff2", b"wOF2"),
    *_packed("woff", b"wOFF"),
    *_packed("pdf", b"%PDF-"),
    *_packed("postscript", b"%!PS"),
    *_packed("ole", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    *_packed("git pack", b"PACK\x00\x00\x00\x02", b"PACK\x00\x00\x00\x03"),
    *_packed("git bundle", b"# v2 git bundle\n", b"# v3 git bundle\n"),
    *_packed("java modules", b"JM\x01\x00"),
    *_packed("hdf5", b"\x89HDF\r\n\x1a\n"),
    *_packed("parquet", b"PAR1"),
    *_packed("orc", b"ORC\n"),
    *_packed("avro", b"Obj\x01"),
    *_packed("pgdump", b"PGDMP"),
    *_packed("age", b"age-encryption.org/v1"),
    *_packed("openssl", b"Salted__"),
    *_packed("luks", b"LUKS\xba\xbe"),
    *_packed("keepass", b"\x03\xd9\xa2\x9a"),
    *_packed("openpgp", b"\x85\x01\x0c\x03", b"\x85\x02\x0c\x03", b"\x85\x04\x0c\x03"),
    *_packed("openpgp", b"\x8c\x0d\x04", b"\x8c\x0e\x04", b"\xc3\x0d\x04", b"\xc3\x0e\x04"),
    *_packed("openpgp", b"\x84\x5e\x03", b"\xc1\xc0\x4c\x03", b"\xc1\x5e\x03"),
    *_plain("elf", b"\x7fELF"),
    *_plain("mach-o", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe"),
    *_packed("windows program", b"MZ\x90\x00"),
    *_packed("sqlite", b"SQLite format 3\x00"),
    *_plain("font", b"\x00\x01\x00\x00\x00", b"OTTO\x00", b"true\x00", b"ttcf"),
    Signature(b"BM", Kind("bitmap", packed=False), also=b"\0\0\0\0", also_at=6),
    *_plain("tiff", b"II*\x00", b"MM\x00*"),
    *_plain("aiff", b"FORM"),
    *_plain("au", b".snd"),
    *_plain("message catalogue", b"\xde\x12\x04\x95", b"\x95\x04\x12\xde"),
    *_plain("llvm bitcode", b"BC\xc0\xde"),
    *_plain("wasm", b"\x00asm"),
    *_packed("numpy", b"\x93NUMPY"),
)  # fmt: skip

_BY_FIRST: dict[int, list[Signature]] = {}
_ELSEWHERE: list[Signature] = []
for _signature in _SIGNATURES:
    if _signature.offset:
        _ELSEWHERE.append(_signature)
    else:
        _BY_FIRST.setdefault(_signature.magic[0], []).append(_signature)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Endings that promise a kind with a magic of its own. An object that is called so and has none is
# not what its name says. Written "ending ending: kind"; the kind is for the one who reads it.
_MAGIC_ENDINGS = _words(
    "zip jar war whl apk docx xlsx pptx odt ods odp epub gz tgz zst tzst xz txz bz2 tbz2 lz4 7z rar"
    " jpg jpeg png gif webp wav avi mp4 m4a m4v mov mkv webm ogg oga ogv opus flac mp3 woff woff2"
    " pdf ps doc xls ppt psd tif tiff bmp heic avif jp2 jxl ttf otf so exe dll sqlite sqlite3"
    " parquet orc avro tar deb rpm iso ico class wasm pst"
)
_TEXT_ENDINGS = _words(
    "txt md rst csv tsv json jsonl ndjson xml html htm css js ts jsx tsx py rb go rs java c h cpp"
    " hpp php pl sh sql yaml yml toml ini cfg conf log svg tex vtt srt ics vcf eml map lock env"
    " properties gradle ipynb geojson rtf"
)
# Endings of what looks random by nature and has no magic, or has one that says nothing.
_OPAQUE_ENDINGS = _words("br brotli enc aes gpg pgp age bin dat crypt")


def recognise(head: bytes) -> Kind | None:
    """By the first bytes alone; None when nothing fits. `head`: at least 300 bytes if there are."""
    near = _BY_FIRST.get(head[0], ()) if head else ()
    return _first_match(near, head) or _first_match(_ELSEWHERE, head)


def _first_match(signatures: Iterable[Signature], head: bytes) -> Kind | None:
    return next((it.kind for it in signatures if it.matches(head)), None)


def ending(key: str) -> str:
    """ "a/Photo.JPG" -> "jpg"; "" when the name has none."""
    return posixpath.splitext(posixpath.basename(key))[1][1:].lower()


def promise(key: str) -> str:
    """What the name promises: "magic", "text", "opaque" (looks random, no magic), or ""."""
    end = ending(key)
    if end in _MAGIC_ENDINGS:
        return "magic"
    if end in _TEXT_ENDINGS:
        return "text"
    return "opaque" if end in _OPAQUE_ENDINGS else ""
