"""Drills for tests: small, quick, and with somebody who listens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from leeward.commands.drill import load_runnable
from leeward.local.drill import Drill, DrillOptions, DrillResult, Told

PLAN = Path(__file__).parents[2] / "policies" / "plans" / "nexus-studio.yaml"
SCENARIO = "database-corruption"


def make_drill(out: Path, damage: str, tell: Callable[[Told], None] = lambda told: None) -> Drill:
    plan, stage = load_runnable(PLAN, SCENARIO)
    options = DrillOptions(SCENARIO, "nexus-db", damage, out, projects=2000, rate=30)
    return stage(plan, options, tell)


def run_drill(out: Path, damage: str) -> tuple[DrillResult, list[Told]]:
    heard: list[Told] = []
    return make_drill(out, damage, heard.append).run(), heard


# What no run of Nexus's plan brings back when its primary region is lost.
LOST_FOR_GOOD = (
    "nexus-uploads: no copy outside the lost region: every one is in primary (us-east-1)",
)
PARTIAL = ["the run ended as partial", *(f"not recovered: {it}" for it in LOST_FOR_GOOD)]
