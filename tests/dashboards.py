"""A corrupted database whose recovery waits for a person: the stage of the browser's tests."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pyotp
import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.incidents.tokens import TokenDesk, issue_link
from chalicelib.plan.model import Plan
from leeward.cli import main
from leeward.local.drill import DrillOptions
from leeward.local.stages.database import DatabaseDrill
from leeward.plan_file import load_plan

ROOT = Path(__file__).parents[1]
PLAN = ROOT / "policies" / "plans" / "nexus-studio.yaml"
SCENARIO, COMPONENT = "database-corruption", "nexus-db"
PERSON, OTHER = "cto", "security-lead"
HOSTILE = "<img src=x onerror=alert(1)>"


def plan_with_an_approval() -> Plan:
    """Nexus Studio's, whose restore waits for one of two people."""
    data = load_plan(PLAN).plan.to_json()
    data["roles"]["incident-commander"]["held_by"] = [PERSON, OTHER]
    data["escalation"] = [{"who": "CTO", "contact": PERSON, "after": 3600}]
    data["scenarios"] = {SCENARIO: data["scenarios"][SCENARIO]}
    steps = data["scenarios"][SCENARIO]["steps"]
    [restore] = [it for it in steps if it["name"] == "restore"]
    restore["says"] = f"Restore from latest clean backup {HOSTILE}".strip()
    restore["approve"] = {
        "by": ["incident-commander"], "count": 1, "within": 900, "otherwise": "stop",
    }  # fmt: skip
    named = [it for it in data["testing"] if SCENARIO in it.get("scenarios", ())]
    data["testing"] = [it | {"scenarios": [SCENARIO]} for it in named]
    data["verification"] = [it for it in data["verification"] if not it.get("scenarios")]
    return Plan.from_json(data)


class AttendedDrill(DatabaseDrill):
    """Nobody answers but whoever the test sends."""

    def answer(self, asked: Any) -> None:
        pass


@dataclass
class Desk:
    """The stage, set; people with devices, and where their pages are."""

    drill: AttendedDrill
    url: str
    devices: dict[str, str] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def link(self, person: str = PERSON) -> str:
        """Where the person signs in, once."""
        secret, _ = issue_link(person, desk=TokenDesk(self.drill.state(), None, SystemClock()))  # type: ignore[arg-type]
        return f"{self.url}sign-in?link={secret}"

    def enrol(self, person: str) -> None:
        said = io.StringIO()
        command = ["people", "enrol", person, "--plan", str(PLAN), "--stack", "primary"]
        with redirect_stdout(said), pytest.raises(SystemExit):
            main([*command, "--format", "json"])
        self.devices[person] = pyotp.parse_uri(json.loads(said.getvalue())["address"]).secret

    def code(self, person: str = PERSON) -> str:
        """A code that was not used before: of this half minute, or of the next one."""
        at = max(int(time.time()) // 30, self.used.get(person, -1) + 1)
        self.used[person] = at
        return pyotp.TOTP(self.devices[person]).generate_otp(at)


@contextmanager
def set_desk(out: Path) -> Iterator[Desk]:
    options = DrillOptions(SCENARIO, COMPONENT, "update-without-where", out, projects=2000)
    drill = AttendedDrill(plan_with_an_approval(), options, lambda _told: None)
    before = dict(os.environ)
    with ExitStack() as stack:
        drill.set_stage(stack)
        os.environ |= drill.cloud.environment()
        boto3.DEFAULT_SESSION = None
        try:
            desk = Desk(drill, drill.cloud.apis["leeward-RestAPI"])
            desk.enrol(PERSON)
            yield desk
        finally:
            os.environ.clear()
            os.environ |= before
            boto3.DEFAULT_SESSION = None
