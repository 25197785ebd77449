"""What a person sees of a check: the verdict, what is wrong, and what nobody could look at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from chalicelib.verify.copies.check_run import CheckProgress
from chalicelib.verify.copies.findings import Finding, Unreached
from chalicelib.verify.copies.integrity import CheckResult
from chalicelib.verify.copies.locations import Comparison, Difference, PointCopies
from chalicelib.verify.copies.repair import RepairAction
from chalicelib.verify.copies.repair_run import Repaired, RepairResult
from leeward.verify_report import CheckBar, show_checks, show_comparison, show_repair

AT = datetime(2026, 11, 22, 8, tzinfo=UTC)


def checked(**changes: Any) -> CheckResult:
    sound: dict[str, Any] = {
        "location": "primary", "component": "db", "checked_at": AT, "seconds": 1.0, "points": 3,
        "objects": 1200, "total_bytes": 5_400_000_000, "looked": 1200, "read": 10,
        "read_bytes": 250_000_000, "needed_bytes": 1, "budget_bytes": 300_000_000,
        "oldest_unread_at": AT - timedelta(days=6, hours=1), "findings": (), "unreached": (),
    }  # fmt: skip
    return CheckResult(**{**sound, **changes})


def shown(show: Any, *what: Any) -> str:
    console = Console(width=120, force_terminal=False)
    with console.capture() as caught:
        show(console, *what)
    return caught.get()


def test_a_sound_location_is_one_line() -> None:
    lines = shown(show_checks, [checked()]).splitlines()
    assert [line for line in lines if line.strip()] == lines[:2]
    assert lines[1].split() == [
        "db", "primary", "ok", "3", "1,200", "5.4", "GB", "250.0", "MB", "6", "d",
        "1", "h",
    ]  # fmt: skip


def test_every_finding_and_everything_unreached_is_named() -> None:
    finding = Finding("damaged", "points/p1/a", "p1", "sha-256 aa", "sha-256 bb")
    unreached = Unreached("points/p1/b", "deadline", "its turn did not come")
    told = shown(
        show_checks,
        [checked(findings=(finding,), unreached=(unreached,), looked=1199, needed_bytes=400_000_000,
                 quarantined=("p0",))],
    )  # fmt: skip
    for words in (
        "NOT OK", "1,199/1,200", "damaged", "points/p1/a", "sha-256 bb", "deadline",
        "points/p1/b", "its turn did not come", "400.0 MB would", "1 point in quarantine", "p0",
    ):  # fmt: skip
        assert words in told


def test_what_cannot_be_trusted_cannot_move_the_cursor() -> None:
    finding = Finding("extra", "wal/\x1b[2J[bold]pay", "", "nothing", "3 bytes")
    told = shown(show_checks, [checked(findings=(finding,))])
    assert "\x1b" not in told
    assert "\\x1b[2J[bold]pay" in told


def test_too_many_findings_say_how_many_more_there_are() -> None:
    many = tuple(Finding("extra", f"wal/{n}", "", "nothing", "1 bytes") for n in range(60))
    assert "and 10 findings more" in shown(show_checks, [checked(findings=many)])


def test_a_comparison_names_what_is_equal_and_what_is_not() -> None:
    difference = Difference("absent", "azure", "points/p2/manifest.json", "no manifest")
    comparison = Comparison(
        ("primary", "azure"),
        (
            PointCopies("p1", "ab" * 32, ("primary", "azure"), ()),
            PointCopies("p2", "cd" * 32, ("primary",), (difference,)),
        ),
        (),
    )
    told = shown(show_comparison, comparison)
    assert "primary, azure" in told
    assert "absent" in told
    assert "points/p2/manifest.json" in told
    assert not comparison.equal


def test_a_repair_tells_what_became_of_each_finding() -> None:
    action = RepairAction("copy", "primary", "points/p1/a", "p1", "damaged here", ("gcs",), "aa")
    told = shown(show_repair, RepairResult((Repaired(action, "copied", "from gcs"),)))
    assert "copied" in told
    assert "primary: points/p1/a" in told
    assert "from gcs" in told


def test_the_bar_is_silent_where_nobody_watches() -> None:
    console = Console(force_terminal=False)
    with console.capture() as caught, CheckBar(console) as bar:
        bar.tell(CheckProgress(1, 2, 0, 0))
        bar.tell(CheckProgress(2, 2, 10, 20))
    assert caught.get().strip() == ""
