"""`leeward signs show`: a judgement is worth what the look could see, and when it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chalicelib.plan.signs import Judgement
from chalicelib.services import build
from chalicelib.verify.signs.profile import Profile
from leeward.commands import signs
from tests.fakes_state import InMemoryState, ManualClock

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
CLEAN = Judgement(False, 0.0, None, "no sign")
PLAN = Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml"


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> InMemoryState:
    made = InMemoryState()

    @contextmanager
    def bucket(component: str, plan_path: Path) -> Iterator[str]:
        yield "files"

    monkeypatch.setattr(signs, "_bucket", bucket)
    monkeypatch.setattr(build, "state", lambda: made)
    monkeypatch.setattr(build, "clock", lambda: ManualClock(NOW))
    return made


def show(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(signs.command, ["show", "uploads", "--plan", str(PLAN), *words])
    return done.exit_code, done.output


def keep(state: InMemoryState, **more: Any) -> None:
    looked = Profile(NOW - timedelta(days=30), NOW - timedelta(minutes=4), verdict=CLEAN)
    state.create("signs#files", "profile", replace(looked, **more).to_json())


def test_a_bucket_is_green_when_a_look_of_late_saw_all_and_found_nothing(
    state: InMemoryState,
) -> None:
    assert show()[0] == 1, "nobody has looked"
    keep(state)
    status, told = show()
    assert (status, "looked at 2026-03-02 08:56:00 UTC" in told) == (0, True)


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"blind": ("canaries: none is planted",)}, 3),
        ({"looked_at": NOW - timedelta(minutes=61)}, 3),
        ({"verdict": replace(CLEAN, infected=True)}, 1),
        ({"verdict": None}, 1),
    ],
)
def test_what_was_not_seen_is_no_green(
    state: InMemoryState, more: dict[str, Any], status: int
) -> None:
    keep(state, **more)
    found, told = show("--format", "json")
    assert found == show()[0] == status
    assert json.loads(told)["blind"] == list(more.get("blind", ()))
    for one in more.get("blind", ()):
        assert f"not seen: {one}" in show()[1]
