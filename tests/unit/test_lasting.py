"""Digests that are put down, and checkpoints."""

from __future__ import annotations

import hashlib
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import Unavailable
from chalicelib.ports.lasting import VERSION, RunningDigest, pack, unpack

# Written by the pinned version after b"leeward": another one must not be taken for it.
KNOWN = (
    "0.3.0:Z+YJaoWuZ7ty8248OvVPpX9SDlGMaAWbq9mDHxnN4FsAAAAAAAAAAAdsZWV3YXJkAAAAAAAAAA"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_digest_that_was_put_down_is_that_of_all(first: bytes, second: bytes) -> None:
    for name in ("sha256", "md5"):
        running = RunningDigest(name)
        running.update(first)
        again = RunningDigest(name, running.state())
        again.update(memoryview(second))
        assert again.hexdigest() == hashlib.new(name, first + second).hexdigest()


def test_the_pinned_version_reads_what_it_wrote_before() -> None:
    """Fails with another version of rehashes whose states differ: raise VERSION then."""
    written = RunningDigest()
    written.update(b"leeward")
    assert written.state() == KNOWN
    assert RunningDigest(state=KNOWN).hexdigest() == hashlib.sha256(b"leeward").hexdigest()


def test_without_rehashes_a_digest_is_right_and_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rehashes", None)  # as on macOS: importing it fails
    for name in ("sha256", "md5"):
        running = RunningDigest(name)
        running.update(memoryview(b"leeward"))
        assert running.hexdigest() == hashlib.new(name, b"leeward").hexdigest()
        for state in (running.state(), KNOWN):
            with pytest.raises(Unavailable) as gone:
                RunningDigest(name, state)
            assert gone.value.instance_code == "upload-gone"


@pytest.mark.parametrize("state", ["0.2.0:AAAA", "none:", f"{VERSION}:AAAA", f"{VERSION}:\n", "?"])
def test_what_is_no_state_begins_anew(state: str) -> None:
    with pytest.raises(Unavailable) as gone:
        RunningDigest(state=state)
    assert gone.value.instance_code == "upload-gone"


def test_a_checkpoint_keeps_bytes_as_they_are() -> None:
    assert unpack(pack({"sent": 3}, b"\n{}\x00")) == ({"sent": 3}, b"\n{}\x00")
    for broken in (b"", b"no json\n", b"[]\n"):
        with pytest.raises(Unavailable):
            unpack(broken)
