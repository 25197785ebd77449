"""What an object's first bytes tell: honest files are left alone, their encrypted twins are not."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import os
import zlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.ports.samples import Sample, SampledWrite
from chalicelib.verify.signs.content import is_note, look_at
from chalicelib.verify.signs.structure import check_body
from chalicelib.verify.signs.versions import look_at_write
from tests.contract.test_ransomware import NOTE, encrypt, png, zipped
from tests.noise import noise

TEXT = Path(os.__file__).read_bytes() * 4
PICTURE = png(noise(30000))
HONEST = {
    "a.txt": TEXT,
    "a.zip": zipped(TEXT),
    "a.docx": zipped(noise(60000)),
    "a.png": PICTURE,
    "a.gz": gzip.compress(TEXT),
    "a.json": gzip.compress(TEXT),
    "a.bz2": bz2.compress(TEXT),
    "a.xz": lzma.compress(TEXT),
    "a.zst": zstandard.compress(noise(50000)),
    "a.z": zlib.compress(noise(9000)),
    "a.b64": base64.b64encode(zipped(TEXT)),
    "a.py": TEXT,
    "a.bin": bytes(5000),
    "utf16.csv": ("Straße;" * 200).encode("utf-16"),
    "greek.txt": ("αβγ δεζ " * 900).encode(),
    "sealed": b"LWSEAL0120261122T084500Z" + noise(70000),
    "small.txt": b"x",
    "empty.txt": b"",
    "run.sh": TEXT[:9000] + gzip.compress(TEXT),
}


@pytest.mark.parametrize("key", [it for it in HONEST if it != "run.sh"])
def test_honest_files_are_not_flagged(key: str) -> None:
    assert look_at(key, HONEST[key][:65536]).flag == ""


@pytest.mark.parametrize("key", [it for it in HONEST if len(HONEST[it]) >= 1024])
def test_their_encrypted_twins_are(key: str) -> None:
    body = encrypt(HONEST[key][:65536])
    assert look_at(key, body).encrypted
    assert look_at(f"{key}.locked", body).flag == "unknown"


@pytest.mark.parametrize("key", ["a.zip", "a.png", "a.gz", "a.xz", "a.docx"])
def test_a_kept_header_does_not_hide_an_encrypted_body(key: str) -> None:
    body = HONEST[key][:65536]
    assert look_at(key, body[:1000] + encrypt(body[1000:])).flag == "broken"


def test_a_body_may_end_anywhere() -> None:
    """A sample is the first 64 KiB of something larger."""
    for key, body in HONEST.items():
        for end in (1024, 1500, 4096, 5000, 9999, len(body) - 1):
            assert not look_at(key, body[:end]).encrypted or key == "run.sh", (key, end)


def test_text_with_encrypted_stretches_is_found() -> None:
    body = bytearray(TEXT[:65536])
    body[8192:12288] = encrypt(bytes(4096))
    assert look_at("notes.txt", bytes(body)).flag == "intermittent"
    assert look_at("notes", bytes(body)).flag == "intermittent"
    assert look_at("notes.txt", encrypt(TEXT[:4096]) + TEXT[4096:65536]).flag == "partial"


def test_base64_of_ciphertext_is_told_from_base64_of_a_file() -> None:
    assert look_at("a.jpg", base64.b64encode(encrypt(TEXT))).flag == "encoded"
    assert look_at("a.jpg", encrypt(TEXT).hex().encode()).flag == "encoded"
    assert look_at("a.jpg", base64.encodebytes(PICTURE)).flag == ""


def test_a_header_of_encrypted_files_does_not_excuse_a_picture_or_an_old_key() -> None:
    age = b"age-encryption.org/v1\n" + noise(9000)
    assert look_at("a.age", age).flag == ""
    assert look_at("a.jpg", age).flag == "mismatch"
    assert look_at_write(write("a", TEXT, HONEST["sealed"])).flag == "kind-lost"
    assert look_at_write(write("a", HONEST["sealed"], HONEST["sealed"])).flag == ""


def jpeg(coded: bytes) -> bytes:
    """A header, one table, and coded data in which every FF is stuffed."""
    table = b"\xff\xdb\x00\x43\x00" + bytes(64)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    head = b"\xff\xd8\xff\xe0\x00\x04JF"
    return head + table + scan + coded.replace(b"\xff", b"\xff\x00")


def test_the_coded_part_of_a_jpeg_is_looked_at() -> None:
    body = jpeg(noise(20000)) + b"\xff\xd9"
    assert look_at("a.jpg", body).flag == ""
    assert look_at("a.jpg", body[:1000] + encrypt(body[1000:])).flag == "broken"


def test_small_text_that_is_no_text_is_found() -> None:
    assert look_at("settings.json", noise(300)).flag == "mismatch"
    assert look_at("settings.json", b'{"a": 1}' * 30).flag == ""


def test_a_note_is_told_by_its_words_and_a_page_about_notes_is_not() -> None:
    assert look_at("READ_ME.txt", NOTE).flag == "note"
    assert not is_note(b"Ransomware encrypts; a note asks for bitcoin, monero; decrypt nothing.")
    assert not is_note(NOTE + bytes(40000))


@pytest.mark.parametrize("kind", ["jpeg", "zip", "png", "gzip", "tar", "ar", "ogg", "xz"])
@given(data=st.binary(min_size=0, max_size=3000))
@settings(max_examples=60, deadline=None)
def test_any_bytes_get_an_answer(kind: str, data: bytes) -> None:
    assert check_body(kind, data) in ("sound", "broken", "")
    for magic in (b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"!<arch>\n", b"OggS\0"):
        look_at("x.zip", magic + data)


@given(st.binary(min_size=1024, max_size=20000))
@settings(max_examples=50, deadline=None)
def test_what_is_packed_honestly_is_sound(data: bytes) -> None:
    assert check_body("zip", zipped(data)) in ("sound", "")
    assert check_body("gzip", gzip.compress(data)) == "sound"


def write(key: str, before: bytes | None, after: bytes) -> SampledWrite:
    old = None if before is None else Sample(key, "1", before[:65536], len(before))
    return SampledWrite(Sample(key, "2", after[:65536], len(after)), old)


@pytest.mark.parametrize("key", ["a.txt", "a.zip", "a.png", "a.bin", "utf16.csv"])
def test_a_version_that_lost_its_kind_is_a_strong_sign(key: str) -> None:
    look = look_at_write(write(key, HONEST[key], encrypt(HONEST[key])))
    assert (look.flag, look.weight) == ("kind-lost", "strong")


def test_honest_replacements_are_no_signs() -> None:
    pairs = [
        (TEXT, TEXT + b"one more line\n"),
        (TEXT, gzip.compress(TEXT)),
        (HONEST["a.zip"], zipped(TEXT + b"more")),
        (HONEST["a.png"], TEXT),
        (b'{"a": 1}' * 20, b'{"a": 2}' * 30),
        (noise(9000), noise(9000, 1)),
    ]
    assert [look_at_write(write("a", *pair)).weight for pair in pairs[:-1]] == [""] * 5
    assert look_at_write(write("a", *pairs[-1])).weight == "weak"


def test_encrypted_stretches_of_a_program_are_found_beside_the_version_before() -> None:
    program = b"\x7fELF" + bytes(range(256)) * 200 + bytes(20000)
    after = bytearray(program)
    for start in range(4096, len(after) - 4096, 16384):
        after[start : start + 4096] = encrypt(bytes(4096))
    assert look_at("lib.so", bytes(after)).flag == ""
    assert look_at_write(write("lib.so", program, bytes(after))).flag == "noise-grew"


def test_a_new_upload_that_looks_encrypted_weighs_little() -> None:
    look = look_at_write(write("vault/1.enc", None, noise(9000)))
    assert (look.flag, look.weight) == ("unknown", "weak")


def test_growth_is_that_of_the_whole_object() -> None:
    look = look_at_write(write("a.txt", TEXT, TEXT + bytes(512)))
    assert look.grew_bytes == 512
