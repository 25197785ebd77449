"""An attack spread over several buckets, judged beside each other and alone.

    python -m bench.signs_spread

Five buckets worked in at office hours. After four weeks of history: thirty honest days, and attacks
of a few objects a day in each. Each bucket is looked at every two hours; time is simulated. Prints
one JSON object and rewrites its section of docs/benchmarks.md.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bench.lab import publish, table
from bench.signs import found_files, made_files
from bench.signs_attacks import (
    HEAD_BYTES,
    HISTORY_DAYS,
    START,
    TEST_DAYS,
    WAYS,
    Bodies,
    World,
    office,
)
from chalicelib.plan.signs import Watched
from chalicelib.verify.canaries import partition
from chalicelib.verify.signs.judge import SUSPICIOUS
from tests.fakes_bucket import InMemoryBucket
from tests.fakes_state import InMemoryState, ManualClock

NAMES = ("assets", "avatars", "exports", "letters", "uploads")
OBJECTS = 300
LOOK = timedelta(hours=2)
HALF_HOUR = timedelta(minutes=30)
PER_DAY = 4
LONGEST_DAYS = 20


@dataclass
class Company:
    """Buckets with one memory; without `beside` each is looked at alone."""

    bodies: Bodies
    beside: bool = True
    state: InMemoryState = field(default_factory=InMemoryState)
    worlds: dict[str, World] = field(default_factory=dict)

    def fork(self, *, beside: bool) -> Company:
        other = Company(self.bodies, beside)
        for name, world in self.worlds.items():
            twin = world.fork()
            twin.bucket.name = name
            for item in self.state.query(partition(name)):
                other.state.create(partition(name), item["sort"], item)
            twin.state, twin.beside = other.state, world.beside if beside else ()
            other.worlds[name] = twin
        return other

    def work(self, at: datetime) -> None:
        """Until the next look."""
        for step in range(int(LOOK / HALF_HOUR)):
            for world in self.worlds.values():
                office(world, at + step * HALF_HOUR)

    def look(self, at: datetime) -> dict[str, Watched]:
        return {name: world.look(at) for name, world in self.worlds.items()}


def found(bodies: Bodies) -> Company:
    company = Company(bodies)
    for name in NAMES:
        world = World(
            bodies, random.Random(name), bucket=InMemoryBucket(name), state=company.state,
            clock=ManualClock(START), beside=tuple(other for other in NAMES if other != name),
        )  # fmt: skip
        for _ in range(OBJECTS):
            world.create(START)
        company.worlds[name] = world
    return company


def live(company: Company, begin: datetime, days: int) -> dict[str, int]:
    """How often a bucket was judged infected, or somebody was asked to look."""
    infected, asked, alarmed = 0, 0, set[str]()
    before = sum(world.writes for world in company.worlds.values())
    for step in range(int(timedelta(days=days) / LOOK)):
        at = begin + step * LOOK
        company.work(at)
        judged = {name: it.judgement for name, it in company.look(at + LOOK).items()}
        infected += sum(it.infected for it in judged.values())
        now = {name for name, it in judged.items() if it.suspicion >= SUSPICIOUS}
        asked, alarmed = asked + len(now - alarmed), now
    writes = sum(world.writes for world in company.worlds.values()) - before
    return {"writes": writes, "infected": infected, "asked": asked}


def attack(company: Company, way: str) -> dict[str, Any]:
    """From a Tuesday on, PER_DAY objects of each bucket a day, until one is judged infected."""
    begin = START + timedelta(days=HISTORY_DAYS + 1)
    victims = {name: sorted(world.living) for name, world in company.worlds.items()}
    for name, keys in victims.items():
        random.Random(f"{name}, {way}").shuffle(keys)
    done = 0
    for step in range(int(timedelta(days=LONGEST_DAYS) / LOOK)):
        at = begin + step * LOOK
        company.work(at)
        due = int((step + 1) * LOOK / timedelta(days=1) * PER_DAY)
        for name, world in company.worlds.items():
            for key in victims[name][done:due]:
                newest = world.bucket.versions[key][-1]
                if newest is not None:
                    WAYS[way](world, key, newest.data, at + HALF_HOUR)
        done = due
        judged = {name: it.judgement for name, it in company.look(at + LOOK).items()}
        if any(it.infected for it in judged.values()):
            days = (at + LOOK - begin) / timedelta(days=1)
            return {"objects": done * len(victims), "days": round(days, 1)}
    return {"objects": None, "days": None}


def main() -> None:
    files = [*found_files(), *made_files()]
    bodies = [(it.key, it.head[:HEAD_BYTES]) for it in files if len(it.head) >= 4096]
    bodies = bodies[:: max(1, len(bodies) // 600)]
    company = found(bodies)
    live(company, START, HISTORY_DAYS)
    attacks = []
    for way in WAYS:
        alone, together = (attack(company.fork(beside=beside), way) for beside in (False, True))
        attacks.append({"attack": way, "alone": alone, "together": together})
        print(attacks[-1], file=sys.stderr, flush=True)
    begin = START + timedelta(days=HISTORY_DAYS)
    honest = {
        "alone": live(company.fork(beside=False), begin, TEST_DAYS),
        "together": live(company.fork(beside=True), begin, TEST_DAYS),
    }
    figures = {"honest": honest, "attacks": attacks}
    publish("signs spread", _text(figures), figures)


def _text(figures: dict[str, Any]) -> str:
    lines = [[it["attack"], _told(it["alone"]), _told(it["together"])] for it in figures["attacks"]]
    honest = [
        [name, str(it["writes"]), str(it["infected"]), str(it["asked"])]
        for name, it in figures["honest"].items()
    ]
    return (
        "## An attack spread over five buckets\n\n"
        f"{PER_DAY} objects a day in each of five buckets that are worked in at office hours, "
        f"after four weeks of history; a look every two hours, {LONGEST_DAYS} days at most; no "
        "canaries.\n\n"
        f"{table(['attack', 'each bucket alone', 'judged together'], lines)}\n"
        "Thirty days of honest work in the five:\n\n"
        f"{table(['judged', 'writes', 'infected', 'asked to look'], honest)}"
    )


def _told(found: dict[str, Any]) -> str:
    if found["objects"] is None:
        return "not found"
    return f"{found['objects']} objects, {found['days']} days"


if __name__ == "__main__":
    main()
