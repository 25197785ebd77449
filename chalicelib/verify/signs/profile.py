"""What is remembered of a bucket: its habits, and what was found of late. One small state item.

`fold` is pure: the profile, what happened since, and what was seen of it -> the next profile. An
event that is delivered again changes nothing, as long as it is among the last `REMEMBERED_EVENTS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.plan.records import Record
from chalicelib.plan.signs import BucketEvent, Judgement, Sign
from chalicelib.ports.samples import SampledWrite
from chalicelib.verify.signs.bursts import (
    HISTORY_DAYS,
    LEAST_DAYS,
    count_slots,
    find_burst,
    hour_name,
    slot_of,
    trim_peaks,
)
from chalicelib.verify.signs.encryption_keys import (
    MOST_KEYS,
    UsedKey,
    count_keys,
    find_key_switch,
)
from chalicelib.verify.signs.growth import REMEMBERED, Grown, find_growth
from chalicelib.verify.signs.judge import HORIZON
from chalicelib.verify.signs.kinds import ending
from chalicelib.verify.signs.names import (
    Ending,
    Note,
    count_endings,
    count_notes,
    find_drift,
    find_notes,
)
from chalicelib.verify.signs.runs import (
    BLIND_RATE,
    MOST_FLAGGED,
    STRONG_RATE,
    WEAK_RATE,
    Flagged,
    find_encryption,
)
from chalicelib.verify.signs.versions import WriteLook

REMEMBERED_EVENTS = 2000
REMEMBERED_RENAMES = 500
MOST_SIGNS = 60
# Counts of five minutes are kept until no event of theirs is expected any more.
SLOTS_KEPT = timedelta(hours=2)
# What is flagged today is not yet a habit.
HABIT_AFTER = timedelta(days=2)
# An unknown rate is taken as the usual one, seen on this many writes.
PRIOR_WRITES = 500


@dataclass(frozen=True)
class Day(Record):
    """Samples of one day, and how many of them were flagged strongly and weakly."""

    sampled: int = 0
    strong: int = 0
    weak: int = 0


@dataclass(frozen=True)
class Profile(Record):
    """`peaks`: kind -> hour -> most in five minutes; `slots`: time -> kind -> count, of late.

    `seen`, `deleted` and `stems` are digests of events and keys; `verdict` is the last judgement,
    `blind` what that look could not see.
    """

    started_at: datetime
    looked_at: datetime
    revision: int = 0
    writes: int = 0
    sampled: int = 0
    peaks: dict[str, dict[str, int]] = field(default_factory=dict)
    slots: dict[str, dict[str, int]] = field(default_factory=dict)
    days: dict[str, Day] = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)
    keys: dict[str, UsedKey] = field(default_factory=dict)
    flagged: tuple[Flagged, ...] = ()
    grown: tuple[Grown, ...] = ()
    seen: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()
    signs: tuple[Sign, ...] = ()
    verdict: Judgement | None = None
    blind: tuple[str, ...] = ()

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name in _MAPS:
            return {key: _MAPS[name].from_json(item) for key, item in value.items()}
        if name in _ROWS:
            return tuple(_ROWS[name].from_json(item) for item in value)
        if name == "verdict":
            return value and Judgement.from_json(value)
        return super()._revive(name, value)

    @property
    def learning_ends_at(self) -> datetime:
        """From then on habits are known."""
        return self.started_at + timedelta(days=LEAST_DAYS)


_MAPS: dict[str, type[Record]] = {"days": Day, "endings": Ending, "notes": Note, "keys": UsedKey}
_ROWS: dict[str, type[Record]] = {"flagged": Flagged, "grown": Grown, "signs": Sign}


@dataclass(frozen=True)
class Seen:
    """An event and what was read of its object; both None when it was not sampled."""

    event: BucketEvent
    write: SampledWrite | None = None
    look: WriteLook | None = None


def event_digest(event: BucketEvent) -> str:
    """The same for an event that is delivered again. S3's sequencers are unique in a key only."""
    return _digest(f"{event.id} {event.key}")


def _digest(text: str) -> str:
    """Short, as thousands are kept: 48 bits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def drop_seen(profile: Profile, events: Iterable[BucketEvent]) -> list[BucketEvent]:
    """The events that are new, each once, in the order in which they happened."""
    known, fresh = set(profile.seen), {}
    for event in events:
        digest = event_digest(event)
        if digest not in known:
            fresh[digest] = event
    return sorted(fresh.values(), key=lambda it: (it.at, it.id))


def fold(profile: Profile, seen: Sequence[Seen], *, now: datetime) -> Profile:
    """Take in what happened. `seen`: new events alone, in order of time."""
    events = [it.event for it in seen]
    created = [event for event in events if event.kind == "created"]
    sampled = [it for it in seen if it.look is not None]
    say_so = frozenset(it.event.key for it in sampled if it.look and it.look.look.flag == "note")
    slots, deleted, stems = _count(profile, events, now)
    gone = frozenset(deleted)
    digests = (event_digest(event) for event in events)
    return replace(
        profile,
        looked_at=now,
        revision=profile.revision + 1,
        writes=profile.writes + len(created),
        sampled=profile.sampled + len(sampled),
        slots=slots,
        peaks=_peaks(profile, slots, now),
        days=_days(profile, sampled, now),
        endings=count_endings(profile.endings, created, profile.writes),
        notes=count_notes(profile.notes, created, say_so),
        keys=count_keys(profile.keys, [(it.event.at, it.write) for it in seen if it.write]),
        flagged=_flagged(profile, sampled, gone),
        grown=_grown(profile, sampled),
        seen=(*profile.seen, *digests)[-REMEMBERED_EVENTS:],
        deleted=deleted[-REMEMBERED_RENAMES:],
        stems=stems[-REMEMBERED_RENAMES:],
    )


def _count(
    profile: Profile, events: Sequence[BucketEvent], now: datetime
) -> tuple[dict[str, dict[str, int]], tuple[str, ...], tuple[str, ...]]:
    """Slots with these events counted, and what later renames may be paired with."""
    slots = {name: dict(counts) for name, counts in profile.slots.items()}
    for slot, counts in count_slots(events).items():
        old = slots.setdefault(slot.isoformat(), {})
        for kind, n in counts.items():
            old[kind] = old.get(kind, 0) + n
    deleted, stems = list(profile.deleted), list(profile.stems)
    for event in events:
        if _is_rename(event, deleted, stems):
            [slot] = count_slots([event])
            slots[slot.isoformat()]["renames"] += 1
    kept = (now - SLOTS_KEPT).isoformat()
    recent = {name: counts for name, counts in slots.items() if name >= kept}
    return recent, tuple(deleted), tuple(stems)


def _is_rename(event: BucketEvent, deleted: list[str], stems: list[str]) -> bool:
    """A key goes and the same key with another ending comes, in either order. Notes the event."""
    if event.reason.startswith("Lifecycle"):
        return False
    own, stem, end = _digest(event.key), _stem(event.key), ending(event.key)
    if event.kind == "deleted":
        deleted += [own, stem]
        return own in stems or (end != "" and stem in stems)
    stems.append(stem)
    return end != "" and stem in deleted


def _stem(key: str) -> str:
    """Digest of the key without its ending."""
    end = ending(key)
    return _digest(key[: -len(end) - 1] if end else key)


def _peaks(
    profile: Profile, slots: dict[str, dict[str, int]], now: datetime
) -> dict[str, dict[str, int]]:
    peaks = {kind: dict(hours) for kind, hours in profile.peaks.items()}
    for name, counts in slots.items():
        hour = hour_name(datetime.fromisoformat(name))
        for kind, n in counts.items():
            hours = peaks.setdefault(kind, {})
            hours[hour] = max(hours.get(hour, 0), n)
    return {kind: trim_peaks(hours, now) for kind, hours in peaks.items()}


def _days(profile: Profile, sampled: Sequence[Seen], now: datetime) -> dict[str, Day]:
    oldest = (now - timedelta(days=HISTORY_DAYS)).strftime("%Y%m%d")
    days = {name: day for name, day in profile.days.items() if name >= oldest}
    for it in sampled:
        name = it.event.at.strftime("%Y%m%d")
        old, weight = days.get(name, Day()), it.look.weight if it.look else ""
        days[name] = Day(
            old.sampled + 1, old.strong + (weight == "strong"), old.weak + (weight == "weak")
        )
    return days


def _flagged(
    profile: Profile, sampled: Sequence[Seen], gone: frozenset[str]
) -> tuple[Flagged, ...]:
    """An upload that looks encrypted is a strong sign once what it was made from is deleted."""
    more = [
        Flagged(profile.sampled + number, it.event.at, it.event.key, it.look.flag, it.look.weight)
        for number, it in enumerate(sampled, 1)
        if it.look and it.look.weight
    ]
    found = (*profile.flagged, *more)[-MOST_FLAGGED:]
    return tuple(
        replace(it, weight="strong", flag="original-deleted")
        if it.weight == "weak" and ending(it.key) and _stem(it.key) in gone
        else it
        for it in found
    )


def _grown(profile: Profile, sampled: Sequence[Seen]) -> tuple[Grown, ...]:
    more = [
        Grown(it.event.at, _digest(it.event.key), it.look.grew_bytes)
        for it in sampled
        if it.look and it.look.grew_bytes is not None
    ]
    return (*profile.grown, *more)[-REMEMBERED:]


def usual_rates(profile: Profile, now: datetime) -> dict[str, float]:
    """At what rate this bucket's own writes are flagged, by the days that are past doubt."""
    before = (now - HABIT_AFTER).strftime("%Y%m%d")
    days = [day for name, day in profile.days.items() if name < before]
    sampled = sum(day.sampled for day in days) + PRIOR_WRITES
    strong, weak = sum(day.strong for day in days), sum(day.strong + day.weak for day in days)
    return {
        "strong": max(STRONG_RATE, (strong + STRONG_RATE * PRIOR_WRITES) / sampled),
        "weak": max(WEAK_RATE, (weak + WEAK_RATE * PRIOR_WRITES) / sampled),
    }


def read_signs(
    profile: Profile, bucket: str, allowed_keys: frozenset[str], *, now: datetime
) -> list[Sign]:
    """Every sign that the profile itself holds: of its runs, names, keys and kept ones."""
    since = profile.started_at
    growth = find_growth(bucket, profile.grown)
    return [
        *find_encryption(bucket, profile.flagged, profile.sampled, usual_rates(profile, now)),
        *find_drift(profile.endings, profile.writes, since=since, now=now),
        *find_notes(profile.notes, now=now),
        *find_key_switch(profile.keys, allowed_keys, since=since, now=now),
        *([growth] if growth else ()),
        *profile.signs,
    ]


def find_bursts(profile: Profile, bucket: str, *, now: datetime) -> list[Sign]:
    """In the slots of late; none while the bucket's habits are not known."""
    if now < profile.learning_ends_at:
        return []
    signs = (
        find_burst(bucket, kind, datetime.fromisoformat(slot), n, profile.peaks.get(kind, {}))
        for slot, counts in profile.slots.items()
        for kind, n in counts.items()
    )
    return [sign for sign in signs if sign]


def keep_signs(profile: Profile, more: Iterable[Sign], *, now: datetime) -> Profile:
    """Remember signs that cannot be read from the profile again; the same one is kept once."""
    kept = {
        (sign.detector, sign.subject, sign.at): sign
        for sign in (*profile.signs, *more)
        if sign.at > now - HORIZON
    }
    newest = sorted(kept.values(), key=lambda sign: (sign.score, sign.at))[-MOST_SIGNS:]
    return replace(profile, signs=tuple(newest))


def forget_findings(profile: Profile) -> Profile:
    """The habits alone: no verdict, no signs, nothing that is new since `HORIZON`, and of an
    infection nothing that was counted since it began."""
    recent = profile.looked_at - HORIZON
    return replace(
        _forget_since(profile),
        revision=profile.revision + 1,
        flagged=(),
        grown=(),
        signs=(),
        notes={},
        endings={k: it for k, it in profile.endings.items() if it.first_at < recent},
        keys={k: it for k, it in profile.keys.items() if it.first_at < recent},
        verdict=None,
    )


def _forget_since(profile: Profile) -> Profile:
    """What an attack wrote and deleted would be usual afterwards, and the next one unseen."""
    verdict = profile.verdict
    if verdict is None or not verdict.infected or verdict.started_at is None:
        return profile
    since = verdict.started_at
    day, hour, slot = since.strftime("%Y%m%d"), hour_name(since), slot_of(since).isoformat()
    return replace(
        profile,
        days={name: it for name, it in profile.days.items() if name < day},
        slots={name: it for name, it in profile.slots.items() if name < slot},
        peaks={
            kind: {name: most for name, most in hours.items() if name < hour}
            for kind, hours in profile.peaks.items()
        },
    )


def find_blind_spots(profile: Profile, *, now: datetime) -> list[str]:
    """What the history does not allow to judge yet, or never will."""
    found = []
    if now < profile.learning_ends_at:
        days = (now - profile.started_at).days
        found.append(f"bursts and new endings: {days} days of history, {LEAST_DAYS} are needed")
    if len(profile.keys) >= MOST_KEYS:
        found.append(f"keys: {MOST_KEYS} or more are used here, a new one is not seen")
    rate = usual_rates(profile, now)["weak"]
    if rate > BLIND_RATE:
        found.append(f"content: {rate:.0%} of this bucket's own writes look encrypted")
    return found
