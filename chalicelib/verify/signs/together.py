"""The plan's buckets judged as one: who spreads an attack stays under the limit of each of them.

Put together are only signs that honest work hardly gives: writes that look encrypted, endings that
no bucket had, ransom notes, canaries. Bursts and settings stay each bucket's own: the work of many
people falls together by chance, and one change of settings is often made to all.

What is found counts for the buckets that it was found in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from chalicelib.plan.records import format_time
from chalicelib.plan.signs import Sign
from chalicelib.verify.signs.judge import CREDIBLE, HORIZON
from chalicelib.verify.signs.names import (
    Ending,
    Note,
    find_drift,
    find_notes,
    is_known_ending,
)
from chalicelib.verify.signs.profile import Profile, usual_rates
from chalicelib.verify.signs.runs import (
    CERTAIN,
    CERTAIN_COUNT,
    LIKELY,
    LIKELY_COUNT,
    Flagged,
    Run,
    find_run,
)

Profiles = Mapping[str, Profile]
Found = tuple[Sign, frozenset[str]]


def find_together(
    bucket: str, profiles: Profiles, own: Iterable[Sign], now: datetime
) -> list[Sign]:
    """What all buckets show together and `bucket` shows a part of.

    Args:
        profiles: by bucket, `bucket` among them.
        own: the signs that it has by itself.
    """
    if len(profiles) < 2:
        return []
    found = [*_encryption(profiles, now), *_drift(profiles, now), *_notes(profiles, now)]
    signs = [sign for sign, buckets in found if bucket in buckets and len(buckets) > 1]
    if any(sign.score >= CREDIBLE for sign in (*own, *signs)):
        signs += _canaries_elsewhere(bucket, profiles)
    return signs


def limit_of(single: float, buckets: int) -> float:
    """What a sum of as many log-likelihood ratios must reach to be as rare as `single` of one.

    By chance a bucket's own reaches x with at most exp(-x), so that the sum of n is no larger than
    one of Gamma's law with shape n. Source: Y. Mei, "Efficient scalable schemes for monitoring a
    large number of data streams", Biometrika 97 (2010), whose sum of CUSUMs this is.
    """
    low, high = single, single + 10.0 * buckets + 50.0
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if _log_tail(middle, buckets) > -single else (low, middle)
    return high


def _log_tail(x: float, shape: int) -> float:
    """Logarithm of the probability that one of Gamma's law exceeds `x`; powers would overflow."""
    terms = [k * math.log(x) - math.lgamma(k + 1) for k in range(shape)]
    largest = max(terms)
    return largest + math.log(sum(math.exp(term - largest) for term in terms)) - x


def _encryption(profiles: Profiles, now: datetime) -> list[Found]:
    rates = {bucket: usual_rates(profile, now) for bucket, profile in profiles.items()}
    strong, weak = {}, {}
    for bucket, profile in profiles.items():
        recent = [write for write in profile.flagged if write.at > now - HORIZON]
        strongly = [write for write in recent if write.weight == "strong"]
        strong[bucket] = find_run(strongly, profile.sampled, rates[bucket]["strong"])
        weak[bucket] = find_run(recent, profile.sampled, rates[bucket]["weak"])
    return [
        *_sum_up("writes-belie-themselves", strong, (0.99, 0.8, 0.3)),
        *_sum_up("writes-look-encrypted", weak, (0.85, 0.5, 0.2)),
    ]


def _sum_up(
    detector: str, runs: Mapping[str, Run], scores: tuple[float, float, float]
) -> list[Found]:
    parts = {bucket: run for bucket, run in runs.items() if run.writes}
    writes = sorted((it for run in parts.values() for it in run.writes), key=lambda it: it.at)
    if len(parts) < 2:
        return []
    total, number = sum(run.sum for run in parts.values()), len(runs)
    certain, likely, score = scores
    if total >= limit_of(LIKELY, number) and len(writes) >= LIKELY_COUNT:
        is_certain = total >= limit_of(CERTAIN, number) and len(writes) >= CERTAIN_COUNT
        score = certain if is_certain else likely
    return [(_sign(detector, score, parts, writes, total), frozenset(parts))]


def _sign(
    detector: str, score: float, parts: Mapping[str, Run], writes: list[Flagged], total: float
) -> Sign:
    start, flags = writes[0].at, sorted({write.flag for write in writes})
    return Sign(
        detector, "content", score, _named(parts), start,
        f"{len(writes)} sampled writes in {len(parts)} buckets since "
        f"{start:%Y-%m-%d %H:%M:%S} UTC: {', '.join(flags)}",
        {
            "writes": len(writes), "flags": flags, "log_likelihood_ratio": round(total, 1),
            "buckets": {bucket: len(run.writes) for bucket, run in sorted(parts.items())},
            "last_at": format_time(writes[-1].at),
        },
    )  # fmt: skip


def _drift(profiles: Profiles, now: datetime) -> list[Found]:
    """An ending that one of the buckets knows is nobody's mark."""
    known = {
        end
        for profile in profiles.values()
        for end, it in profile.endings.items()
        if is_known_ending(it, profile.started_at, now)
    }
    ends = {end for profile in profiles.values() for end in profile.endings} - known
    found = []
    for end in sorted(ends):
        having = {name: it for name, it in profiles.items() if end in it.endings}
        writes = sum(it.writes for it in having.values())
        before = sum(it.endings[end].writes_before for it in having.values())
        merged = Ending(
            min(it.endings[end].first_at for it in having.values()),
            sum(it.endings[end].count for it in having.values()),
            before,
            sum(it.endings[end].appended for it in having.values()),
        )
        since = min(it.started_at for it in having.values())
        found += _of(having, find_drift({end: merged}, writes, since=since, now=now))
    return found


def _notes(profiles: Profiles, now: datetime) -> list[Found]:
    found = []
    for name in sorted({name for profile in profiles.values() for name in profile.notes}):
        having = {
            it: profile.notes[name] for it, profile in profiles.items() if name in profile.notes
        }
        merged = Note(
            min(it.first_at for it in having.values()),
            tuple(f"{bucket}/{at}" for bucket, it in having.items() for at in it.folders)[:20],
            any(it.says_so for it in having.values()),
        )
        found += _of(having, find_notes({name: merged}, now=now))
    return found


def _of(having: Mapping[str, object], signs: Iterable[Sign]) -> list[Found]:
    """As signs of these buckets together."""
    names = _named(having)
    return [(replace(sign, found=f"{sign.found}; in {names}"), frozenset(having)) for sign in signs]


def _canaries_elsewhere(bucket: str, profiles: Profiles) -> list[Sign]:
    return [
        replace(sign, subject=f"{name}/{sign.subject}")
        for name, profile in sorted(profiles.items())
        if name != bucket
        for sign in profile.signs
        if sign.family == "canary"
    ]


def _named(buckets: Iterable[str]) -> str:
    return ", ".join(sorted(buckets))
