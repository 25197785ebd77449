"""What a person sees of a drill: a line for everything that any scenario's stage says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from leeward.commands.drill import Screen
from leeward.local.drill import Told

STAGES = Path(__file__).parents[2] / "leeward" / "local"
SAID = re.compile(r"\.say\(\s*\"([a-z-]+)\"")
KINDS = sorted({kind for path in STAGES.rglob("*.py") for kind in SAID.findall(path.read_text())})


def test_stages_say_things() -> None:
    assert {"damage", "notice", "account", "failover"} <= set(KINDS)


@pytest.mark.parametrize("kind", [*KINDS, "person"])
def test_each_kind_has_its_line(kind: str) -> None:
    console = Console(file=io.StringIO(), width=100)
    screen = Screen(console)
    screen.tell(Told(kind, "what happened", 0.1))
    screen.close()
    assert isinstance(console.file, io.StringIO)
    [line] = [it for it in console.file.getvalue().splitlines() if "what happened" in it]
    assert kind in line.lower()
