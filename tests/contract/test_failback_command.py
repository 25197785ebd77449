"""`leeward failback`: what it refuses before anything is asked of AWS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import NEXUS, run

SOUND = Path(__file__).parents[2] / "docs/sound-plan.yaml"


@pytest.mark.parametrize(
    ("plan", "words", "code"),
    [
        (NEXUS, ("--reason", "sound", "--window", "tonight"), "bad-window"),
        (NEXUS, ("--reason", " "), "no-reason"),
        (SOUND, ("--reason", "sound"), "no-failback"),
    ],
)
def test_what_cannot_be_used_is_said_with_a_way_out(
    plan: Path, words: tuple[str, ...], code: str
) -> None:
    done = run("failback", "--plan", plan, *words)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ERROR [{code}]: ")
    assert "\nHINT: " in done.stderr
    assert done.stdout == ""


def test_a_window_that_is_over_is_refused() -> None:
    window = "2020-11-29T02:00Z/2020-11-29T04:00Z"
    done = run("failback", "--plan", NEXUS, "--reason", "sound", "--window", window)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR [window-over]: ")
