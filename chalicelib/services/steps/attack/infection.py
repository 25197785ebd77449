"""The steps that find how an attack began, and look at what was restored after it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from chalicelib.errors import BadInput, CheckFailed
from chalicelib.evidence.attack_entries import infection_found
from chalicelib.evidence.entries import damage_found
from chalicelib.evidence.text import counted
from chalicelib.incidents.run import Run
from chalicelib.plan.records import Damage, RecoveryTarget, format_time, parse_time
from chalicelib.plan.signs import Judgement
from chalicelib.ports.trail import TrailEvent
from chalicelib.recover.attack.infection import (
    DatabaseSign,
    Facts,
    Infection,
    Looked,
    decide_infection,
    find_attackers,
    last_clean_before,
)
from chalicelib.services import build
from chalicelib.services.jobs.buckets import bucket_component
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say
from chalicelib.verify.canaries import check_canaries, read_canaries
from chalicelib.verify.ransomware import last_judgement
from chalicelib.verify.signs.content import SAMPLE_BYTES
from chalicelib.verify.signs.judge import points_to_quarantine
from chalicelib.verify.signs.versions import look_at_write

if TYPE_CHECKING:
    from chalicelib.adapters.s3.samples import S3Samples
    from chalicelib.adapters.trail_files import TrailFiles

Outputs = dict[str, Any]
# Writes this long before the first sign are looked at: the first may have escaped the watch.
BEFORE = timedelta(hours=1)
# What an attacker did before: creating keys, changing settings.
PREPARING = timedelta(hours=24)
# CloudTrail delivers within some 15 minutes; the step has 15 itself.
TRAIL_SECONDS = 480
POLL_SECONDS = 5
# With the versions before them 400 samples are 50 MiB.
SAMPLES = 400
EARLIEST = 40
WRITES = frozenset(("PutObject", "CopyObject", "CompleteMultipartUpload"))
SHOWN = 5
FOUND = "infection"


def identify_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Find the attackers, the first act and the last clean moment; quarantine what came after.

    Inputs: `database`: a component whose WAL is searched too. `moment`: a person's override.
    Raises:
        CheckFailed: code "infection-unknown": a person must name the moment.
        BadInput: code "bad-moment".
    """
    component, database = inputs["component"], str(inputs.get("database") or "")
    if run.drill:
        return _pretend(database)
    moment = _read_moment(str(inputs.get("moment") or ""))
    infection = _decide_once(run, component, database, moment)
    say(run, infection_found(infection.to_json()))
    damage = _damage_of(infection, database)
    if damage is not None:
        say(run, damage_found(damage))
    quarantined = [
        point for name in (component, database) if name for point in _quarantine(name, infection)
    ]
    return {
        "found": _tell(infection, quarantined),
        "started_at": format_time(infection.started_at),
        "last_clean": format_time(infection.last_clean),
        "target": _target_of(infection.last_clean, infection.drop_lsn).to_json(),
        "damage": damage.to_json() if damage else {},
        "vector": infection.vector,
        "identities": list(infection.identities),
        "counts": infection.counts,
        "alternatives": list(infection.alternatives[:SHOWN]),
    }


def _decide_once(run: Run, component: str, database: str, moment: datetime | None) -> Infection:
    """What an attempt of this run found stays: a trail that grew meanwhile changes no record."""
    kept = found_by(run)
    if kept is not None:
        return kept
    infection = decide_infection(_gather(run, component, database, moment))
    build.state().create(f"run#{run.run_id}", FOUND, infection.to_json())
    return infection


def found_by(run: Run) -> Infection | None:
    """What the run has found, None before."""
    kept = build.state().get(f"run#{run.run_id}", FOUND)
    if kept is None:
        return None
    return Infection.from_json({name: it for name, it in kept.items() if name != "sort"})


def _pretend(database: str) -> Outputs:
    """In a drill nobody attacked: as if it had begun at this instant."""
    from chalicelib.services.steps.database.wal import fetch_last_wal

    now = build.clock().now()
    note = fetch_last_wal(database) if database else ""
    return {
        "found": f"a drill: as if an attack had begun at {format_time(now)}"
        + (f"; {note}" if note else ""),
        "started_at": format_time(now),
        "last_clean": format_time(last_clean_before(now)),
        "target": _target_of(last_clean_before(now)).to_json(),
        "damage": {},
        "vector": {},
        "identities": [],
        "counts": {},
        "alternatives": [],
    }


def verify_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Look at what the bucket holds now and did not hold then, and at its canaries.

    Raises CheckFailed (code "still-infected") naming what looks like ransomware's.
    """
    component = acting_on(run, inputs["component"])
    bucket, since = bucket_component(component).bucket, parse_time(inputs["last_clean"])
    reader = _reader(bucket)
    restored, total = _restored_since(bucket, since)
    flagged = []
    for write in reader.read_writes([(key, "") for key in restored], SAMPLE_BYTES):
        if write.now.problem == "gone":
            continue
        look = look_at_write(write)
        if write.now.problem or look.weight == "strong" or look.flag == "note":
            flagged.append(f"{write.now.key}: {write.now.problem or look.flag}")
    canaries = read_canaries(bucket, build.state())
    signs, _ = check_canaries(canaries, reader, now=build.clock().now())
    flagged += [f"canary {sign.subject}: {sign.found}" for sign in signs]
    if flagged:
        raise CheckFailed(
            f"expected {bucket} to be clean, {counted(len(flagged), 'object')} of"
            f" {len(restored)} looked at are not: {'; '.join(flagged[:SHOWN])}",
            code="still-infected",
            hint="name an earlier moment: leeward run SCENARIO --moment TIME --reason ...",
        )
    return {
        "found": f"{bucket}: {len(restored)} of {total} objects that were written since"
        f" {inputs['last_clean']} looked at, and canaries: {len(canaries)}; none is ransomware's",
        "looked_at": len(restored),
        "flagged": 0,
    }


def trail() -> TrailFiles | None:
    """The plan's trail, None when it names none."""
    from chalicelib.adapters.trail_files import TrailFiles

    named = build.plan().trail
    return TrailFiles(build.s3(), named.bucket, named.prefix) if named else None


def judgement_of(component: str) -> Judgement | None:
    """What the watch said last of the component's bucket."""
    return last_judgement(bucket_component(component).bucket, state=build.state())


def _gather(run: Run, component: str, database: str, moment: datetime | None) -> Facts:
    bucket, judgement = bucket_component(component).bucket, judgement_of(component)
    first = judgement.started_at if judgement else None
    edge = min(it for it in (first, moment, run.alarm_at) if it is not None)
    events: list[TrailEvent] | None = None
    looked: list[Looked] = []
    reaches: datetime | None = None
    source = trail()
    if source is not None:
        reaches = _wait_for_trail(source, run.alarm_at)
        now = build.clock().now()
        writes = list(source.read(edge - BEFORE, now, lambda it: _is_write(it, bucket)))
        looked = _look(bucket, writes)
        keys, places = _where(looked)
        events = list(
            source.read(edge - PREPARING, now, lambda it: it.key_id in keys or it.address in places)
        )
    signs: list[DatabaseSign] = []
    if database:
        from chalicelib.services.steps.attack.database_signs import database_signs

        signs = database_signs(run, database, edge - BEFORE)
    return Facts(bucket, judgement, looked, events, signs, moment, reaches)


def _is_write(event: TrailEvent, bucket: str) -> bool:
    return event.bucket == bucket and event.name in WRITES and not event.error


def _where(looked: Iterable[Looked]) -> tuple[frozenset[str], frozenset[str]]:
    actors, _ = find_attackers(list(looked))
    return frozenset(key for _, key, _ in actors), frozenset(place for _, _, place in actors)


def _wait_for_trail(source: TrailFiles, until: datetime) -> datetime | None:
    """The newest event there is, once it is of the alarm's time, or later than is worth waiting."""
    clock = build.clock()
    deadline = clock.now() + timedelta(seconds=TRAIL_SECONDS)
    while True:
        events = source.read(until - PREPARING, clock.now(), lambda _: True)
        newest = max((it.at for it in events), default=None)
        if (newest is not None and newest >= until) or clock.now() >= deadline:
            return newest
        clock.sleep(POLL_SECONDS)


def _look(bucket: str, writes: list[TrailEvent]) -> list[Looked]:
    """At the first writes of each actor, and at others drawn from all of them."""
    chosen = choose_writes(writes)
    samples = _reader(bucket).read_writes([(it.key, it.version_id) for it in chosen], SAMPLE_BYTES)
    looked = []
    for event, write in zip(chosen, samples, strict=True):
        if write.now.problem in ("", "sse-c"):
            look = look_at_write(write)
            flag = write.now.problem or (look.flag if look.weight == "strong" else "")
            looked.append(Looked(event, flag or ("note" if look.flag == "note" else "")))
    return looked


def choose_writes(writes: list[TrailEvent]) -> list[TrailEvent]:
    """The same ones when it is repeated. In order of time."""
    by_actor: dict[tuple[str, str, str], list[TrailEvent]] = {}
    for event in sorted(writes, key=lambda it: (it.at, it.id)):
        by_actor.setdefault(event.actor, []).append(event)
    share = max(EARLIEST, SAMPLES // max(1, len(by_actor)))
    chosen = []
    for events in by_actor.values():
        rest = events[EARLIEST:]
        step = max(1, len(rest) // max(1, share - EARLIEST))
        chosen += [*events[:EARLIEST], *rest[::step]]
    return sorted(chosen[: 2 * SAMPLES], key=lambda it: (it.at, it.id))


def _quarantine(component: str, infection: Infection) -> tuple[str, ...]:
    """Every point that was finished since the last clean moment: no restore takes it any more."""
    catalogue, now = build.catalogue(component), build.clock().now()
    standings = catalogue.holdings().standings
    free = [it.point for it in standings if not it.quarantined or it.is_damaged]
    began = Judgement(True, 1.0, infection.last_clean, infection.how)
    reasons = points_to_quarantine(free, began, margin=timedelta(0))
    for one in reasons:
        catalogue.quarantine(one.point_id, code=one.code, reason=one.reason, at=now)
    return tuple(one.point_id for one in reasons)


def _restored_since(bucket: str, since: datetime) -> tuple[list[str], int]:
    """Keys of current objects written since then: a share of them when there are many, and how
    many there are."""
    from chalicelib.adapters.aws_errors import mapped

    keys: list[str] = []
    with mapped("s3", bucket=bucket):
        for page in build.s3().get_paginator("list_objects_v2").paginate(Bucket=bucket):
            keys += [it["Key"] for it in page.get("Contents", ()) if it["LastModified"] > since]
    step = max(1, len(keys) // SAMPLES)
    return keys[::step], len(keys)


def _reader(bucket: str) -> S3Samples:
    from chalicelib.adapters.s3.samples import S3Samples

    return S3Samples(build.s3(), bucket)


def _target_of(moment: datetime, drop_lsn: int = 0) -> RecoveryTarget:
    return RecoveryTarget("time", format_time(moment), drop_lsn)


def _damage_of(infection: Infection, database: str) -> Damage | None:
    if not database:
        return None
    return Damage(
        kind="suspected",
        found=f"an attack that began at {format_time(infection.started_at)}",
        how=infection.how,
        target=_target_of(infection.last_clean, infection.drop_lsn),
        detected_at=build.clock().now(),
        damaged_at=infection.started_at,
        rows=infection.counts["rows"],
    )


def _read_moment(text: str) -> datetime | None:
    """A person's word. Raises BadInput (code "bad-moment")."""
    if not text:
        return None
    try:
        moment = parse_time(text.removeprefix("time "))
    except ValueError as error:
        raise BadInput(
            f"expected a time with its zone, found {text!r}",
            hint="an attack has a moment in time: write it as 2026-11-22T08:30:00Z",
            code="bad-moment",
        ) from error
    if moment > build.clock().now():
        raise BadInput(
            f"expected a time that has been, found {format_time(moment)}",
            hint="write it in UTC, as 2026-11-22T08:30:00Z",
            code="bad-moment",
        )
    return moment


def _tell(infection: Infection, quarantined: list[str]) -> str:
    vector, counts = infection.vector, infection.counts
    who = "nobody knows who"
    if vector:
        who = f"{vector['principal']} with {vector['key']} from {vector['address']}"
    unknown = f"; UNKNOWN: {'; '.join(infection.unknown)}" if infection.unknown else ""
    return (
        f"began at {format_time(infection.started_at)} ({infection.how}), by {who};"
        f" {counts['written']} objects written, {counts['deleted']} deleted,"
        f" {counts['versions_removed']} versions removed, {counts['rows']:,} rows changed;"
        f" last clean moment {format_time(infection.last_clean)};"
        f" {counted(len(quarantined), 'point')} quarantined{unknown}"
    )
