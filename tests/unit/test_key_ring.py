"""Data keys: durable before use, found again, opened by whoever is left, given to others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.adapters.sealing.key_ring import KeyRing
from chalicelib.adapters.sealing.kms_keys import KmsKey
from chalicelib.adapters.sealing.offline_keys import OfflinePrivateKey, OfflinePublicKey
from chalicelib.adapters.sealing.store import SealedStore
from chalicelib.errors import (
    BadInput,
    LeewardError,
    NotReady,
    Refused,
    Tampered,
    Truncated,
    Unavailable,
)
from chalicelib.services.jobs.kept_keys import KeptKeys, keep_keys
from tests.fakes import FailingObjectStore, InMemoryObjectStore
from tests.fakes_keys import GOLDEN, PASSPHRASE, PRIVATE_PEM, PUBLIC_PEM, InMemoryKeeper
from tests.fakes_records import SteppingClock

SILENT = Unavailable("no answer", hint="Wait.")
DENIED = Refused("no right", hint="Ask.", code="access-denied")
PRIMARY, STANDBY, OFFLINE = (InMemoryKeeper(name) for name in ("primary", "standby", "offline"))
PERIOD = timedelta(days=7)


def ring(
    store: Any, *, recipients: Any = (PRIMARY, STANDBY), openers: Any = (), clock: Any = None
) -> KeyRing:
    return KeyRing(
        store, "gcs/db", clock=clock or SteppingClock(), recipients=recipients,
        openers=openers or recipients, period=PERIOD,
    )  # fmt: skip


@pytest.fixture
def store() -> InMemoryObjectStore:
    return InMemoryObjectStore()


def caught_by(act: Callable[[], Any]) -> LeewardError:
    with pytest.raises(LeewardError) as caught:
        act()
    assert caught.value.hint
    return caught.value


def key_files(store: InMemoryObjectStore) -> list[str]:
    return [key for key in store.objects if key.startswith("keys/")]


def test_a_new_data_key_is_stored_before_it_is_given_out(store: InMemoryObjectStore) -> None:
    key = ring(store).sealing_key()
    stored = json.loads(store.objects[f"keys/{key.id}.json"])
    assert (stored["key_id"], stored["location"]) == (key.id, "gcs/db")
    assert [entry["recipient"] for entry in stored["recipients"]] == ["primary", "standby"]
    assert key.secret.hex() not in json.dumps(stored)
    assert ring(store, openers=(STANDBY,)).opening_key(key.id) == key


def test_no_object_without_its_key_set(store: InMemoryObjectStore) -> None:
    failing = FailingObjectStore(store, SILENT, fail_at=1)
    sealed = SealedStore(failing, ring(failing))
    with pytest.raises(Unavailable):
        sealed.put("object", b"data")
    assert store.objects == {}
    assert sealed.put("object", b"data").size_bytes == 4
    assert SealedStore(store, ring(store)).get("object") == b"data"


def test_a_crash_between_key_set_and_object_leaves_nothing_wrong(
    store: InMemoryObjectStore,
) -> None:
    failing = FailingObjectStore(store, SILENT, fail_at=2)
    with pytest.raises(Unavailable):
        SealedStore(failing, ring(failing)).put("object", b"data")
    assert len(key_files(store)) == 1
    again = SealedStore(store, ring(store))
    again.put("object", b"data")
    assert again.get("object") == b"data"
    assert len(key_files(store)) == 1


def test_one_data_key_for_a_period_then_another(store: InMemoryObjectStore) -> None:
    clock = SteppingClock(step=timedelta(0))
    first = ring(store, clock=clock).sealing_key()
    later = ring(store, clock=clock)
    assert later.sealing_key() == first
    clock.sleep(PERIOD.total_seconds())
    second = later.sealing_key()
    assert second.id > first.id
    assert later.opening_key(first.id) == first


def test_a_data_key_of_the_future_is_not_taken_up(store: InMemoryObjectStore) -> None:
    ahead = SteppingClock(datetime(2030, 1, 1, tzinfo=UTC))
    future = ring(store, clock=ahead).sealing_key()
    assert ring(store).sealing_key() != future
    assert ring(store).opening_key(future.id) == future


class SlowKeeper(InMemoryKeeper):
    def wrap(self, secret: bytes, bound_to: Mapping[str, str]) -> dict[str, Any]:
        time.sleep(0.02)
        return super().wrap(secret, bound_to)


def test_threads_share_one_new_data_key(store: InMemoryObjectStore) -> None:
    shared = ring(store, recipients=(SlowKeeper("slow"),))
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: shared.sealing_key().id, range(32)))
    assert len(keys) == len(key_files(store)) == 1


def test_two_writers_that_begin_at_once_both_stay_readable(store: InMemoryObjectStore) -> None:
    clock = SteppingClock(step=timedelta(0))
    rings = [ring(store, clock=clock) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        keys = list(threads.map(lambda it: it.rotate(), rings))
    reader = ring(store)
    assert [reader.opening_key(key.id) for key in keys] == keys
    assert len(key_files(store)) == 8


def test_a_keeper_is_asked_once_for_each_data_key(store: InMemoryObjectStore) -> None:
    key = ring(store).sealing_key()
    keeper = InMemoryKeeper("primary")
    keeper._cipher = PRIMARY._cipher
    reader = ring(store, openers=(keeper,))
    assert [reader.opening_key(key.id) for _ in range(5)] == [key] * 5
    assert keeper.calls == 1


def test_a_writer_that_may_not_open_makes_its_own(store: InMemoryObjectStore) -> None:
    first = ring(store).sealing_key()
    writer = ring(store, openers=(InMemoryKeeper("primary", DENIED),))
    own = writer.sealing_key()
    assert own != first
    assert ring(store).opening_key(own.id) == own


@pytest.mark.parametrize("error", [SILENT, DENIED, NotReady("disabled", hint="Enable it.")])
def test_the_next_recipient_is_tried(store: InMemoryObjectStore, error: LeewardError) -> None:
    key = ring(store).sealing_key()
    openers = (InMemoryKeeper("primary", error), STANDBY)
    assert ring(store, openers=openers).opening_key(key.id) == key


def test_the_offline_key_opens_when_no_other_answers(store: InMemoryObjectStore) -> None:
    recipients = (PRIMARY, STANDBY, OfflinePublicKey(PUBLIC_PEM))
    key = ring(store, recipients=recipients).sealing_key()
    silent = tuple(InMemoryKeeper(name, SILENT) for name in ("primary", "standby"))
    offline = OfflinePrivateKey(PRIVATE_PEM, PASSPHRASE)
    assert ring(store, openers=(*silent, offline)).opening_key(key.id) == key


def test_silence_of_all_is_tried_again_and_names_who_could(store: InMemoryObjectStore) -> None:
    key = ring(store).sealing_key()
    openers = (InMemoryKeeper("primary", SILENT), InMemoryKeeper("standby", DENIED))
    error = caught_by(lambda: ring(store, openers=openers).opening_key(key.id))
    assert isinstance(error, Unavailable)
    assert error.instance_code == "no-key-fits"
    assert error.context["recipients"] == ["primary", "standby"]
    assert [it["code"] for it in error.context["failed"]] == ["unavailable", "access-denied"]


def test_a_key_that_nothing_was_wrapped_for(store: InMemoryObjectStore) -> None:
    key = ring(store).sealing_key()
    stranger = OfflinePrivateKey(PRIVATE_PEM, PASSPHRASE)
    error = caught_by(lambda: ring(store, openers=(stranger,)).opening_key(key.id))
    assert isinstance(error, NotReady)
    assert error.instance_code == "no-key-fits"
    for name in ("primary", "standby", stranger.name):
        assert name in error.message


def test_a_wrong_key_is_one_clear_error(store: InMemoryObjectStore) -> None:
    """A key set that holds another data key under this name, wrapped as it should be."""
    writer = ring(store)
    first, second = writer.rotate(), writer.rotate()
    name = f"keys/{first.id}.json"
    swapped = store.objects[f"keys/{second.id}.json"].replace(second.id.encode(), first.id.encode())
    store.objects[name] = swapped
    error = caught_by(lambda: ring(store).opening_key(first.id))
    assert isinstance(error, Tampered)
    assert error.instance_code == "wrong-key"


def test_offline_a_wrong_key_is_the_same_error(store: InMemoryObjectStore) -> None:
    writer = ring(store, recipients=(OfflinePublicKey(PUBLIC_PEM),))
    first, second = writer.rotate(), writer.rotate()
    stored = store.objects[f"keys/{second.id}.json"]
    store.objects[f"keys/{first.id}.json"] = stored.replace(second.id.encode(), first.id.encode())
    openers = (OfflinePrivateKey(PRIVATE_PEM, PASSPHRASE),)
    assert caught_by(lambda: ring(store, openers=openers).opening_key(first.id)).code == "tampered"


def altered(store: InMemoryObjectStore, key: str, **changes: Any) -> bytes:
    return json.dumps(json.loads(store.objects[f"keys/{key}.json"]) | changes).encode()


def test_a_damaged_key_set_is_named(store: InMemoryObjectStore) -> None:
    key = ring(store).sealing_key()
    for damage in (
        b"", b"[]", b"\xff", b"{}", altered(store, key.id, recipients=[{"kind": "memory"}]),
        altered(store, key.id, format=2), altered(store, key.id, key_id="other"),
    ):  # fmt: skip
        store.objects[f"keys/{key.id}.json"] = damage
        error = caught_by(lambda: ring(store).opening_key(key.id))
        assert error.instance_code == "key-set-unreadable"
        assert key.id in error.message
    del store.objects[f"keys/{key.id}.json"]
    missing = caught_by(lambda: ring(store).opening_key(key.id))
    assert isinstance(missing, Truncated)
    assert missing.instance_code == "key-missing"


def test_a_key_set_of_another_location_opens_nothing(store: InMemoryObjectStore) -> None:
    key = ring(store).sealing_key()
    other = KeyRing(store, "azure/db", clock=SteppingClock(), openers=(PRIMARY,))
    assert caught_by(lambda: other.opening_key(key.id)).instance_code == "other-location"
    store.objects[f"keys/{key.id}.json"] = altered(store, key.id, location="azure/db")
    assert caught_by(lambda: other.opening_key(key.id)).instance_code == "wrong-key"


def test_a_location_that_was_renamed_in_the_plan_seals_nothing_more(
    store: InMemoryObjectStore,
) -> None:
    """However long ago: a new data key beside the old would hide that no old copy opens."""
    clock = SteppingClock()
    ring(store, clock=clock).sealing_key()
    clock.at += 3 * PERIOD
    renamed = KeyRing(store, "google/db", clock=clock, recipients=(PRIMARY,), openers=(PRIMARY,))
    refused = caught_by(renamed.sealing_key)
    assert refused.instance_code == "other-location"
    assert "old name" in refused.hint
    assert len(list(store.list("keys/"))) == 1
    assert ring(store, clock=clock).sealing_key()


def test_what_else_lies_in_keys_stops_nobody(store: InMemoryObjectStore) -> None:
    key = ring(store).sealing_key()
    for stray in ("keys/.DS_Store", "keys/notes.json", f"keys/{key.id}.json.old", "keys/9/9.json"):
        store.objects[stray] = b"stray"
    assert ring(store).sealing_key() == key
    assert ring(store).key_ids() == [key.id]


def test_without_recipients_nothing_is_sealed(store: InMemoryObjectStore) -> None:
    error = caught_by(lambda: ring(store, recipients=()).sealing_key())
    assert isinstance(error, BadInput)
    assert error.instance_code == "no-recipient"
    assert store.objects == {}


def test_a_silent_recipient_is_left_out_and_added_later(store: InMemoryObjectStore) -> None:
    absent = InMemoryKeeper("standby", SILENT)
    first = ring(store, recipients=(PRIMARY, absent)).sealing_key()
    assert first.id in str(store.objects)
    complete = ring(store)
    assert complete.sealing_key() != first
    complete.apply_rewrap(complete.decide_rewrap())
    assert ring(store, openers=(STANDBY,)).opening_key(first.id) == first


def test_when_all_are_silent_nothing_is_stored(store: InMemoryObjectStore) -> None:
    with pytest.raises(Unavailable):
        ring(store, recipients=(InMemoryKeeper("primary", SILENT),)).sealing_key()
    assert store.objects == {}


def test_recipients_change_and_no_object_is_touched(store: InMemoryObjectStore) -> None:
    sealed = SealedStore(store, ring(store))
    sealed.put("one", b"old")
    before = store.objects["one"]
    changed = ring(store, recipients=(STANDBY, OFFLINE), openers=(PRIMARY,))
    [change] = decided = changed.decide_rewrap()
    assert (change.keep, change.add, change.remove) == (("standby",), ("offline",), ("primary",))
    changed.apply_rewrap(decided)
    assert store.objects["one"] == before
    for opener in (STANDBY, OFFLINE):
        reader = SealedStore(store, ring(store, recipients=(), openers=(opener,)))
        assert reader.get("one") == b"old"
    removed = SealedStore(store, ring(store, recipients=(), openers=(PRIMARY,)))
    assert caught_by(lambda: removed.get("one")).instance_code == "no-key-fits"


def test_nothing_is_written_when_nothing_changes(store: InMemoryObjectStore) -> None:
    writer = ring(store)
    writer.sealing_key()
    before = dict(store.objects)
    decided = writer.decide_rewrap()
    assert [change.needed for change in decided] == [False]
    writer.apply_rewrap(decided)
    assert store.objects == before


def test_new_objects_get_a_data_key_that_a_removed_recipient_never_saw(
    store: InMemoryObjectStore,
) -> None:
    clock = SteppingClock(step=timedelta(minutes=1))
    SealedStore(store, ring(store, clock=clock)).put("old", b"old")
    known = set(key_files(store))
    changed = ring(store, recipients=(STANDBY, OFFLINE), openers=(STANDBY,), clock=clock)
    changed.apply_rewrap(changed.decide_rewrap())
    later = SealedStore(
        store, ring(store, recipients=(STANDBY, OFFLINE), openers=(STANDBY,), clock=clock)
    )
    later.put("new", b"new")
    [fresh] = set(key_files(store)) - known
    assert fresh[5:21].encode() == store.objects["new"][8:24]
    assert later.get("old") == b"old"
    assert later.get("new") == b"new"


def test_a_rewrap_that_was_cut_off_is_finished_by_the_next(store: InMemoryObjectStore) -> None:
    clock = SteppingClock(step=timedelta(minutes=1))
    old = [ring(store, clock=clock).rotate() for _ in range(3)]
    failing = FailingObjectStore(store, SILENT, fail_at=3)
    wanted = (STANDBY, OFFLINE)
    cut = ring(failing, recipients=wanted, openers=(STANDBY,), clock=clock)
    with pytest.raises(Unavailable):
        cut.apply_rewrap(cut.decide_rewrap())
    reader = ring(store, openers=(STANDBY,))
    assert [reader.opening_key(key.id) for key in old] == old
    again = ring(store, recipients=wanted, openers=(STANDBY,), clock=clock)
    again.apply_rewrap(again.decide_rewrap())
    assert not any(change.needed for change in again.decide_rewrap())
    offline = ring(store, recipients=(), openers=(OFFLINE,))
    assert [offline.opening_key(key.id) for key in old] == old


def test_a_new_recipient_that_is_silent_changes_nothing(store: InMemoryObjectStore) -> None:
    ring(store).sealing_key()
    before = dict(store.objects)
    silent = InMemoryKeeper("offline", SILENT)
    changed = ring(store, recipients=(PRIMARY, STANDBY, silent))
    with pytest.raises(Unavailable):
        changed.apply_rewrap(changed.decide_rewrap())
    assert store.objects == before


def test_the_last_recipient_cannot_be_removed(store: InMemoryObjectStore) -> None:
    ring(store).sealing_key()
    nobody = ring(store, recipients=(), openers=(PRIMARY,))
    assert caught_by(nobody.decide_rewrap).instance_code == "no-recipient"


def test_a_key_set_opens_as_it_did_when_it_was_made(store: InMemoryObjectStore) -> None:
    data = (GOLDEN / "key-set.json").read_bytes()
    vectors = json.loads((GOLDEN / "vectors.json").read_text())
    store.objects[f"keys/{vectors['key_id']}.json"] = data
    offline = OfflinePrivateKey(PRIVATE_PEM, PASSPHRASE)
    reader = KeyRing(store, vectors["location"], clock=SteppingClock(), openers=(offline,))
    assert reader.opening_key(vectors["key_id"]).secret.hex() == vectors["secret"]


WHOLE = json.loads((GOLDEN / "key-set.json").read_text())
OPENER = OfflinePrivateKey(PRIVATE_PEM, PASSPHRASE)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@given(
    changes=st.dictionaries(st.sampled_from(sorted(WHOLE)), JSON, max_size=2),
    entry=st.dictionaries(st.sampled_from(sorted(WHOLE["recipients"][0])), JSON, max_size=2),
)
@settings(max_examples=150, deadline=None)
def test_whatever_a_key_set_was_made_into_it_opens_rightly_or_is_refused(
    changes: dict[str, Any], entry: dict[str, Any]
) -> None:
    store = InMemoryObjectStore()
    recipients = [WHOLE["recipients"][0] | entry]
    store.objects[f"keys/{WHOLE['key_id']}.json"] = json.dumps(
        WHOLE | {"recipients": recipients} | changes
    ).encode()
    kms = KmsKey(None, "arn:aws:kms:us-east-1:123456789012:key/mrk-1")
    reader = KeyRing(store, WHOLE["location"], clock=SteppingClock(), openers=(kms, OPENER))
    with suppress(LeewardError):
        assert reader.opening_key(WHOLE["key_id"]).id == WHOLE["key_id"]


def test_the_job_that_copies_tells_whose_key_does_not_open_everything(
    store: InMemoryObjectStore,
) -> None:
    """Sealed before the plan named the offline key: nobody would miss it until it counts."""
    SealedStore(store, ring(store, recipients=(PRIMARY,))).put("old", b"x")
    SealedStore(store, ring(store, recipients=(PRIMARY, OFFLINE))).put("new", b"x")
    kept = InMemoryObjectStore()
    now = SealedStore(store, ring(store, recipients=(PRIMARY, OFFLINE)))
    assert keep_keys("gcs", kept, now) == KeptKeys(lacking=("offline",))
    assert len(kept.objects) == len(key_files(store)) == 2

    now.keys.apply_rewrap(now.keys.decide_rewrap())
    assert keep_keys("gcs", kept, now) == KeptKeys()
