"""Sealed objects: whole they come back, and whatever is done to them is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.adapters.sealing.envelope import (
    FRAME_BYTES,
    HEADER_BYTES,
    SEALED_FRAME_BYTES,
    TAG_BYTES,
    DataKey,
    Sealer,
    derive,
    make_data_key,
    plain_size,
    seal,
    sealed_size,
    unseal,
)
from chalicelib.errors import Tampered

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/sealed/vectors.json").read_text())
NOW = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
KEY = make_data_key("gcs/db", NOW)
NAME = "points/one/base.tar.zst"
NOISE = os.urandom(4 * FRAME_BYTES)
EDGES = [
    n * FRAME_BYTES + more for n in range(4) for more in (-1, 0, 1) if n * FRAME_BYTES + more >= 0
]
SIZES = st.sampled_from(EDGES) | st.integers(0, 3 * FRAME_BYTES)


def reopen(sealed: bytes, *, key: DataKey = KEY, name: str = NAME, chunk: int = 1 << 20) -> bytes:
    chunks = (sealed[start : start + chunk] for start in range(0, len(sealed), chunk))
    return b"".join(unseal(chunks, lambda _: key, name))


def code_of(act: Callable[[], Any]) -> str:
    with pytest.raises(Tampered) as caught:
        act()
    assert caught.value.hint
    return caught.value.instance_code


@given(size=SIZES, pieces=st.lists(st.integers(1, 2 * FRAME_BYTES), max_size=5), chunk=SIZES)
@settings(max_examples=60, deadline=None)
def test_any_size_in_any_pieces_comes_back(size: int, pieces: list[int], chunk: int) -> None:
    plain = memoryview(NOISE)[:size]
    sealer = Sealer(KEY, NAME)
    sealed, rest = [sealer.header], plain
    for piece in [*pieces, size]:
        sealed += sealer.update(rest[:piece])
        rest = rest[piece:]
    whole = b"".join([*sealed, sealer.finish()])
    assert reopen(whole, chunk=max(chunk, 1000)) == plain
    assert len(whole) == sealed_size(size)
    assert plain_size(len(whole)) == size


@pytest.mark.parametrize("vector", GOLDEN["objects"], ids=lambda it: f"{it['size_bytes']}-bytes")
def test_the_format_is_what_it_was(vector: dict[str, Any]) -> None:
    """Objects sealed years ago must open, and be made the same way."""
    key = DataKey(GOLDEN["key_id"], GOLDEN["location"], bytes.fromhex(GOLDEN["secret"]))
    plain = hashlib.shake_256(vector["name"].encode()).digest(vector["size_bytes"])
    sealed = seal(plain, key, vector["name"], salt=bytes.fromhex(vector["salt"]))
    assert hashlib.sha256(sealed).hexdigest() == vector["sealed_sha256"]
    assert vector.get("sealed") in (None, sealed.hex())
    assert reopen(sealed, key=key, name=vector["name"]) == plain


@given(cuts=st.lists(st.integers(0, 100), max_size=6))
def test_the_header_may_come_in_pieces(cuts: list[int]) -> None:
    sealed, chunks = seal(b"data", KEY, NAME), []
    for cut in [*cuts, len(sealed)]:
        chunks.append(sealed[:cut])
        sealed = sealed[cut:]
    assert b"".join(unseal(chunks, lambda _: KEY, NAME)) == b"data"


def test_an_object_never_looks_the_same_twice() -> None:
    first, second = seal(b"same", KEY, NAME), seal(b"same", KEY, NAME)
    assert first[:40] == second[:40]
    assert first[40:72] != second[40:72]
    assert first[72:] != second[72:]


@given(size=SIZES, at=st.integers(0, 1 << 40), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_one_changed_bit_anywhere_is_noticed(size: int, at: int, bit: int) -> None:
    sealed = bytearray(seal(NOISE[:size], KEY, NAME))
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(Tampered):
        reopen(bytes(sealed))


@pytest.mark.parametrize("position", range(HEADER_BYTES))
def test_every_byte_of_the_header_counts(position: int) -> None:
    sealed = bytearray(seal(b"data", KEY, NAME))
    sealed[position] ^= 1
    expected = "not-sealed" if position < 6 else "seal-version" if position < 8 else "seal-broken"
    assert code_of(lambda: reopen(bytes(sealed))) == expected


@given(size=SIZES, keep=st.integers(0, 1 << 40))
@settings(max_examples=100, deadline=None)
def test_a_missing_end_is_noticed_and_what_came_before_is_true(size: int, keep: int) -> None:
    sealed = seal(NOISE[:size], KEY, NAME)
    keep %= len(sealed)
    given_out = bytearray()
    with pytest.raises(Tampered):
        deque(map(given_out.extend, unseal([sealed[:keep]], lambda _: KEY, NAME)), maxlen=0)
    assert NOISE.startswith(given_out)


def frames_of(sealed: bytes) -> list[bytes]:
    body = sealed[HEADER_BYTES:]
    return [body[at : at + SEALED_FRAME_BYTES] for at in range(0, len(body), SEALED_FRAME_BYTES)]


REARRANGED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "the first frame removed": lambda it: it[1:],
    "one removed": lambda it: [it[0], *it[2:]],
    "the last frame removed": lambda it: it[:-1],
    "all removed": lambda it: [],
    "two swapped": lambda it: [it[1], it[0], *it[2:]],
    "one twice": lambda it: [it[0], *it],
    "the last twice": lambda it: [*it, it[-1]],
    "bytes behind the end": lambda it: [*it, b"more"],
    "an empty frame behind the end": lambda it: [*it, bytes(TAG_BYTES)],
    "the last before the end": lambda it: [it[-1], *it[:-1]],
}


@pytest.mark.parametrize("rearrange", REARRANGED.values(), ids=REARRANGED)
@pytest.mark.parametrize("size", [3 * FRAME_BYTES, 3 * FRAME_BYTES + 7])
def test_frames_stay_in_their_places(
    rearrange: Callable[[list[bytes]], list[bytes]], size: int
) -> None:
    sealed = seal(NOISE[:size], KEY, NAME)
    frames = rearrange(frames_of(sealed))
    changed = sealed[:HEADER_BYTES] + b"".join(frames)
    assert code_of(lambda: reopen(changed)) == "seal-broken"


def test_an_object_opens_under_its_own_name_and_location_alone() -> None:
    sealed = seal(b"data", KEY, NAME)
    elsewhere = DataKey(KEY.id, "azure/db", KEY.secret)
    assert code_of(lambda: reopen(sealed, name="points/two/base.tar.zst")) == "seal-broken"
    assert code_of(lambda: reopen(sealed, key=elsewhere)) == "seal-broken"
    assert (
        code_of(lambda: reopen(sealed, key=DataKey(KEY.id, "gcs/d", KEY.secret))) == "seal-broken"
    )


def test_where_the_location_ends_and_the_name_begins_counts() -> None:
    sealed = seal(b"data", DataKey(KEY.id, "a", KEY.secret), "bc")
    other = DataKey(KEY.id, "ab", KEY.secret)
    assert code_of(lambda: reopen(sealed, key=other, name="c")) == "seal-broken"


def test_a_frame_of_another_object_does_not_fit() -> None:
    one, two = (seal(NOISE[: 2 * FRAME_BYTES], KEY, NAME) for _ in range(2))
    mixed = one[:HEADER_BYTES] + frames_of(one)[0] + frames_of(two)[1]
    assert code_of(lambda: reopen(mixed)) == "seal-broken"


def test_another_key_is_told_from_damage() -> None:
    sealed = seal(b"data", KEY, NAME)
    other = DataKey(KEY.id, KEY.location, os.urandom(32))
    assert code_of(lambda: reopen(sealed, key=other)) == "wrong-key"


def test_the_key_that_an_object_names_is_asked_for() -> None:
    asked: list[str] = []
    sealed = seal(b"data", KEY, NAME)
    assert list(unseal([sealed], lambda id_: asked.append(id_) or KEY, NAME)) == [b"data"]
    assert asked == [KEY.id]
    assert KEY.id.startswith("20261122T084500Z-")


@pytest.mark.parametrize("data", [b"", b"LWSEA", b"plain text", bytes(200)])
def test_what_was_never_sealed_is_called_so(data: bytes) -> None:
    assert code_of(lambda: reopen(data)) == "not-sealed"


def test_a_name_that_is_no_key_id_reaches_no_store() -> None:
    sealed = bytearray(seal(b"data", KEY, NAME))
    sealed[8:24] = b"../../../../etc/"
    with pytest.raises(Tampered):
        list(unseal([bytes(sealed)], lambda id_: pytest.fail(id_), NAME))


@given(size=st.integers(0, 1 << 50))
def test_sizes_follow_from_each_other(size: int) -> None:
    assert plain_size(sealed_size(size)) == size


@pytest.mark.parametrize(
    "size",
    [0, 71, 87, HEADER_BYTES + SEALED_FRAME_BYTES + 1, HEADER_BYTES + SEALED_FRAME_BYTES + 16],
)
def test_a_size_that_no_sealed_object_has(size: int) -> None:
    assert plain_size(size) is None
    with pytest.raises(Tampered):
        reopen(seal(NOISE[: 2 * FRAME_BYTES], KEY, NAME)[:size])


def test_an_empty_frame_at_the_end_is_refused_even_when_its_maker_had_the_key() -> None:
    """Otherwise two lengths would open to one content."""
    salt, plain = bytes(32), bytes(FRAME_BYTES)
    header = seal(plain, KEY, NAME, salt=salt)[:HEADER_BYTES]
    cipher = AESGCM(derive(KEY.secret, salt=salt, info=b"leeward object key 1", length=32))
    place = b"".join(struct.pack(">I", len(it)) + it.encode() for it in ("gcs/db", NAME))
    frames = [
        cipher.encrypt(number.to_bytes(12, "big"), data, header + place + struct.pack(">QB", *at))
        for number, (data, at) in enumerate([(plain, (0, 0)), (b"", (1, 1))])
    ]
    assert code_of(lambda: reopen(header + b"".join(frames))) == "seal-broken"


def test_the_secret_is_not_shown() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY.secret) not in repr(KEY)
