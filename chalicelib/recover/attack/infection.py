"""How an attack began: who, from where, with what as the first act; and the last clean moment.

    signs of the watch + damaged versions + the trail + the database's WAL -> decide_infection

Pure. The rule is that a moment too early costs a little data and a moment too late restores what
the attack wrote: the start is the earliest of what can be blamed on it. What is not known is said
as unknown; without any start there is no last clean moment, and a person must name one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import CheckFailed
from chalicelib.plan.records import Record, format_time, parse_time
from chalicelib.plan.signs import Judgement
from chalicelib.ports.trail import TrailEvent

# The times of S3 and of its trail are whole seconds, and clocks differ a little.
MARGIN = timedelta(seconds=1)
# A sign below this is somebody's work as often as not (verify/signs/judge.py has the same).
CREDIBLE = 0.5
# Of the writes of an attacker that were looked at, so many are damaged; of an owner none.
GUILTY_SHARE = 0.3
# Below this share an actor did honest work too. Not 1: what is damaged may escape (docs).
HONEST_SHARE = 0.9
# A change of the database this long before the rest is taken for part of the attack.
LINK = timedelta(hours=1)
TIMELINE = 40
UNKNOWN_IDENTITY = "unknown/attacker"
Actor = tuple[str, str, str]


@dataclass(frozen=True)
class Looked:
    """One write of which the content was read. `flag`: what is wrong with it, "" nothing."""

    event: TrailEvent
    flag: str


@dataclass(frozen=True)
class DatabaseSign:
    """A transaction that changed too much, or renamed the database; see
    recover/database/suspects.py.

    drop_lsn: as of a Transaction, 0 when it dropped no database; quiet_since: when the last one
    before that place committed, None when none did.
    """

    xid: int
    committed_at: datetime
    rows: int
    why: str
    drop_lsn: int = 0
    quiet_since: datetime | None = None


@dataclass(frozen=True)
class Facts:
    """What is known. `trail`: None when the plan names none. `moment`: a person's, or None."""

    bucket: str
    judgement: Judgement | None
    looked: Sequence[Looked] = ()
    trail: Sequence[TrailEvent] | None = None
    database: Sequence[DatabaseSign] = ()
    moment: datetime | None = None
    reaches: datetime | None = None


@dataclass(frozen=True)
class Infection(Record):
    """`vector`: principal, identity, key, address, first act; empty when nobody knows.

    identities: to be cut off, as a plan names them. timeline: the attack's acts, oldest first,
    alike ones together. alternatives: other starts that were considered. unknown: what could not be
    told, and why. drop_lsn: where the replay of the database must end, 0 for the moment alone.
    """

    started_at: datetime
    last_clean: datetime
    how: str
    vector: dict[str, Any]
    identities: tuple[str, ...]
    counts: dict[str, int]
    timeline: tuple[dict[str, Any], ...] = ()
    alternatives: tuple[dict[str, Any], ...] = ()
    unknown: tuple[str, ...] = ()
    drop_lsn: int = 0

    @classmethod
    def _revive(cls, name: str, value: Any) -> Any:
        if name in ("started_at", "last_clean"):
            return parse_time(value)
        return tuple(value) if isinstance(value, list) else value


@dataclass
class _Case:
    """The attackers, and what they did. `mixed`: those of whom honest writes were seen too, as of
    an application whose own host is used against it."""

    facts: Facts
    actors: frozenset[Actor] = frozenset()
    mixed: frozenset[Actor] = frozenset()
    acts: list[TrailEvent] = field(default_factory=list)

    @property
    def harm(self) -> list[TrailEvent]:
        """What they changed, that is blamed on the attack, oldest first."""
        done = [it for it in self.acts if not it.read_only and not it.error]
        return [it for it in done if it.at >= self._blamed_since(it)]

    def _blamed_since(self, act: TrailEvent) -> datetime:
        """From the actor's first damaged write on; of who did nothing honest also an hour before,
        and preparations (settings, identities) however long before."""
        flagged = [it.event for it in self.facts.looked if it.flag]
        own = [it.at for it in flagged if it.actor == act.actor]
        first = min(own or [it.at for it in flagged], default=act.at)
        if act.actor in self.mixed:
            return first - LINK if is_setting(act) else first
        return act.at if is_setting(act) else first - LINK


def decide_infection(facts: Facts) -> Infection:
    """See the module.

    Raises:
        CheckFailed: code "infection-unknown": nothing says when it began, and no person did.
    """
    case = _Case(facts, *find_attackers(facts.looked))
    case.acts = _acts_of(case.actors, facts.trail or ())
    starts = sorted(_starts(case), key=lambda it: it[0])
    if facts.moment is not None:
        started, how = facts.moment, "a person named the moment"
    elif starts:
        started, how = starts[0]
    else:
        raise _unknown(facts)
    return Infection(
        started_at=started,
        last_clean=last_clean_before(started),
        how=how,
        vector=_vector(case),
        identities=_identities(case),
        counts=_counts(case),
        timeline=_timeline(case),
        alternatives=tuple(
            {"at": format_time(at), "why": why} for at, why in starts if at != started
        ),
        unknown=_what_is_unknown(case),
        drop_lsn=_first_drop(facts.database, last_clean_before(started)),
    )


def last_clean_before(started: datetime) -> datetime:
    """A whole second."""
    return started.replace(microsecond=0) - MARGIN


def _first_drop(signs: Iterable[DatabaseSign], last_clean: datetime) -> int:
    """Where a database is dropped by what commits first after the moment; 0 when that is another.

    A replay to a time ends at the first commit after it, and a DROP has removed the files by then.
    """
    return min(
        (
            it.drop_lsn
            for it in signs
            if it.drop_lsn
            and it.committed_at >= last_clean
            and (it.quiet_since is None or it.quiet_since < last_clean)
        ),
        default=0,
    )


def find_attackers(looked: Sequence[Looked]) -> tuple[frozenset[Actor], frozenset[Actor]]:
    """Whose writes are damaged, by who, key and address together; and whose are so in part."""
    seen = Counter(it.event.actor for it in looked)
    bad = Counter(it.event.actor for it in looked if it.flag)
    guilty = frozenset(it for it, count in bad.items() if count >= seen[it] * GUILTY_SHARE)
    return guilty, frozenset(it for it in guilty if bad[it] < seen[it] * HONEST_SHARE)


def is_setting(act: TrailEvent) -> bool:
    """Not of an object's data: what protects it, or who may do what."""
    return act.service != "s3" or act.name.startswith(("PutBucket", "DeleteBucket"))


def _acts_of(actors: frozenset[Actor], events: Iterable[TrailEvent]) -> list[TrailEvent]:
    """All that they did, also by keys that they made; oldest first."""
    made: set[str] = set()
    acts: list[TrailEvent] = []
    for event in sorted(events, key=lambda it: it.at):
        if event.actor in actors or event.key_id in made:
            acts.append(event)
            made |= {event.made_key} - {""}
    return acts


def _starts(case: _Case) -> list[tuple[datetime, str]]:
    """Every moment at which the attack may have begun, with what says so."""
    facts, found = case.facts, []
    if case.harm:
        first = case.harm[0]
        found.append((first.at, f"the trail: {_tell(first)}"))
    flagged = [it.event.at for it in facts.looked if it.flag]
    if flagged:
        found.append((min(flagged), "the first version that is damaged"))
    found += _of_signs(facts.judgement, exact=bool(case.harm))
    edge = min((at for at, _ in found), default=None)
    if edge is not None:
        found += [
            (it.committed_at, f"the database: {it.why}")
            for it in facts.database
            if it.committed_at >= edge - LINK
        ]
    return found


def _of_signs(judgement: Judgement | None, *, exact: bool) -> list[tuple[datetime, str]]:
    """A change of settings bears the time of the look before it, which the trail knows better."""
    if judgement is None or not judgement.infected or judgement.started_at is None:
        return []
    if not exact:
        return [(judgement.started_at, f"the watch: {judgement.why}")]
    return [
        (it.at, f"the watch: {it.found}")
        for it in judgement.signs
        if it.score >= CREDIBLE and it.family != "configuration"
    ]


def _vector(case: _Case) -> dict[str, Any]:
    if not case.acts:
        return {}
    first = case.acts[0]
    harmful = case.harm[0] if case.harm else first
    return {
        "principal": first.principal,
        "identity": first.identity,
        "key": first.key_id,
        "address": first.address,
        "first_act": _tell(first),
        "first_act_at": format_time(first.at),
        "first_harm": _tell(harmful),
        "first_harm_at": format_time(harmful.at),
    }


def _identities(case: _Case) -> tuple[str, ...]:
    """Those that acted, and those that got a key or a policy from them."""
    if not case.acts:
        return (UNKNOWN_IDENTITY,)
    acted = [it.identity for it in case.acts]
    changed = [it.target for it in case.harm if it.service == "iam"]
    return tuple(dict.fromkeys(it for it in (*acted, *changed) if it)) or (UNKNOWN_IDENTITY,)


def _counts(case: _Case) -> dict[str, int]:
    here = [it for it in case.harm if it.bucket == case.facts.bucket]
    writes = {"PutObject", "CopyObject", "CompleteMultipartUpload"}
    deletions = [it for it in here if it.name == "DeleteObject"]
    known = {
        "written": sum(it.name in writes for it in here),
        "deleted": sum(not it.version_id for it in deletions),
        "versions_removed": sum(bool(it.version_id) for it in deletions),
        "settings_changed": sum(it.name.startswith(("PutBucket", "DeleteBucket")) for it in here),
        "identities_changed": sum(it.service == "iam" for it in case.harm),
        "refused": sum(bool(it.error) for it in case.acts),
        "looked_at": len(case.facts.looked),
        "damaged_of_looked_at": sum(bool(it.flag) for it in case.facts.looked),
    }
    return known | {"rows": sum(it.rows for it in case.facts.database)}


def _timeline(case: _Case) -> tuple[dict[str, Any], ...]:
    """Changes of a kind that follow each other are one line, and so are all readings of a kind."""
    lines: list[dict[str, Any]] = []
    readings: dict[str, dict[str, Any]] = {}
    change: dict[str, Any] = {}
    for act in case.acts:
        line = _line(act)
        what = f"{line['what']} {line['error']}"
        same = readings.get(what, {}) if act.read_only else change
        if same and f"{same['what']} {same['error']}" == what:
            same |= {"until": line["until"], "times": same["times"] + 1}
            continue
        lines.append(line)
        if act.read_only:
            readings[what] = line
        else:
            change = line
    lines += [_line_of(it) for it in case.facts.database]
    return tuple(sorted(lines, key=lambda it: str(it["at"]))[:TIMELINE])


def _line(act: TrailEvent) -> dict[str, Any]:
    at, on = format_time(act.at), act.key or act.bucket or act.target
    what = f"{act.service}:{act.name}"
    return {"at": at, "until": at, "what": what, "on": on, "times": 1, "error": act.error}


def _line_of(sign: DatabaseSign) -> dict[str, Any]:
    at = format_time(sign.committed_at)
    return {"at": at, "until": at, "what": "database", "on": sign.why, "times": 1, "error": ""}


def _what_is_unknown(case: _Case) -> tuple[str, ...]:
    facts, found = case.facts, []
    if facts.trail is None:
        found.append("who: the plan names no trail")
    elif not case.acts:
        found.append("who: no damaged version stands in the trail; are data events of it on?")
    if facts.trail is not None and facts.reaches is not None:
        found.append(f"what was done after {format_time(facts.reaches)}: the trail ends there")
    if facts.database:
        found.append("by which login the database was changed: its log is not read")
    return tuple(found)


def _tell(event: TrailEvent) -> str:
    on = event.key or event.bucket or event.target
    return f"{event.service}:{event.name} {on}".rstrip()


def _unknown(facts: Facts) -> CheckFailed:
    suspicion = facts.judgement.suspicion if facts.judgement else None
    return CheckFailed(
        f"expected to find when the attack on {facts.bucket} began, nothing says so"
        f" (suspicion {suspicion if suspicion is not None else 'unknown: nobody has looked'},"
        f" {len(facts.looked)} writes looked at)",
        code="infection-unknown",
        hint="name a moment before it: leeward run SCENARIO --moment TIME --reason ...",
    )
