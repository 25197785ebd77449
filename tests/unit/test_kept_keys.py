"""Key sets are kept a second time, where whoever writes to the sealed location cannot reach."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.adapters.sealing.key_ring import KeyRing
from chalicelib.adapters.sealing.store import SealedStore
from chalicelib.errors import Tampered
from chalicelib.services.jobs.kept_keys import KeptKeys, keep_keys
from tests.fakes import InMemoryObjectStore
from tests.fakes_keys import InMemoryKeeper
from tests.fakes_records import SteppingClock

KMS, OFFLINE, NEW = (InMemoryKeeper(name) for name in ("kms", "offline", "new"))


class Copy:
    """A sealed location with one object, whose key set was kept once."""

    def __init__(self) -> None:
        self.outside, self.primary = InMemoryObjectStore(), InMemoryObjectStore()
        self.sealed().put("a", b"content")
        assert self.keep() == KeptKeys()
        [self.file] = [key for key in self.outside.objects if key.startswith("keys/")]
        [self.kept] = self.primary.objects
        self.good = self.outside.objects[self.file]
        self.key_id = self.file.removeprefix("keys/").removesuffix(".json")

    def sealed(self, *recipients: Any) -> SealedStore:
        ring = KeyRing(
            self.outside, "gcs/db", clock=SteppingClock(), recipients=recipients or (KMS, OFFLINE),
            openers=(KMS, OFFLINE),
        )  # fmt: skip
        return SealedStore(self.outside, ring)

    def keep(self, *recipients: Any) -> KeptKeys:
        return keep_keys("gcs", self.primary, self.sealed(*recipients))

    def change(self, recipients: list[dict[str, Any]]) -> None:
        data = json.loads(self.good) | {"recipients": recipients}
        self.outside.objects[self.file] = json.dumps(data).encode()


@pytest.fixture
def copy() -> Copy:
    return Copy()


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_key_set_that_somebody_spoiled_does_not_replace_its_copy(copy: Copy, left: int) -> None:
    """Only the offline recipient's part, which nobody tries before AWS is lost; one of two; all."""
    entries = json.loads(copy.good)["recipients"]
    spoiled = [entries[0], entries[1] | {"wrapped": "c3BvaWxlZA=="}]
    copy.change(spoiled if left == 2 else entries[:left])
    assert copy.keep().changed == (copy.key_id,)
    assert copy.primary.objects[copy.kept] == copy.good


def test_a_key_set_that_is_gone_is_put_back_and_told(copy: Copy) -> None:
    del copy.outside.objects[copy.file]
    assert copy.keep() == KeptKeys(put_back=(copy.key_id,))
    assert copy.sealed().get("a") == b"content"
    assert copy.keep() == KeptKeys()


def test_a_rewrap_is_kept(copy: Copy) -> None:
    """One recipient is added, then another is no longer the plan's."""
    for recipients in ((KMS, OFFLINE, NEW), (KMS, NEW)):
        keys = copy.sealed(*recipients).keys
        keys.apply_rewrap(keys.decide_rewrap())
        assert copy.keep(*recipients) == KeptKeys()
        assert copy.primary.objects[copy.kept] == copy.outside.objects[copy.file]


def test_a_copy_that_cannot_be_read_is_written_again(copy: Copy) -> None:
    copy.primary.objects[copy.kept] = b"{}"
    assert copy.keep() == KeptKeys()
    assert copy.primary.objects[copy.kept] == copy.good


def test_a_key_set_of_another_location_is_not_put_back(copy: Copy) -> None:
    other = json.loads(copy.good) | {"location": "gcs/other"}
    copy.primary.objects[copy.kept] = json.dumps(other).encode()
    del copy.outside.objects[copy.file]
    with pytest.raises(Tampered, match="expected a key set of gcs/db"):
        copy.keep()
