"""Reads what the page is made from, and writes the page.

    list -> read -> render -> write what differs, the front page last -> list again
         <- something was added meanwhile: once more -

Two writers reach the same page. What is added before a writer's second listing is on its page; what
is added after it is on the page of whoever added it, who lists again later. A writer that died in
between is healed by the next look, each minute.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from functools import partial

from chalicelib.errors import Truncated, Unavailable
from chalicelib.incidents.status.page import HISTORY_DAYS, Page, Shown, make_page
from chalicelib.incidents.status.render import render_site
from chalicelib.incidents.status.sources import (
    CANCELLED,
    MAINTENANCE,
    OBSERVED,
    OF_DRILLS,
    SAID,
    Day,
    Maintenance,
    Sources,
    Update,
    key_of_day,
    note_look,
)
from chalicelib.plan.records import parse_time
from chalicelib.ports.status import StatusStore

READERS = 16
ROUNDS = 5
# Today, and yesterday while a late look may still come; what is older never changes.
MOVING_DAYS = 2


class StatusDesk:
    """The sources and the pages of one bucket. What never changes is read once."""

    def __init__(self, store: StatusStore, shown: Shown) -> None:
        self._store, self._shown = store, shown
        self._kept: dict[str, bytes] = {}

    def publish(self, *, drill: bool = False) -> Page:
        """Write every page that is not what it should be.

        Raises:
            Unavailable: code "status-page-moving": more was said than could be shown.
        """
        for _ in range(ROUNDS):
            keys = self._keys(drill)
            page = make_page(self._shown, self.sources(keys), drill=drill)
            for key, (data, media_type) in render_site(page).items():
                self._show(key, data, media_type)
            if self._keys(drill) == keys:
                return page
        raise _moving("status page", "being written")

    def look(self, answers: dict[str, bool], *, now: datetime) -> None:
        """Note what was seen now, beside what anybody else notes of the same day.

        Raises:
            Unavailable: code "status-page-moving": others were first each time.
        """
        key = key_of_day(now)
        for _ in range(ROUNDS):
            data, tag = self._store.read_tagged(key) or (b"", "")
            kept = Day.from_json(json.loads(data)) if data else None
            day = _encoded(note_look(kept, answers, now=now).to_json())
            if self._store.replace(key, day, tag=tag):
                return
        raise _moving("day of the status page", "being looked at")

    def sources(self, keys: tuple[str, ...] = ()) -> Sources:
        found = keys or self._keys(drill=False)
        moving = [key for key in found if key.startswith(OBSERVED)][-MOVING_DAYS:]
        with ThreadPoolExecutor(READERS) as pool:
            read_one = partial(self._get_of, moving)
            bodies = dict(zip(found, pool.map(read_one, found), strict=True))
        read = {key: json.loads(data) for key, data in bodies.items() if data is not None}
        updates = [it for key, it in read.items() if SAID in key]
        days = [it for key, it in read.items() if key.startswith(OBSERVED)]
        return Sources(
            updates=tuple(Update.from_json(it) for it in updates),
            days=tuple(Day.from_json(it) for it in days),
            maintenance=tuple(_maintenance(read)),
        )

    def _keys(self, drill: bool) -> tuple[str, ...]:
        """Of everything that the page is made from; one of drills differs in what was said."""
        said = self._store.keys(f"{OF_DRILLS if drill else ''}{SAID}")
        days = self._store.keys(OBSERVED)[-HISTORY_DAYS:]
        return (*said, *days, *self._store.keys(MAINTENANCE))

    def _get_of(self, moving: list[str], key: str) -> bytes | None:
        return self._get(key, keep=key not in moving)

    def _get(self, key: str, *, keep: bool) -> bytes | None:
        """None for what is gone since it was listed."""
        if key in self._kept:
            return self._kept[key]
        try:
            data = self._store.read(key)
        except Truncated:
            return None
        if keep:
            self._kept[key] = data
        return data

    def _show(self, key: str, data: bytes, media_type: str) -> None:
        try:
            same = self._store.read(key) == data
        except Truncated:
            same = False
        if not same:
            self._store.show(key, data, media_type)


def _moving(what: str, doing: str) -> Unavailable:
    return Unavailable(
        f"the {what} changed {ROUNDS} times while it was {doing}",
        hint="it is written again within a minute",
        code="status-page-moving",
    )


def _maintenance(read: dict[str, dict[str, object]]) -> list[Maintenance]:
    found = []
    for key, body in read.items():
        if key.startswith(MAINTENANCE) and not key.endswith(CANCELLED):
            work = Maintenance.from_json(body)
            ended = read.get(f"{key.removesuffix('.json')}{CANCELLED}")
            at = parse_time(str(ended["cancelled_at"])) if ended else None
            found.append(replace(work, cancelled_at=at))
    return found


def _encoded(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
