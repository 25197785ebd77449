"""What takes each key back to a moment, decided from its versions and markers alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.ports.buckets import VersionRow
from chalicelib.recover.bucket.undo import KeyUndo, UndoRules, decide_undo
from tests.fakes_versions import second

T = 10
LATER = 20


def history(*entries: str, key: str = "k") -> list[VersionRow]:
    """Rows of one key, the newest first: "v5" a version of second 5, "m7" a delete marker."""
    rows = []
    for number, entry in enumerate(entries):
        kind, at = entry[0], second(int(entry[1:]))
        name = f"{entry}#{number}"
        latest = number == 0
        if kind == "m":
            rows.append(VersionRow(key, name, latest, True, at))
        else:
            rows.append(VersionRow(key, name, latest, False, at, 100 + number, name, "STANDARD"))
    return rows


def decide(*entries: str, **rules: bool) -> KeyUndo:
    [undo] = decide_undo(history(*entries), UndoRules(second(T), **rules))
    return undo


CASES = {
    "unchanged": (["v5"], "leave", "unchanged"),
    "an older version below": (["v5", "v2"], "leave", "unchanged"),
    "deleted before": (["m5", "v2"], "leave", "unchanged"),
    "created since": (["v15"], "put-marker", "created-since"),
    "created and deleted since": (["m16", "v15"], "leave", "absent-both"),
    "deleted since": (["m15", "v5"], "remove-markers", "deleted-since"),
    "deleted twice since": (["m16", "m15", "v5"], "remove-markers", "deleted-since"),
    "overwritten since": (["v15", "v5"], "copy", "overwritten-since"),
    "overwritten and deleted since": (["m16", "v15", "v5"], "copy", "deleted-since"),
    "deleted and created again since": (["v16", "m15", "v5"], "copy", "overwritten-since"),
    "deleted before, created again since": (["v15", "m5", "v2"], "put-marker", "recreated-since"),
    "deleted before, and again since": (["m16", "v15", "m5", "v2"], "leave", "absent-both"),
    "deleted before and marked again": (["m16", "m5", "v2"], "leave", "absent-both"),
    "the moment itself counts": (["v15", "v10", "v5"], "copy", "overwritten-since"),
    "put and deleted in the second": (["m10", "v10"], "leave", "unchanged"),
    "deleted and put in the second": (["v15", "v10", "m10"], "copy", "overwritten-since"),
    "put and deleted in one later second": (["m15", "v15", "v5"], "copy", "deleted-since"),
    "deleted and put in one later second": (["v15", "m15"], "put-marker", "created-since"),
}


@pytest.mark.parametrize(("entries", "action", "why"), CASES.values(), ids=CASES.keys())
def test_every_course_of_a_key(entries: list[str], action: str, why: str) -> None:
    undo = decide(*entries)
    assert (undo.action, undo.why) == (action, why)


def test_the_version_that_is_copied_is_the_newest_of_the_moment() -> None:
    undo = decide("m16", "v15", "v9", "v5")
    assert undo.history.wanted
    assert undo.history.wanted.version_id == "v9#2"


def test_all_markers_above_are_removed_and_no_other() -> None:
    assert decide("m16", "m15", "v5", "m4", "v2").history.markers == ("m16#0", "m15#1")


def test_markers_can_stay_in_the_history() -> None:
    undo = decide("m16", "m15", "v5", remove_markers=False)
    assert (undo.action, undo.why) == ("copy", "deleted-since")


def test_an_object_of_the_same_size_is_compared_before_it_is_copied() -> None:
    rows = history("v15", "v5")
    rows = [row._replace(size_bytes=7) for row in rows]
    [undo] = decide_undo(rows, UndoRules(second(T)))
    assert (undo.action, undo.why) == ("compare", "same-size")


def test_what_lies_in_an_archive_is_told_apart() -> None:
    rows = history("v15", "v5")
    rows[1] = rows[1]._replace(storage_class="DEEP_ARCHIVE")
    assert [it.action for it in decide_undo(rows, UndoRules(second(T)))] == ["thaw"]
    rows[0] = history("m15")[0]
    assert [it.action for it in decide_undo(rows, UndoRules(second(T)))] == ["remove-markers"]


def test_a_null_version_since_hides_what_it_replaced() -> None:
    rows = history("v15", "v5")
    rows[0] = rows[0]._replace(version_id="null")
    [undo] = decide_undo(rows, UndoRules(second(T)))
    assert (undo.action, undo.why) == ("unknown", "null-version")
    [undo] = decide_undo(rows, UndoRules(second(T), accept_gaps=True))
    assert undo.action == "copy"


def test_a_null_version_of_before_hides_nothing() -> None:
    rows = history("v15", "v5")
    rows[1] = rows[1]._replace(version_id="null")
    assert [it.action for it in decide_undo(rows, UndoRules(second(T)))] == ["copy"]


@pytest.mark.parametrize("entries", [["v5", "v15"], ["v15", "v3", "m5"]])
def test_times_that_do_not_fit_the_order_are_not_trusted(entries: list[str]) -> None:
    assert decide(*entries).why == "out-of-order"


def test_a_listing_that_does_not_begin_with_the_newest_is_not_trusted() -> None:
    assert [it.why for it in decide_undo(history("v15", "v5")[1:], UndoRules(second(T)))] == [
        "out-of-order"
    ]


def test_changes_within_the_second_of_the_moment_are_noted() -> None:
    rules = UndoRules(second(T) + timedelta(milliseconds=400))
    [undo] = decide_undo(history("m15", "v10", "v5"), rules)
    assert undo.history.notes == ("same-second",)
    assert undo.history.wanted
    assert undo.history.wanted.version_id == "v10#1"
    assert decide("m15", "v9").history.notes == ()
    end = UndoRules(second(T) + timedelta(microseconds=999_999))
    [undo] = decide_undo(history("m15", "v10"), end)
    assert undo.history.notes == ()


def test_an_upload_in_parts_that_may_have_ended_later_is_noted() -> None:
    rows = [row._replace(etag="abc-3") for row in history("v5")]
    assert next(decide_undo(rows, UndoRules(second(T)))).history.notes == ("sent-in-parts",)
    assert next(decide_undo(rows, UndoRules(second(4000)))).history.notes == ()


def test_keys_are_told_apart() -> None:
    rows = [*history("m15", "v5", key="a"), *history("v15", key="a/b"), *history("v5", key="b")]
    undos = {undo.key: undo.action for undo in decide_undo(rows, UndoRules(second(T)))}
    assert undos == {"a": "remove-markers", "a/b": "put-marker", "b": "leave"}
    assert list(decide_undo([], UndoRules(second(T)))) == []


def test_memory_does_not_grow_with_the_rows() -> None:
    def rows() -> Iterator[VersionRow]:
        for number in range(50_000):
            yield from history("m15", "v5", key=f"{number:06}")

    decided = decide_undo(rows(), UndoRules(second(T)))
    assert next(decided).key == "000000"
    assert sum(1 for _ in decided) == 49_999


courses = st.lists(st.tuples(st.sampled_from("vm"), st.integers(0, LATER)), min_size=1, max_size=8)


@given(courses)
def test_what_is_decided_makes_the_key_what_it_was(course: list[tuple[str, int]]) -> None:
    """Against the plain reading of S3: the last change of the moment is what readers got."""
    changes = sorted(course, key=lambda it: it[1])
    rows = history(*(f"{kind}{at}" for kind, at in reversed(changes)))
    [undo] = decide_undo(rows, UndoRules(second(T)))
    was = [row for row in reversed(rows) if row.modified_at <= second(T)]
    then = None if not was or was[-1].is_marker else was[-1].version_id
    assert after(undo, rows) == then


def after(undo: KeyUndo, rows: list[VersionRow]) -> str | None:
    """The version whose bytes readers get when the decision is carried out."""
    if undo.action == "copy":
        assert undo.history.wanted
        return undo.history.wanted.version_id
    left = [row for row in rows if row.version_id not in undo.history.markers]
    if undo.action == "remove-markers":
        assert all(row.is_marker for row in rows if row not in left)
        return left[0].version_id
    assert undo.action in ("leave", "put-marker")
    if undo.action == "put-marker" or rows[0].is_marker:
        return None
    return rows[0].version_id
