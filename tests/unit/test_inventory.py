"""Names and inventories of replicas: any key in, the same key out."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import Tampered
from chalicelib.plan.inventory import (
    InventoryEntry,
    inventory_name,
    read_lines,
    sha256_of_checksums,
)
from chalicelib.plan.object_names import LONG_NAMES, is_long, key_of_name, name_of_key

AT = datetime(2026, 11, 22, 8, 0, 0, 5, tzinfo=UTC)
KEYS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=1024).filter(
    lambda key: len(key.encode()) <= 1024
)


@given(KEYS)
def test_a_name_gives_its_key_back_or_is_a_digest(key: str) -> None:
    name = name_of_key(key)
    # Twice its length in hexadecimal, with slashes and a prefix, still is a name in every cloud.
    assert len(name.encode()) * 2 + 100 < 1024
    if is_long(key):
        assert name == LONG_NAMES + hashlib.sha256(key.encode()).hexdigest()
        with pytest.raises(ValueError, match="objects/"):
            key_of_name(name)
    else:
        assert key_of_name(name) == key


@given(st.lists(KEYS.filter(lambda key: not is_long(key)), unique=True, max_size=5))
def test_names_sort_as_their_keys(keys: list[str]) -> None:
    by_name = sorted(map(name_of_key, keys), key=str.encode)
    assert [key_of_name(name) for name in by_name] == sorted(keys, key=str.encode)


@given(
    keys=st.lists(KEYS, unique=True, max_size=5),
    checksums=st.dictionaries(st.sampled_from(["SHA256", "CRC64NVME"]), st.text(max_size=9)),
    cut=st.integers(1, 50),
)
def test_entries_are_read_back_however_the_lines_are_cut(
    keys: list[str], checksums: dict[str, str], cut: int
) -> None:
    entries = [
        InventoryEntry(key, 0, AT, "e", "v", checksums, "FULL_OBJECT", "ab")
        for key in sorted(keys, key=str.encode)
    ]
    content = b"".join(entry.to_line() for entry in entries)
    chunks = (content[at : at + cut] for at in range(0, len(content), cut))
    assert list(read_lines(chunks)) == entries


@pytest.mark.parametrize(
    "content",
    [
        InventoryEntry("k", 1, AT).to_line()[:-1],
        InventoryEntry("k", 1, AT).to_line() * 2,
        InventoryEntry("l", 1, AT).to_line() + InventoryEntry("k", 1, AT).to_line(),
        b"{}\n",
        b"[]\n",
        b"\xff\n",
    ],
)
def test_what_is_no_inventory_is_refused(content: bytes) -> None:
    with pytest.raises(Tampered) as caught:
        list(read_lines([content]))
    assert caught.value.instance_code == "inventory-unreadable"


def test_the_names_of_the_parts_sort_in_order() -> None:
    names = [inventory_name(number) for number in (1, 2, 10, 999_999)]
    assert names == sorted(names)


def test_a_digest_of_parts_is_no_digest() -> None:
    digest = hashlib.sha256(b"x").digest()
    stored = {"SHA256": b64encode(digest).decode()}
    assert sha256_of_checksums(stored, "FULL_OBJECT") == digest.hex()
    assert sha256_of_checksums(stored, "") == digest.hex()
    assert sha256_of_checksums(stored, "COMPOSITE") == ""
    assert sha256_of_checksums({"SHA256": stored["SHA256"] + "-2"}, "") == ""
    assert sha256_of_checksums({"CRC64NVME": "AAAA"}, "FULL_OBJECT") == ""
