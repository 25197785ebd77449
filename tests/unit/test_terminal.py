"""What an attacker named is shown on a terminal as what it is, and moves nothing there."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from chalicelib.errors import Unavailable
from chalicelib.evidence.text import printable_lines
from chalicelib.plan.records import PointStanding, RecoveryPoint
from chalicelib.plan.signs import Judgement, Sign
from chalicelib.ports import Holdings
from chalicelib.recover.choose_copy import Candidate
from chalicelib.verify.ransomware import LastLook
from leeward.cli import show_error
from leeward.commands import catalogue, signs
from leeward.console import Console

AT = datetime(2026, 11, 22, 8, 45, tzinfo=UTC)
# Clears the screen, goes to its corner, and says that all is well; then what turns a line round,
# one-byte forms of the same, and what a title or a link of the terminal is set by.
HOSTILE = (
    "a.txt\x1b[2J\x1b[H\x1b[32mnot infected\x1b[0m\r\x9b2J\u202e\x1b]0;x\x07\x1b]8;;http://x\x1b\\"
)
# Markup of rich's own; without a tag that it closes, rich raises.
MARKUP = "[green]ok[/green] [/bold]"


def on_terminal(*things: Any, width: int = 200) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system=None, width=width)
    for it in things:
        console.print(it)
    return file.getvalue()


def hostile_table() -> Table:
    table = Table("name", box=None)
    table.add_row(Text(HOSTILE))
    return table


@pytest.mark.parametrize("thing", [HOSTILE, Text(HOSTILE), hostile_table()])
@pytest.mark.parametrize("width", [200, 20])
def test_a_name_is_shown_as_what_it_is(thing: Any, width: int) -> None:
    shown = on_terminal(thing, width=width)
    assert all(it.isprintable() or it == "\n" for it in shown)
    assert r"a.txt\x1b[2J" in on_terminal(thing)


def test_what_rich_itself_does_to_a_terminal_stays() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="standard", width=80)
    console.print("[bold red]INFECTED[/]")
    with console.status("looking"):
        pass
    said = file.getvalue()
    assert "\x1b[1;31mINFECTED\x1b[0m\n" in said
    assert "\x1b[?25h" in said  # the cursor, hidden for the time of the status, is back


def test_lines_stay_and_a_tab_is_spaces() -> None:
    assert printable_lines("a\tb\n\x1b[2Jc") == "a       b\n\\x1b[2Jc"


def test_an_error_shows_names_and_words_of_others_as_what_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = Unavailable(f"no {HOSTILE}", hint=f"look at {HOSTILE}", log=f"one\n{HOSTILE}")
    show_error(error, as_json=False)
    said = capsys.readouterr().err
    assert all(it.isprintable() or it == "\n" for it in said)
    assert r"\x1b[2J" in said


def test_nobody_infects_a_bucket_and_has_it_shown_as_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    found = f"{HOSTILE} has the words of a ransom note"
    sign = Sign("ransom-note", "names", 0.9, HOSTILE, AT, found, {})
    judged = Judgement(True, 0.9, AT, "a note", (sign,))
    signs._print("uploads", LastLook(judged, AT, (f"canary {HOSTILE}: it may not be read",)))
    said = capsys.readouterr().out
    assert "INFECTED" in said
    assert "\x1b[2J" not in said
    assert r"\x1b[2J" in said


def test_brackets_in_names_and_messages_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    point = RecoveryPoint(
        id=MARKUP, component="db", kind="dump", taken_at=AT, finished_at=AT, objects=(),
        source_bytes=0, encryption="",
    )  # fmt: skip
    held = Holdings((PointStanding(point=point),), ())
    silent = Candidate("far", 1, error=Unavailable(MARKUP))
    catalogue._print((Candidate("near", 0, held), silent))
    said = capsys.readouterr().out
    assert said.count("[/bold]") == 2
