"""Keys as names: reversible, in order, never normalised by a store."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.adapters.sealing.key_names import KeyNames
from chalicelib.errors import BadInput, NotReady
from chalicelib.ports import Listed

NAMES = KeyNames("backups/db/")
ODD_KEYS = [
    "a//b", "./z", "x/../y", "tab\tk", "/lead", "dir/", "n\nl", "q?x", "h#x", "dot./a", "b\\s",
    " a", "a ", "e\u0301", "\U0001d4b3", "*", "[a]", "\x00", "\ufffe", "odd-names/61.key",
    ".incoming/x", ".well-known/acme-challenge/x", "..", ".",
]  # fmt: skip
PLAIN_KEYS = ["wal/00000001/000000010000000000000001.zst", "é", "a b", "50%25", "x+y", "日本"]
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60) | st.sampled_from(
    ODD_KEYS + PLAIN_KEYS + ["a/.b", "a/b", "a.", "a/", "a" * 150 + "//" + "b" * 100]
)


def listing(stored: list[str]) -> list[str]:
    """`stored` names as a store lists them below a name."""

    def rows(prefix: str) -> Iterator[Listed]:
        for name in sorted(stored, key=str.encode):
            if name.startswith(prefix):
                yield Listed(name, 1, datetime.now(UTC))

    return [row.key for row in NAMES.merged("", rows)]


@pytest.mark.parametrize("key", PLAIN_KEYS)
def test_a_plain_key_is_its_own_name(key: str) -> None:
    assert NAMES.name(key) == f"backups/db/{key}"


@pytest.mark.parametrize("key", ODD_KEYS)
def test_an_odd_key_has_a_name_that_no_store_changes(key: str) -> None:
    name = NAMES.name(key)
    assert name == f"backups/db/odd-names/{key.encode().hex()}.key"


@given(st.lists(keys, unique=True), keys)
def test_every_key_comes_back_in_byte_order(wanted: list[str], prefix: str) -> None:
    stored = [NAMES.name(key) for key in wanted]
    assert listing(stored) == sorted(wanted, key=str.encode)

    def rows(below: str) -> Iterator[Listed]:
        for name in sorted(stored, key=str.encode):
            if name.startswith(below):
                yield Listed(name, 1, datetime.now(UTC))

    for start in {prefix[:1], prefix[:2], prefix, *(key[:3] for key in wanted)}:
        found = [row.key for row in NAMES.merged(start, rows)]
        assert found == sorted((k for k in wanted if k.startswith(start)), key=str.encode)


def test_an_object_that_nobody_named_is_seen() -> None:
    assert listing(["backups/db/odd-names/zzz", "backups/db/a"]) == ["a", "odd-names/zzz"]


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("", "key-empty"),
        ("\udcff", "key-not-utf8"),
        ("k" * 1014, "key-too-long"),
        ("é" * 507, "key-too-long"),
        ("\n" * 510, "key-too-long"),
    ],
)
def test_what_no_store_can_hold_is_refused(key: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        NAMES.name(key)
    assert caught.value.instance_code == code


@pytest.mark.parametrize(
    "below", ["points/x/", "wal/", "inc-1-db/records/", "people-inc-1/records/"]
)
def test_below_what_is_leewards_own_only_plain_keys_are_kept_and_asked_for(below: str) -> None:
    asked: list[str] = []

    def rows(prefix: str) -> Iterator[Listed]:
        asked.append(prefix)
        yield Listed(prefix + "a", 1, datetime.now(UTC))

    assert [row.key for row in NAMES.merged(below, rows)] == [below + "a"]
    assert asked == ["backups/db/" + below]
    with pytest.raises(BadInput) as caught:
        NAMES.name(below + "a//b")
    assert caught.value.instance_code == "key-not-plain"


def test_the_key_of_a_bucket_may_look_like_one_of_leewards_own() -> None:
    assert NAMES.name("objects/inc-1/records/\n").startswith("backups/db/odd-names/")


def test_the_longest_name_is_kept() -> None:
    assert NAMES.name("k" * 1013) == "backups/db/" + "k" * 1013


def test_a_store_without_order_is_refused() -> None:
    def rows(prefix: str) -> Iterator[Listed]:
        if "odd-names" not in prefix:
            yield from (Listed(f"backups/db/{name}", 1, datetime.now(UTC)) for name in "ba")

    with pytest.raises(NotReady) as caught:
        list(NAMES.merged("", rows))
    assert caught.value.instance_code == "listing-unordered"
