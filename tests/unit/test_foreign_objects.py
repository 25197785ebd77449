"""What lies in a record's place and is none: it silences nobody, and is named."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.errors import Tampered
from chalicelib.evidence.bundle import seal
from chalicelib.evidence.chain import Head, encode_record, genesis, next_record
from chalicelib.evidence.records import StoredRecords, record_key
from chalicelib.evidence.telling import tell
from chalicelib.evidence.verify import verify_evidence
from tests.fakes_records import START, AtomicObjectStore, KeySigner, SteppingClock

STREAM = "inc-20261122T084500Z-nexus-db"


def records_on(store: AtomicObjectStore, mark: dict[str, Any] | None = None) -> StoredRecords:
    records = StoredRecords(store, SteppingClock())
    if mark:
        records.resume(STREAM, json.loads(json.dumps(mark)))
    return records


def say(records: StoredRecords, *numbers: int) -> None:
    for n in numbers:
        records.append(STREAM, "decision", {"n": n}, actor="leeward", key=f"key {n}")


def later_version() -> bytes:
    """A record with a field that this version does not know."""
    record = next_record(STREAM, Head(3, "0" * 64), "decision", {}, at=START, actor="leeward")
    return json.dumps(record.to_json() | {"region": "us-east-1"}).encode()


def other_digest() -> bytes:
    record = next_record(STREAM, Head(3, "0" * 64), "decision", {}, at=START, actor="leeward")
    return encode_record(record).replace(b"decision", b"Decision")


def of_another_place() -> bytes:
    return encode_record(next_record(STREAM, None, "decision", {}, at=START, actor="leeward"))


JUNK = [b"", b"not json", b"{}\n", b"[" * 100_000, b"\xff", later_version(), other_digest(),
        of_another_place()]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK, ids=str)
def test_whoever_appends_steps_over_it_and_names_it_once(junk: bytes) -> None:
    """One that stayed alive, one that was told where another stood, and one that knows nothing."""
    store = AtomicObjectStore()
    alive = records_on(store)
    say(alive, 1, 2, 3)
    mark = alive.mark(STREAM)
    store.objects[record_key(STREAM, 4)] = junk
    say(alive, 4)
    say(records_on(store, mark), 5)
    say(records_on(store), 6)
    say(alive, 7)
    chain = records_on(store).read(STREAM)
    assert chain == alive.read(STREAM)
    assert [it.seq for it in chain] == [1, 2, 3, 5, 6, 7, 8, 9]
    [named] = [it for it in chain if it.kind == "foreign-object"]
    assert f"{record_key(STREAM, 4)} " in tell(named)
    [told] = named.body["objects"]
    assert (named.seq, told["place"]) == (5, 4)
    assert told["sha256"] == hashlib.sha256(junk).hexdigest()
    assert told["why"].startswith(record_key(STREAM, 4))


def test_what_was_said_before_it_is_not_said_again() -> None:
    store = AtomicObjectStore()
    say(records_on(store), 1, 2)
    store.objects[record_key(STREAM, 3)] = b"junk"
    say(records_on(store), 3)
    mark = (again := records_on(store)).mark(STREAM)
    say(again, 1, 2, 3)
    mark = again.mark(STREAM)
    say(records_on(store, mark), 1, 2, 3, 4)
    said = [it.body["n"] for it in records_on(store).read(STREAM) if it.kind == "decision"]
    assert said == [1, 2, 3, 4]


def test_an_incident_that_begins_with_it_has_records_all_the_same() -> None:
    store = AtomicObjectStore()
    store.objects |= {record_key(STREAM, n): b"junk" for n in (1, 2)}
    say(records_on(store), 1)
    named, said = records_on(store).read(STREAM)
    assert [it["place"] for it in named.body["objects"]] == [1, 2]
    assert (named.previous, said.seq) == (genesis(STREAM), 4)


def test_nothing_is_concluded_before_it_is_named() -> None:
    """It may be the last record, which was altered."""
    store = AtomicObjectStore()
    say(records := records_on(store), 1, 2)
    store.objects[record_key(STREAM, 3)] = b"junk"
    with pytest.raises(Tampered, match="000003"):
        records.read(STREAM)


def test_a_record_that_was_altered_where_others_follow_is_not_taken_for_it() -> None:
    store = AtomicObjectStore()
    say(records_on(store), 1, 2, 3)
    store.objects[record_key(STREAM, 2)] = b"junk"
    say(records_on(store), 4)
    with pytest.raises(Tampered, match="000002") as caught:
        records_on(store).read(STREAM)
    assert caught.value.instance_code == "not-a-record"


def test_nobody_can_disown_a_record_by_naming_it() -> None:
    store = AtomicObjectStore()
    say(records := records_on(store), 1, 2)
    first, _ = records.read(STREAM)
    body = {"objects": [{"place": 2, "sha256": "", "why": "no record"}]}
    forged = next_record(
        STREAM, Head(2, first.digest), "foreign-object", body, at=START, actor="leeward"
    )
    store.objects[record_key(STREAM, 3)] = encode_record(forged)
    with pytest.raises(Tampered, match="does not follow"):
        records_on(store).read(STREAM)
    del store.objects[record_key(STREAM, 2)]
    with pytest.raises(Tampered):
        records_on(store).read(STREAM)


def test_a_record_that_follows_nothing_hinders_no_append_and_is_never_believed() -> None:
    store = AtomicObjectStore()
    say(alive := records_on(store), 1, 2)
    forged = next_record(STREAM, Head(2, "0" * 64), "proof", {}, at=START, actor="leeward")
    store.objects[record_key(STREAM, 3)] = encode_record(forged)
    say(alive, 3)
    say(records_on(store), 4)
    with pytest.raises(Tampered, match="record 3 does not follow"):
        records_on(store).read(STREAM)


@pytest.mark.parametrize("name", ["000999.json", "7000000.json"])
def test_what_lies_far_ahead_hinders_no_append(name: str) -> None:
    store = AtomicObjectStore()
    say(records_on(store), 1)
    store.objects[f"{STREAM}/records/{name}"] = b"junk"
    say(records_on(store), 2)
    assert record_key(STREAM, 2) in store.objects
    with pytest.raises(Tampered, match=name):
        records_on(store).read(STREAM)


def test_more_than_any_record_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    store = AtomicObjectStore()
    say(records_on(store), 1)
    key = record_key(STREAM, 2)
    store.objects[key] = bytes(17 << 20)
    get = store.get
    monkeypatch.setattr(store, "get", lambda it: get(it) if it != key else pytest.fail("was read"))
    say(records_on(store), 2)
    *_, named, _ = records_on(store).read(STREAM)
    assert named.body["objects"][0]["sha256"] == ""


class Folder:
    """The files of a sealed incident."""

    def __init__(self, store: AtomicObjectStore) -> None:
        self.files = {key.removeprefix(f"{STREAM}/"): it for key, it in store.objects.items()}

    def names(self) -> list[str]:
        return list(self.files)

    def read(self, name: str) -> Any:
        yield self.files[name]


def test_the_incident_is_sealed_and_a_verification_names_it_and_nothing_else() -> None:
    store = AtomicObjectStore()
    say(records := records_on(store), 1, 2)
    store.objects[record_key(STREAM, 3)] = b"junk"
    store.objects[f"{STREAM}/records/notes.txt"] = b"mine"
    say(records, 3)
    seal(
        STREAM, store=store, records=records_on(store), signer=KeySigner(), tool="leeward 0.1.0",
        now=START + timedelta(days=1),
    )  # fmt: skip
    verdict = verify_evidence(Folder(store))  # type: ignore[arg-type]
    assert not verdict.ok
    found = {(it.code, it.where) for it in verdict.findings}
    assert found == {
        ("not-a-record", "records/000003.json"), ("not-a-record", "records/notes.txt")
    }  # fmt: skip
    store.objects[record_key(STREAM, 3)] = b"other"
    altered = {(it.code, it.where) for it in verify_evidence(Folder(store)).findings}  # type: ignore[arg-type]
    assert ("file-altered", "records/000003.json") in altered
