"""The hash chain: one order, nothing doubled, no change unseen, no secret in it."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import BadInput, Tampered, Unavailable
from chalicelib.evidence.chain import (
    decode_record,
    encode_record,
    next_record,
    record_digest,
    verify_chain,
)
from chalicelib.evidence.records import StoredRecords
from chalicelib.plan.records import StoredObject
from chalicelib.ports import Listed
from tests.fakes_records import (
    START,
    AtomicObjectStore,
    InMemoryRecords,
    LosesAnswers,
    SteppingClock,
)

STREAM = "inc-20261122T084500Z-nexus-db"


def make_chain(length: int = 5) -> list:
    chain: list = []
    for number in range(length):
        chain.append(
            next_record(
                STREAM,
                chain[-1] if chain else None,
                "decision",
                {"what": f"choice {number}"},
                at=START,
                actor="leeward",
            )
        )
    return chain


def codes(chain: list, stream: str = STREAM) -> set[str]:
    return {finding.code for finding in verify_chain(stream, chain)}


def test_whole_chain_has_no_findings():
    assert verify_chain(STREAM, make_chain()) == []
    assert verify_chain(STREAM, []) == []


def test_each_record_is_stored_in_one_byte_form():
    for record in make_chain():
        assert decode_record(encode_record(record), where="x") == record


def test_chain_of_another_incident_is_refused():
    assert "chain-broken" in codes(make_chain(), stream="inc-other")


def test_removed_record_breaks_the_chain():
    chain = make_chain()
    del chain[2]
    assert codes(chain) == {"record-misplaced", "chain-broken"}


def test_exchanged_records_break_the_chain():
    chain = make_chain()
    chain[1], chain[2] = chain[2], chain[1]
    assert codes(chain) >= {"record-misplaced", "chain-broken"}


def test_renumbered_record_no_longer_matches_its_digest():
    chain = make_chain()
    chain[2] = dataclasses.replace(chain[2], seq=9)
    assert "record-altered" in codes(chain)


def test_rewritten_record_with_its_own_new_digest_breaks_the_next_link():
    chain = make_chain()
    forged = dataclasses.replace(chain[2], body={"what": "something else"})
    chain[2] = dataclasses.replace(forged, digest=record_digest(forged))
    assert codes(chain) == {"chain-broken"}


def test_record_written_twice_is_found():
    chain = make_chain(2)
    chain.append(
        next_record(STREAM, chain[-1], "x", {}, at=START, actor="leeward", key=chain[0].key)
    )
    assert codes(chain) == {"record-doubled"}


@settings(deadline=None)
@given(st.data())
def test_no_byte_of_a_stored_record_can_change(data):
    stored = encode_record(make_chain(3)[-1])
    position = data.draw(st.integers(0, len(stored) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != stored[position]))
    changed = stored[:position] + bytes([byte]) + stored[position + 1 :]
    with pytest.raises(Tampered):
        decode_record(changed, where="record")


@pytest.mark.parametrize(
    "data", [b"", b"null\n", b"[]\n", b"{}\n", b'{"seq":1}\n', b"[" * 100_000, b"\xff\n"]
)
def test_what_is_no_record_is_refused(data):
    with pytest.raises(Tampered) as caught:
        decode_record(data, where="records/000001.json")
    assert caught.value.instance_code == "not-a-record"
    assert "records/000001.json" in caught.value.message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seq":1', b'"seq": 1'),
        (b'"seq":1', b'"seq":true'),
        (b'"seq":1', b'"seq":0,"seq":1'),
        (b'"step":""', b'"more":1,"step":""'),
        (b"00.000000Z", b"00.000000+00:00"),
        (b"choice", b"\\u0063hoice"),
        (b"\n", b""),
    ],
)
def test_record_has_no_second_spelling(old, new):
    (record,) = make_chain(1)
    stored = encode_record(record)
    assert old in stored
    with pytest.raises(Tampered) as caught:
        decode_record(stored.replace(old, new), where="record")
    assert caught.value.instance_code == "not-a-record"


def test_appended_records_are_read_back_in_order():
    records = InMemoryRecords()
    written = [records.append(STREAM, "decision", {"n": n}, actor="leeward") for n in range(4)]
    assert StoredRecords(records.store, SteppingClock()).read(STREAM) == written
    assert [record.seq for record in written] == [1, 2, 3, 4]
    assert sorted(records.objects)[0] == f"{STREAM}/records/000001.json"


def test_streams_do_not_mix():
    records = InMemoryRecords()
    records.append(STREAM, "decision", {}, actor="leeward")
    records.append(STREAM + "-2", "decision", {}, actor="leeward")
    assert len(records.read(STREAM)) == 1


def test_delivered_twice_is_recorded_once():
    records = InMemoryRecords()
    say = {"actor": "leeward", "run_id": "run-1", "step": "restore"}
    first = records.append(STREAM, "step-finished", {"seconds": 1.5}, **say)
    other_worker = StoredRecords(records.store, SteppingClock())
    assert other_worker.append(STREAM, "step-finished", {"seconds": 1.5}, **say) == first
    assert other_worker.append(STREAM, "step-finished", {"seconds": 2.5}, **say).seq == 2


def test_key_decides_what_is_the_same():
    records = InMemoryRecords()
    first = records.append(STREAM, "run-started", {"execution": "a"}, actor="x", key="run-1")
    assert (
        records.append(STREAM, "run-started", {"execution": "b"}, actor="x", key="run-1") == first
    )
    assert len(records.read(STREAM)) == 1


def test_write_whose_answer_was_lost_is_recognised():
    store = LosesAnswers(losses=1)
    records = StoredRecords(store, SteppingClock())
    with pytest.raises(Unavailable):
        records.append(STREAM, "decision", {"n": 1}, actor="leeward")
    assert records.append(STREAM, "decision", {"n": 1}, actor="leeward").seq == 1
    assert records.append(STREAM, "decision", {"n": 2}, actor="leeward").seq == 2
    assert len(records.read(STREAM)) == 2


def test_concurrent_appenders_make_one_chain():
    store = AtomicObjectStore()
    together = threading.Barrier(8)

    def append(worker: int) -> None:
        records = StoredRecords(store, SteppingClock())
        together.wait()
        for number in range(5):
            records.append(STREAM, "decision", {"worker": worker, "n": number}, actor="leeward")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(8)))
    chain = StoredRecords(store, SteppingClock()).read(STREAM)
    assert verify_chain(STREAM, chain) == []
    said = [(record.body["worker"], record.body["n"]) for record in chain]
    assert sorted(said) == [(worker, n) for worker in range(8) for n in range(5)]
    for worker in range(8):
        assert [n for w, n in said if w == worker] == [0, 1, 2, 3, 4]


def test_missing_record_is_named_by_whoever_reads_and_silences_nobody():
    records = InMemoryRecords()
    for number in range(4):
        records.append(STREAM, "decision", {"n": number}, actor="leeward")
    del records.objects[f"{STREAM}/records/000002.json"]
    fresh = StoredRecords(records.store, SteppingClock())
    with pytest.raises(Tampered, match="000003"):
        fresh.read(STREAM)
    fresh.append(STREAM, "decision", {"n": 9}, actor="leeward")
    with pytest.raises(Tampered):
        fresh.read(STREAM)


def test_chain_cut_off_behind_the_reader_is_noticed():
    records = InMemoryRecords()
    for number in range(3):
        records.append(STREAM, "decision", {"n": number}, actor="leeward")
    del records.objects[f"{STREAM}/records/000003.json"]
    with pytest.raises(Tampered, match="2 of 3"):
        records.read(STREAM)


def test_altered_record_is_named():
    records = InMemoryRecords()
    records.append(STREAM, "decision", {"what": "restore A"}, actor="leeward")
    key = f"{STREAM}/records/000001.json"
    records.objects[key] = records.objects[key].replace(b"restore A", b"restore B")
    with pytest.raises(Tampered, match="000001") as caught:
        StoredRecords(records.store, SteppingClock()).read(STREAM)
    assert caught.value.instance_code == "record-altered"


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": {1, 2}}, {1: "x"}, {"x": START}])
def test_body_must_be_json(body):
    records = InMemoryRecords()
    with pytest.raises(BadInput):
        records.append(STREAM, "decision", body, actor="leeward")
    assert records.objects == {}


def test_text_that_utf8_cannot_hold_is_written_out():
    records = InMemoryRecords()
    record = records.append(STREAM, "decision", {"what": "file \udcff"}, actor="leeward")
    assert record.body == {"what": "file \\udcff"}


class AskedStore(AtomicObjectStore):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get(self, key: str) -> bytes:
        self.asked.append(f"get {key[-11:]}")
        return super().get(key)

    def list(self, prefix: str = "") -> Iterator[Listed]:
        self.asked.append("list")
        return super().list(prefix)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        self.asked.append(f"put {key[-11:]}")
        return super().put(key, data, if_absent=if_absent)


def marked(store: AtomicObjectStore, length: int) -> dict[str, Any]:
    """The mark of a worker that has appended so many records, as it comes back from the state."""
    records = StoredRecords(store, SteppingClock())
    for number in range(length):
        records.append(STREAM, "decision", {"n": number}, actor="leeward", key=f"key {number}")
    return dict(json.loads(json.dumps(records.mark(STREAM))))


def resumed(store: AtomicObjectStore, mark: dict[str, Any]) -> StoredRecords:
    records = StoredRecords(store, SteppingClock())
    records.resume(STREAM, mark)
    return records


def test_who_is_told_where_another_stood_appends_with_one_request():
    store = AskedStore()
    records = resumed(store, marked(store, 20))
    store.asked.clear()
    assert records.append(STREAM, "decision", {"n": 20}, actor="leeward").seq == 21
    assert store.asked == ["put 000021.json"]
    assert verify_chain(STREAM, records.read(STREAM)) == []


def test_what_was_said_before_the_mark_is_not_said_again():
    store = AskedStore()
    records = resumed(store, marked(store, 5))
    store.asked.clear()
    again = records.append(STREAM, "decision", {"n": 99}, actor="leeward", key="key 2")
    assert (again.seq, again.body, store.asked) == (3, {"n": 2}, ["get 000003.json"])


def test_what_others_said_after_the_mark_is_read_and_linked():
    store = AskedStore()
    mark = marked(store, 5)
    resumed(store, mark).append(STREAM, "decision", {"n": 5}, actor="leeward", key="key 5")
    records = resumed(store, mark)
    store.asked.clear()
    assert records.append(STREAM, "decision", {"n": 99}, actor="leeward", key="key 5").seq == 6
    assert records.append(STREAM, "decision", {"n": 6}, actor="leeward").seq == 7
    assert store.asked == ["put 000006.json", "list", "get 000006.json", "put 000007.json"]
    assert verify_chain(STREAM, StoredRecords(store, SteppingClock()).read(STREAM)) == []


def test_a_mark_that_is_older_than_what_is_known_changes_nothing():
    store = AskedStore()
    mark = marked(store, 2)
    records = StoredRecords(store, SteppingClock())
    records.append(STREAM, "decision", {"n": 2}, actor="leeward")
    records.resume(STREAM, mark)
    assert records.append(STREAM, "decision", {"n": 3}, actor="leeward").seq == 4


def test_whoever_reads_checks_what_lies_before_the_mark_as_well():
    store = AskedStore()
    mark = marked(store, 3)
    key = f"{STREAM}/records/000002.json"
    store.objects[key] = store.objects[key].replace(b'"n":1', b'"n":7')
    with pytest.raises(Tampered, match="000002"):
        resumed(store, mark).read(STREAM)


def test_a_forged_mark_breaks_the_chain_and_is_found():
    store = AskedStore()
    records = resumed(store, marked(store, 3) | {"digest": "0" * 64})
    records.append(STREAM, "decision", {"n": 3}, actor="leeward")
    with pytest.raises(Tampered, match="does not follow record 3"):
        records.read(STREAM)
