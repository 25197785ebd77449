"""Buckets with a history, worked in honestly and then attacked, for bench.signs.

Time is simulated; the watch is the one that ships.
"""

from __future__ import annotations

import base64
import os
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from chalicelib.plan.records import StoredObject
from chalicelib.plan.signs import BucketEvent, Watched
from chalicelib.verify.canaries import partition, plant_canaries
from chalicelib.verify.ransomware import watch_bucket
from chalicelib.verify.signs.judge import SUSPICIOUS
from chalicelib.verify.signs.kinds import ending
from tests.fakes import InMemoryObjectStore
from tests.fakes_bucket import InMemoryBucket
from tests.fakes_state import InMemoryState, ManualClock

START = datetime(2026, 3, 2, tzinfo=UTC)
HISTORY_DAYS, TEST_DAYS = 28, 30
LOOK = timedelta(minutes=30)
OBJECTS = 1500
HEAD_BYTES = 16384

Bodies = list[tuple[str, bytes]]


@dataclass
class World:
    """A bucket, who works in it, and the watch over it."""

    bodies: Bodies
    draw: random.Random
    bucket: InMemoryBucket = field(default_factory=InMemoryBucket)
    state: InMemoryState = field(default_factory=InMemoryState)
    clock: ManualClock = field(default_factory=lambda: ManualClock(START))
    events: list[BucketEvent] = field(default_factory=list)
    living: dict[str, str] = field(default_factory=dict)
    canaries: list[str] = field(default_factory=list)
    number: int = 0
    writes: int = 0
    beside: tuple[str, ...] = ()

    def fork(self) -> World:
        """The same bucket again, so that one history serves many attacks."""
        where, state = partition(self.bucket.name), InMemoryState()
        for item in self.state.query(where):
            state.create(where, item["sort"], item)
        bucket = InMemoryBucket()
        bucket.versions = {key: list(kept) for key, kept in self.bucket.versions.items()}
        return replace(
            self,
            draw=random.Random(self.number),
            bucket=bucket,
            state=state,
            clock=ManualClock(self.clock.at),
            events=[],
            living=dict(self.living),
        )

    def create(self, at: datetime, folder: str = "work") -> None:
        name, body = self.draw.choice(self.bodies)
        self.number += 1
        key = f"{folder}/{self.number % 12}/{self.number}.{ending(name) or 'dat'}"
        self.write(key, body, at)

    def edit(self, at: datetime) -> None:
        """Another honest file of the same ending over an old one."""
        key = self.draw.choice(list(self.living))
        same = [body for name, body in self.bodies if ending(name) == ending(key)]
        if same:
            self.write(key, self.draw.choice(same), at)

    def write(self, key: str, body: bytes, at: datetime) -> None:
        self.events.append(self.bucket.write(key, body, at))
        self.living[key] = key
        self.writes += 1

    def delete(self, key: str, at: datetime) -> None:
        self.events.append(self.bucket.delete(key, at))
        self.living.pop(key, None)

    def plant(self) -> None:
        """Two canaries in each folder. Who goes through everything does not know them."""
        plant_canaries(
            self.bucket.name, [f"work/{n}" for n in range(12)], seed=bytes(32),
            store=_BucketStore(self), state=self.state, clock=self.clock,
        )  # fmt: skip

    def look(self, at: datetime) -> Watched:
        self.clock.at = at
        events, self.events = self.events, []
        return watch_bucket(
            self.bucket.name, events, state=self.state, reader=self.bucket, clock=self.clock,
            beside=self.beside,
        )  # fmt: skip


class _BucketStore(InMemoryObjectStore):
    """Puts into the bucket of a world."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        self._world.bucket.write(key, data, self._world.clock.now())
        self._world.canaries.append(key)
        return super().put(key, data, if_absent=if_absent)


def office(world: World, at: datetime) -> None:
    """About 40 writes on a working day."""
    if at.weekday() < 5 and 8 <= at.hour < 18:
        for _ in range(world.draw.choice((0, 1, 2, 3, 4))):
            (world.edit if world.draw.random() < 0.5 else world.create)(_within(world, at))
        if world.draw.random() < 0.1:
            world.delete(world.draw.choice(list(world.living)), _within(world, at))


def nightly(world: World, at: datetime) -> None:
    """A job rewrites the same 300 tables at two o'clock, and removes what is old."""
    office(world, at)
    if (at.hour, at.minute) == (2, 0):
        tables = [
            body for name, body in world.bodies if ending(name) in ("csv", "txt", "py", "zip")
        ]
        for number in range(300):
            world.write(f"nightly/{number}.txt", tables[number % len(tables)], at)
        for key in list(world.living)[:20]:
            world.delete(key, at)


def imports(world: World, at: datetime) -> None:
    """Every ninth day 1,500 new archives and pictures within an hour, of new endings at last."""
    office(world, at)
    day = (at - START).days
    if day % 9 == 4 and at.hour == 11:
        packed = [it for it in world.bodies if ending(it[0]) in ("zip", "jpg", "png", "gz")]
        for number in range(750):
            name, body = world.draw.choice(packed)
            kind = ending(name) if day < 40 else f"{ending(name)}x"
            world.write(f"import/{day}/{at.minute}-{number}.{kind}", body, _within(world, at))


def busy(world: World, at: datetime) -> None:
    """600 writes a day, at any hour, a third of them at noon."""
    for _ in range(world.draw.randint(4, 12) + (50 if at.hour in (11, 12) else 0)):
        (world.edit if world.draw.random() < 0.5 else world.create)(_within(world, at))


def sealed_uploads(world: World, at: datetime) -> None:
    """An application that has always stored what it encrypted itself, beside the office."""
    office(world, at)
    if at.minute == 0 and 8 <= at.hour < 18:
        for _ in range(3):
            world.number += 1
            world.write(f"vault/{world.number}.bin", os.urandom(HEAD_BYTES), _within(world, at))


def clean_up(world: World, at: datetime) -> None:
    """Once, somebody deletes 800 old objects."""
    office(world, at)
    if at == START + timedelta(days=40, hours=15):
        for key in list(world.living)[:800]:
            world.delete(key, at)


def _within(world: World, at: datetime) -> datetime:
    return at + timedelta(seconds=world.draw.randrange(int(LOOK.total_seconds()) - 1))


HISTORIES: dict[str, Callable[[World, datetime], None]] = {
    "office hours": office,
    "nightly job": nightly,
    "bulk imports": imports,
    "busy": busy,
    "clean-up": clean_up,
    "encrypted uploads": sealed_uploads,
}


def simulate(files: Bodies) -> dict[str, Any]:
    bodies = [(key, head[:HEAD_BYTES]) for key, head in files if len(head) >= 4096]
    bodies = [bodies[at] for at in range(0, len(bodies), max(1, len(bodies) // 600))]
    honest, attacks = {}, []
    for name, work in HISTORIES.items():
        world = World(bodies, random.Random(name))
        for _ in range(OBJECTS):
            world.create(START)
        world.plant()
        _live(world, work, START, HISTORY_DAYS)
        if name in ("office hours", "busy"):
            for way, rate in _attacks():
                attacks.append(_attack(world.fork(), name, way, rate))
                print(attacks[-1], file=sys.stderr, flush=True)
        honest[name] = _live(world, work, START + timedelta(days=HISTORY_DAYS), TEST_DAYS)
        print(f"{name}: {honest[name]}", file=sys.stderr, flush=True)
    return {"honest": honest, "attacks": attacks}


def _live(
    world: World, work: Callable[[World, datetime], None], begin: datetime, days: int
) -> dict[str, int]:
    """Days of honest work; how often it was judged an infection, or somebody was asked to look."""
    before, infected, suspicious, alarmed = world.writes, 0, 0, False
    for step in range(days * int(timedelta(days=1) / LOOK)):
        at = begin + step * LOOK
        work(world, at)
        judged = world.look(at + LOOK).judgement
        infected += judged.infected
        suspicious += judged.suspicion >= SUSPICIOUS and not alarmed
        alarmed = judged.suspicion >= SUSPICIOUS
    return {"writes": world.writes - before, "infected": infected, "suspicious": suspicious}


def encrypt(data: bytes) -> bytes:
    cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16)))
    return cipher.encryptor().update(data)


def _overwrite(world: World, key: str, body: bytes, at: datetime) -> None:
    world.write(key, encrypt(body), at)


def _rename(world: World, key: str, body: bytes, at: datetime) -> None:
    world.write(f"{key}.locked", encrypt(body), at)
    world.delete(key, at)


def _keep_header(world: World, key: str, body: bytes, at: datetime) -> None:
    parts = bytearray(body)
    for start in range(4096, len(parts), 8192):
        parts[start : start + 4096] = encrypt(body[start : start + 4096])
    world.write(key, bytes(parts), at)


def _encode(world: World, key: str, body: bytes, at: datetime) -> None:
    world.write(key, base64.b64encode(encrypt(body)), at)


def _delete(world: World, key: str, body: bytes, at: datetime) -> None:
    world.delete(key, at)


WAYS = {
    "overwritten": _overwrite,
    "renamed .locked, original deleted": _rename,
    "header kept, every second 4 KiB": _keep_header,
    "base64": _encode,
    "deleted alone": _delete,
}
# Objects a minute, and how often the bucket is looked at meanwhile, in minutes.
_RATES = {
    "1,000 in 5 min": (1000 / 5, 5),
    "20 in 5 min": (20 / 5, 5),
    "20 a day": (20 / 1440, 30),
}


def _attacks() -> Iterator[tuple[str, str]]:
    for way in WAYS:
        for rate in _RATES:
            yield way, rate


def _attack(world: World, history: str, way: str, rate: str) -> dict[str, Any]:
    """From a Tuesday at ten on, beside honest work, until it is judged one; 20 days at most."""
    begin = START + timedelta(days=HISTORY_DAYS + 1, hours=10)
    work, (per_minute, step) = HISTORIES[history], _RATES[rate]
    victims = [*world.living, *world.canaries]
    world.draw.seed(f"{history}, {way}, {rate}")
    world.draw.shuffle(victims)
    done, minute, first = 0, 0, None
    while minute < 20 * 1440 and done < len(victims):
        at = begin + timedelta(minutes=minute)
        if minute % 30 == 0:
            work(world, at)
        due = min(len(victims), int(per_minute * (minute + step)))
        for key in victims[done:due]:
            first = first or at
            bodies = world.bucket.versions[key]
            newest = bodies[-1] if bodies else None
            if newest is not None:
                WAYS[way](world, key, newest.data, at)
        done, minute = due, minute + step
        judged = world.look(begin + timedelta(minutes=minute)).judgement
        if judged.infected and judged.started_at and first:
            families = sorted({sign.family for sign in judged.signs if sign.score >= 0.5})
            took = at + timedelta(minutes=step) - first
            return _told(history, way, rate, done, took, judged.started_at - first, families)
    return _told(history, way, rate, None, timedelta(), timedelta(), [])


def _told(
    history: str,
    way: str,
    rate: str,
    objects: int | None,
    took: timedelta,
    start: timedelta,
    families: list[str],
) -> dict[str, Any]:
    return {
        "history": history,
        "attack": way,
        "rate": rate,
        "objects": objects,
        "minutes": took.total_seconds() / 60,
        "start_seconds": start.total_seconds(),
        "families": families,
    }
