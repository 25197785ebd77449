"""What all signs of a bucket amount to, since when, and which recovery points are suspect.

Signs are grouped into families by their cause. Within a family the strongest counts; families are
independent, so the suspicion is 1 - product of (1 - score). Canaries of different folders, and
settings that destroy, are independent of each other too. `INFECTED` is set so that
- ten writes that belie themselves, a rewritten and encrypted canary, two deleted canaries, or SSE-C
  over readable versions decide alone: no legitimate work does these;
- one suspended setting, one burst, one new ending, or encrypted uploads under new names do not:
  people do these. Any two of the stronger ones together do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from math import prod

from chalicelib.plan.records import INFECTED_POINT, RecoveryPoint, format_time
from chalicelib.plan.signs import Judgement, QuarantineReason, Sign

INFECTED = 0.95
# From here on a person should look.
SUSPICIOUS = 0.8
# Signs this old are no longer put together with new ones. A settings change may be a preparation.
HORIZON = timedelta(days=7)
# A sign this long before another is taken for part of the same attack.
LINK = timedelta(hours=24)
CREDIBLE = 0.5
# The first encrypted writes may have escaped: one more recovery point is given up for that.
MARGIN = timedelta(hours=1)
_DESTROYING = frozenset(("settings-versioning", "settings-lifecycle", "settings-lock"))


def judge(signs: Iterable[Sign], *, now: datetime, before: Judgement | None = None) -> Judgement:
    """Put the signs together. Pure.

    Args:
        signs: any order; those older than `HORIZON` count no more.
        before: the last judgement. An infection stays one until a person clears it
            (`clear_signs`); its start may only move back.
    """
    counted = sorted((sign for sign in signs if sign.at > now - HORIZON), key=lambda it: -it.score)
    families: dict[str, list[Sign]] = {}
    for sign in counted:
        families.setdefault(sign.family, []).append(sign)
    scores = {name: _family_score(found) for name, found in families.items()}
    suspicion = round(1 - prod(1 - score for score in scores.values()), 4)
    infected = suspicion >= INFECTED
    started = _start(families, scores) if suspicion >= CREDIBLE else None
    found = Judgement(infected, suspicion, started, _why(families, scores), tuple(counted[:20]))
    return _keep(found, before) if before and before.infected else found


def _family_score(signs: Sequence[Sign]) -> float:
    best: dict[str, float] = {}
    for sign in signs:
        alone = sign.family == "canary" or sign.detector in _DESTROYING
        name = f"{sign.detector} {sign.subject}" if alone else ""
        best[name] = max(best.get(name, 0.0), sign.score)
    return 1 - prod(1 - score for score in best.values())


def _start(families: dict[str, list[Sign]], scores: dict[str, float]) -> datetime:
    """The earliest credible sign that is linked to the strongest family by time.

    A change of settings is linked whenever it was: it may have been the preparation.
    """
    strongest = max(scores, key=lambda name: scores[name])
    start = min(_credible(families[strongest]))
    others = sorted(
        ((at, name) for name, found in families.items() for at in _credible(found)), reverse=True
    )
    for at, name in others:
        if at < start and (start - at <= LINK or name == "configuration"):
            start = at
    return start


def _credible(signs: Sequence[Sign]) -> list[datetime]:
    """A family whose signs are all faint is as credible as its strongest."""
    least = min(CREDIBLE, max(sign.score for sign in signs))
    return [sign.at for sign in signs if sign.score >= least]


def _why(families: dict[str, list[Sign]], scores: dict[str, float]) -> str:
    if not scores:
        return "no sign"
    ordered = sorted(scores, key=lambda name: -scores[name])
    return "; ".join(f"{families[name][0].found} ({scores[name]:.2f})" for name in ordered)


def _keep(found: Judgement, before: Judgement) -> Judgement:
    starts = [at for at in (found.started_at, before.started_at) if at is not None]
    signs = {(it.detector, it.subject): it for it in (*before.signs, *found.signs)}
    why = found.why if found.infected else before.why
    suspicion = max(found.suspicion, before.suspicion)
    return Judgement(True, suspicion, min(starts, default=None), why, tuple(signs.values())[:20])


def points_to_quarantine(
    points: Iterable[RecoveryPoint], judgement: Judgement, *, margin: timedelta = MARGIN
) -> tuple[QuarantineReason, ...]:
    """The recovery points that may hold what the infection wrote. Pure.

    A point counts by when it was finished: it may have read an object until then. Without a known
    start every point is suspect.
    """
    if not judgement.infected:
        return ()
    return tuple(
        QuarantineReason(point.id, INFECTED_POINT, _reason(point, judgement.started_at))
        for point in points
        if judgement.started_at is None or point.finished_at >= judgement.started_at - margin
    )


def _reason(point: RecoveryPoint, started: datetime | None) -> str:
    since = "at an unknown time" if started is None else f"at {format_time(started)}"
    return f"finished at {format_time(point.finished_at)}; the infection started {since}"
