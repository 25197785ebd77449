"""A communication drill: who answered in time, who did not, and what was not taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chalicelib.incidents.communication import CommunicationScore, score_communication

BEGAN = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PEOPLE = ("cto", "dba")


def score(*acks: tuple[str, float], after: float, told: int = 2, untold: tuple[str, ...] = ()):
    return score_communication(
        PEOPLE,
        [(person, BEGAN + timedelta(minutes=minutes)) for person, minutes in acks],
        told=told,
        untold=untold,
        began_at=BEGAN,
        within=HOUR,
        now=BEGAN + timedelta(minutes=after),
    )


def test_everybody_in_time_is_green_and_the_slowest_counts() -> None:
    found: CommunicationScore = score(("dba", 9), ("cto", 4), ("dba", 2), after=15)
    assert (found.over, found.shortfalls) == (True, ())
    assert found.slowest_seconds == 240


def test_it_waits_for_who_is_silent_and_then_names_them() -> None:
    assert not score(("cto", 4), after=59).over
    found = score(("cto", 4), ("dba", 61), after=61)
    assert (found.over, found.silent, found.slowest_seconds) == (True, ("dba",), None)
    assert found.shortfalls == ("dba did not acknowledge within 1:00:00",)


def test_a_message_that_nobody_took_is_not_green_however_many_answer() -> None:
    answers = (("cto", 1), ("dba", 1))
    assert score(*answers, after=61, untold=("slack",)).shortfalls == (
        "a message to slack was not taken",
    )
    assert score(*answers, after=61, told=0).shortfalls == ("no message was taken by anybody",)


def test_nobody_to_answer_is_not_green() -> None:
    found = score_communication(
        (), [], told=1, untold=(), began_at=BEGAN, within=HOUR, now=BEGAN + HOUR
    )
    assert found.shortfalls == ("the plan names nobody who could answer",)
