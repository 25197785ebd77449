"""The job that watches the plan's buckets for ransomware, by what their events told."""

from __future__ import annotations

from typing import Any

from chalicelib.evidence.text import counted
from chalicelib.plan.components import Bucket
from chalicelib.plan.records import format_time
from chalicelib.plan.signs import Judgement, Watched
from chalicelib.services import build
from chalicelib.services.jobs.buckets import SHOWN, bucket_component
from chalicelib.verify.ransomware import watch_noted
from chalicelib.verify.signs.judge import SUSPICIOUS, points_to_quarantine


def watch_bucket(component: str) -> dict[str, Any]:
    """Judge what the events told since the last look; quarantine what an infection may be in.

    Publishes `BucketWatched`, `BucketSigns` (infected), `BucketSuspicions` (a person should look)
    and `BlindSpots`.
    """
    from chalicelib.adapters.s3.samples import S3Samples

    bucket = bucket_component(component).bucket
    watched = watch_noted(
        bucket, state=build.state(), reader=S3Samples(build.s3(), bucket), clock=build.clock(),
        beside=_buckets_beside(bucket),
    )  # fmt: skip
    judgement = watched.judgement
    quarantined = quarantine_since(component, judgement)
    values = {
        "BucketWatched": 1.0,
        "BucketSigns": float(judgement.infected),
        "BucketSuspicions": float(judgement.infected or judgement.suspicion >= SUSPICIOUS),
        "BlindSpots": float(len(watched.blind)),
    }
    build.metrics().put(component, values)
    return {
        "infected": judgement.infected,
        "quarantined": list(quarantined),
        "blind": list(watched.blind),
        "found": tell_watch(watched, quarantined),
    }


def quarantine_since(component: str, judgement: Judgement) -> tuple[str, ...]:
    """Quarantine the points that may hold what the infection wrote; the ids of the new ones."""
    if not judgement.infected:
        return ()
    catalogue, now = build.catalogue(component), build.clock().now()
    standings = catalogue.holdings().standings
    free = [it.point for it in standings if not it.quarantined or it.is_damaged]
    reasons = points_to_quarantine(free, judgement)
    for one in reasons:
        catalogue.quarantine(one.point_id, code=one.code, reason=one.reason, at=now)
    return tuple(one.point_id for one in reasons)


def _buckets_beside(bucket: str) -> list[str]:
    """The plan's other buckets: who spreads an attack over several is seen in all."""
    components = build.plan().live.values()
    return sorted({it.bucket for it in components if isinstance(it, Bucket)} - {bucket})


def tell_watch(watched: Watched, quarantined: tuple[str, ...]) -> str:
    """One line for a person."""
    judgement, seen = watched.judgement, counted(watched.events, "event")
    blind = f"; blind: {'; '.join(watched.blind[:SHOWN])}" if watched.blind else ""
    if not judgement.infected:
        return f"{seen}, suspicion {judgement.suspicion:.2f}: {judgement.why}{blind}"
    since = format_time(judgement.started_at) if judgement.started_at else "an unknown time"
    points = counted(len(quarantined), "recovery point")
    return f"INFECTED since {since}: {judgement.why}; {points} quarantined{blind}"
