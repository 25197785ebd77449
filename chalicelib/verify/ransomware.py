"""The watch of a bucket for ransomware: events and samples in, a judgement out.

    the events of S3 --note_events--> state --watch_noted, each few minutes--> Watched
    a nightly sync ----note_sign----> state --'
    a batch of events (a queue) ----------------watch_bucket-----------------> Watched

The state of a bucket is one item that is replaced only if nobody else did, and the noted events are
removed after it: a crash at any line leaves events that are taken in again, and recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from chalicelib.errors import Unavailable
from chalicelib.plan.records import digest_of
from chalicelib.plan.signs import BucketEvent, Judgement, SeenRule, Sign, Watched
from chalicelib.ports import Clock, StateStore
from chalicelib.ports.samples import SampledWrite, SampleReader, Settings
from chalicelib.verify.canaries import check_canaries, partition, read_canaries
from chalicelib.verify.signs.canaries import Canary, find_touched
from chalicelib.verify.signs.configuration import (
    compare_settings,
    find_blind_settings,
    note_rules,
)
from chalicelib.verify.signs.content import SAMPLE_BYTES
from chalicelib.verify.signs.judge import judge
from chalicelib.verify.signs.names import is_note_name
from chalicelib.verify.signs.profile import (
    Profile,
    Seen,
    drop_seen,
    event_digest,
    find_blind_spots,
    find_bursts,
    fold,
    forget_findings,
    keep_signs,
    read_signs,
)
from chalicelib.verify.signs.together import find_together
from chalicelib.verify.signs.versions import look_at_write

# 200 writes with the versions before them are 25 MiB and some 600 requests.
SAMPLES_PER_RUN = 200
EVENTS_PER_RUN = 20_000
# Kept of what a look could not see: each canary may be one.
MOST_BLIND = 50
# Below this share a sample no longer stands for what was written.
LEAST_READ_SHARE = 0.01


@dataclass(frozen=True)
class WatchPolicy:
    """How much one run may read, and the KMS keys that are the plan's own."""

    samples: int = SAMPLES_PER_RUN
    sample_bytes: int = SAMPLE_BYTES
    allowed_keys: frozenset[str] = frozenset()


def note_events(bucket: str, events: Iterable[BucketEvent], state: StateStore) -> int:
    """Put events aside for the next look. An event that is noted twice is noted once.

    Returns: how many were new.
    """
    return sum(
        state.create(partition(bucket), f"event#{event_digest(event)}", event.to_json())
        for event in events
    )


def note_sign(bucket: str, sign: Sign, state: StateStore) -> None:
    """Put a sign aside for the next look; what is found again is noted once."""
    found = digest_of([sign.detector, sign.subject, sign.evidence])
    state.create(partition(bucket), f"sign#{found}", sign.to_json())


def watch_noted(
    bucket: str,
    *,
    state: StateStore,
    reader: SampleReader,
    clock: Clock,
    policy: WatchPolicy | None = None,
    beside: Iterable[str] = (),
) -> Watched:
    """Look at the bucket with the events that were noted since the last look, and forget them.

    At most `EVENTS_PER_RUN` are taken in; the rest is the next run's, and a blind spot until then.
    The signs that were noted are taken in too.
    """
    some = list(islice(state.query(partition(bucket), "event#"), EVENTS_PER_RUN + 1))
    rows = some[:EVENTS_PER_RUN]
    events = [BucketEvent.from_json(row) for row in rows]
    noted = list(state.query(partition(bucket), "sign#"))
    found = watch_bucket(
        bucket, events, state=state, reader=reader, clock=clock, policy=policy, beside=beside,
        noted=[Sign.from_json(row) for row in noted], more=len(some) > len(rows),
    )  # fmt: skip
    for row in (*rows, *noted):
        state.remove(partition(bucket), row["sort"], expected={})
    return found


def watch_bucket(
    bucket: str,
    events: Sequence[BucketEvent],
    *,
    state: StateStore,
    reader: SampleReader,
    clock: Clock,
    policy: WatchPolicy | None = None,
    beside: Iterable[str] = (),
    noted: Iterable[Sign] = (),
    more: bool = False,
) -> Watched:
    """Look once: at what was written, at the canaries, at the settings, at the bucket's habits.

    Args:
        events: those since the last look, in any order, duplicates among them; may be empty.
        beside: the plan's other buckets, whose own looks are put together with this one.
        noted: what others found since the last look.
        more: events wait for the next look.
    Raises:
        Unavailable: another run looked at the same moment (code "watched-meanwhile").
    """
    policy, now = policy or WatchPolicy(), clock.now()
    stored = state.get(partition(bucket), "profile")
    profile = Profile.from_json(stored) if stored else Profile(now, now)
    fresh, canaries = drop_seen(profile, events), read_canaries(bucket, state)
    seen, unread = _look(fresh, {it.key for it in canaries}, reader, policy)
    around = _look_around(bucket, fresh, canaries, state, reader, now)
    profile = fold(profile, seen, now=now)
    signs = (*noted, *around.signs, *find_bursts(profile, bucket, now=now))
    profile = keep_signs(profile, signs, now=now)
    own = read_signs(profile, bucket, policy.allowed_keys, now=now)
    together = find_together(bucket, {**_read_beside(beside, state), bucket: profile}, own, now)
    found = judge((*own, *together), now=now, before=profile.verdict)
    waits = (f"events: more than {len(events)} came since the last look, the rest waits",)
    blind = (
        *unread, *around.blind, *find_blind_spots(profile, now=now), *(waits if more else ())
    )  # fmt: skip
    _save(bucket, replace(profile, verdict=found, blind=blind[:MOST_BLIND]), stored, state)
    _save_settings(bucket, around.settings, state)
    writes = sum(event.kind == "created" for event in fresh)
    sampled = sum(it.look is not None for it in seen)
    return Watched(bucket, now, len(fresh), sampled, writes - sampled, found, blind)


@dataclass(frozen=True)
class LastLook:
    """`blind`: what it could not see, the first of it. A judgement is worth as much as what it saw,
    and when."""

    judgement: Judgement
    looked_at: datetime
    blind: tuple[str, ...]


@dataclass(frozen=True)
class _Around:
    """What was seen besides the events. `settings` are stored when the signs are."""

    signs: tuple[Sign, ...]
    blind: tuple[str, ...]
    settings: Settings


def _look(
    events: Sequence[BucketEvent], canaries: set[str], reader: SampleReader, policy: WatchPolicy
) -> tuple[list[Seen], list[str]]:
    """Each event with what was read of it, and what could not be."""
    others = [event for event in events if event.key not in canaries]
    chosen = choose_samples(others, policy.samples)
    wanted = [(event.key, event.version_id) for event in chosen]
    read = dict(zip(chosen, reader.read_writes(wanted, policy.sample_bytes), strict=True))
    denied = sum(write.now.problem == "denied" for write in read.values())
    blind = [f"content: {denied} of {len(read)} sampled objects may not be read"] if denied else []
    created = sum(event.kind == "created" for event in others)
    if len(read) < LEAST_READ_SHARE * created:
        blind.append(f"content: {len(read)} of {created} writes were sampled")
    # Planting a canary is nobody's habit, so their events are left out.
    return [_see(event, read.get(event)) for event in others], blind


def _see(event: BucketEvent, write: SampledWrite | None) -> Seen:
    if write is None or write.now.problem:
        return Seen(event, write)
    return Seen(event, write, look_at_write(write))


def choose_samples(events: Sequence[BucketEvent], count: int) -> list[BucketEvent]:
    """Which writes to read: the last of each key, notes first, the others drawn by digest.

    The draw is spread over keys and time and is the same when it is repeated. In order of time.
    """
    last = {event.key: event for event in events}
    created = [event for event in last.values() if event.kind == "created"]
    drawn = sorted(
        created, key=lambda it: (not is_note_name(it.key, it.size_bytes), event_digest(it))
    )
    return sorted(drawn[:count], key=lambda it: (it.at, it.id))


def _look_around(
    bucket: str,
    events: Sequence[BucketEvent],
    canaries: Sequence[Canary],
    state: StateStore,
    reader: SampleReader,
    now: datetime,
) -> _Around:
    touched = find_touched(canaries, events)
    changed, blind = check_canaries(canaries, reader, now=now)
    settings = reader.settings(now)
    stored = state.get(partition(bucket), "settings")
    before = Settings.from_json(stored) if stored else settings
    tampered = compare_settings(before, settings)
    return _Around(
        (*touched, *changed, *tampered),
        (*blind, *find_blind_settings(settings)),
        replace(settings, parts=before.parts | settings.parts),
    )


def _read_beside(buckets: Iterable[str], state: StateStore) -> dict[str, Profile]:
    stored = {bucket: state.get(partition(bucket), "profile") for bucket in buckets}
    return {bucket: Profile.from_json(item) for bucket, item in stored.items() if item}


def _save(bucket: str, profile: Profile, stored: dict[str, Any] | None, state: StateStore) -> None:
    where = (partition(bucket), "profile", profile.to_json())
    if stored is None:
        written = state.create(*where)
    else:
        written = state.replace(*where, expected={"revision": stored["revision"]})
    if not written:
        raise Unavailable(
            f"expected revision {profile.revision - 1} of the profile of {bucket}, found another",
            hint="Let one run look at a bucket at a time; this one is tried again.",
            code="watched-meanwhile",
        )


def _save_settings(bucket: str, settings: Settings, state: StateStore) -> None:
    """The last look wins: both have compared with what was there before."""
    _put(state, bucket, "settings", settings.to_json())
    known = seen_rules(bucket, state=state)
    rules = note_rules(known, settings)
    if rules != known:
        _put(state, bucket, "rules", {"seen": [one.to_json() for one in rules]})


def _put(state: StateStore, bucket: str, sort: str, item: dict[str, Any]) -> None:
    where = (partition(bucket), sort, item)
    if not state.create(*where):
        state.replace(*where, expected={})


def seen_rules(bucket: str, *, state: StateStore) -> tuple[SeenRule, ...]:
    """The lifecycle rules that the looks ever saw removing older versions; most may be gone."""
    stored = state.get(partition(bucket), "rules") or {}
    return tuple(SeenRule.from_json(one) for one in stored.get("seen", ()))


def last_judgement(bucket: str, *, state: StateStore) -> Judgement | None:
    """What the last look said, None when there was none."""
    look = last_look(bucket, state=state)
    return look.judgement if look else None


def last_look(bucket: str, *, state: StateStore) -> LastLook | None:
    """None when there was none, or none since a person cleared what was found."""
    stored = state.get(partition(bucket), "profile")
    profile = Profile.from_json(stored) if stored else None
    if profile is None or profile.verdict is None:
        return None
    return LastLook(profile.verdict, profile.looked_at, profile.blind)


def clear_signs(bucket: str, *, state: StateStore) -> None:
    """A person has dealt with what was found: the next look starts without it.

    Habits stay. Endings and keys of the last week go, so that an attack's do not become known.

    Raises:
        Unavailable: a run looked at the same moment (code "watched-meanwhile").
    """
    stored = state.get(partition(bucket), "profile")
    if stored:
        _save(bucket, forget_findings(Profile.from_json(stored)), stored, state)
