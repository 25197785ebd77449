"""The steps that ask services whether they serve: once and for all, and over a time.

Which are asked: the component that the step names, else what the scenario restores, else all. A
service without a health address, or what is at a lost site and has no stand-in, is an error and
never left out; a bucket or database is asked where it can be.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import BadInput, CheckFailed, NotReady, StillRunning
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Bucket, Postgres, Service
from chalicelib.plan.losses import lost_for_good
from chalicelib.plan.records import CheckResult, format_time, parse_time
from chalicelib.plan.units import parse_duration
from chalicelib.recover.database.switch import count_writes, wait_for_application
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.verify.probes import Health, HealthPolicy, Target, policy_of, verify_targets
from chalicelib.verify.service_watch import Watch, Watched, judge_watch, watch_targets

Outputs = dict[str, Any]

# Of the step's 600 s: services that start (images, caches) are waited for, then the databases.
SERVICES_SECONDS = 300.0
DATABASE_SECONDS = 60.0
# One invocation of a watch, below the step's 900 s; the machine retries 8 times at most.
SITTING_SECONDS = 780.0
LONGEST_WATCH = timedelta(hours=1, minutes=30)
KEEP_EVERY_SECONDS = 30.0
WATCH_PAUSE_SECONDS = 5.0
# A short watch asks more often, so that it asks this often at least.
LEAST_ROUNDS = 20
# A drill watches this share of the time, but long enough to see something.
DRILL_SHARE = 1 / 60
DRILL_LEAST_SECONDS = 5.0


def verify_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Every service good several times in a row; every database written by the application."""
    names = names_in_scope(run, inputs)
    targets = targets_of(run, inputs, names)
    # In a drill no application writes to the database that stands in.
    databases = [
        name
        for name in names
        if isinstance(build.plan().components[name], Postgres) and not run.drill
    ]
    health: tuple[Health, ...] = ()
    if targets or not databases:
        health = verify_targets(
            targets,
            build.prober(),
            policy_of(build.plan()),
            clock=build.clock(),
            limit_seconds=SERVICES_SECONDS,
        )
    written = [_verify_writes(run, inputs, name) for name in databases]
    _require_good(health, written)
    told = [*map(_tell, health), *(it.found for it in written), *_not_asked(names, targets, run)]
    return {
        "found": "; ".join(told),
        "services": [it.to_json() for it in health],
        "databases": [it.to_json() for it in written],
    }


def watch_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Watch; what is not finished in one invocation goes on in the next, with what was seen.

    Time in which nobody watched, because a worker died, is made up for at the end.

    Raises:
        StillRunning: the time is not over; the machine asks again.
        CheckFailed: code "service-critical".
    """
    wanted = watch_seconds(inputs["for"], drill=run.drill)
    policy = _watch_policy(policy_of(build.plan()), inputs["for"], wanted)
    targets = targets_of(run, inputs, names_in_scope(run, inputs))
    watch, ends_at = _left(run, wanted)
    _keep(run, watch, ends_at)
    sitting_ends_at = build.clock().now() + timedelta(seconds=SITTING_SECONDS)
    while (now := build.clock().now()) < min(ends_at, sitting_ends_at):
        until = min(ends_at, now + timedelta(seconds=KEEP_EVERY_SECONDS))
        watch = watch_targets(
            targets, build.prober(), policy, watch, clock=build.clock(), until=until
        )
        _keep(run, watch, ends_at)
    if build.clock().now() < ends_at:
        raise StillRunning(
            f"the watch has {(ends_at - build.clock().now()).total_seconds():.0f} s left",
            hint="nothing to do: it goes on by itself",
        )
    return _judged(watch, policy, ends_at)


def _judged(watch: Watch, policy: HealthPolicy, ended_at: datetime) -> Outputs:
    watched = judge_watch(watch, policy, ended_at=ended_at)
    found = "; ".join(_tell_watched(it) for it in watched)
    if not watched or any(it.verdict == "critical" for it in watched):
        raise CheckFailed(
            f"expected services that keep answering, found {found or 'nothing watched'}",
            hint="look at what the service logs; the records tell what is in effect and its undo",
            code="service-critical",
            services=[it.to_json() for it in watched],
        )
    warned = any(it.verdict == "warning" for it in watched)
    return {
        "found": found,
        "verdict": "warning" if warned else "ok",
        "services": [it.to_json() for it in watched],
    }


def watch_seconds(text: Any, *, drill: bool) -> float:
    """How long to watch, scaled down in a drill. Raises BadInput (code "bad-watch")."""
    try:
        length = parse_duration(str(text))
    except ValueError as error:
        raise _bad_watch(f"found {text!r}: {error}") from error
    if not timedelta(0) < length <= LONGEST_WATCH:
        raise _bad_watch(f"found {text!r}")
    seconds = length.total_seconds()
    return max(seconds * DRILL_SHARE, DRILL_LEAST_SECONDS) if drill else seconds


def _bad_watch(found: str) -> BadInput:
    return BadInput(
        f"expected a time of at most 90 minutes to watch, {found}",
        hint="write `for: 15m`; a longer watch is a matter for alarms",
        code="bad-watch",
    )


def _watch_policy(policy: HealthPolicy, text: Any, seconds: float) -> HealthPolicy:
    """With the pauses of a watch; in a drill, outages count as the time is scaled."""
    share = seconds / parse_duration(str(text)).total_seconds()
    return replace(
        policy,
        pause_seconds=max(min(WATCH_PAUSE_SECONDS, seconds / LEAST_ROUNDS), 0.2),
        unavailable_seconds=policy.unavailable_seconds * min(share, 1.0),
    )


def names_in_scope(run: Run, inputs: dict[str, Any]) -> tuple[str, ...]:
    """Components of the plan, in its order. Raises BadInput (code "unknown-component")."""
    components, named = build.plan().components, inputs.get("component")
    if named is not None and named not in components:
        raise BadInput(
            f"the plan has no component {named!r}",
            hint=f"one of: {', '.join(components)}",
            code="unknown-component",
        )
    scenario = build.plan().scenarios.get(run.scenario)
    wanted = {named} if named else set(scenario.restored_components() if scenario else ())
    return tuple(
        name
        for name, one in components.items()
        if name in (wanted or components) and isinstance(one, Service | Bucket | Postgres)
    )


def targets_of(run: Run, inputs: dict[str, Any], names: tuple[str, ...]) -> list[Target]:
    """What to ask for each service, and for each bucket that has an address.

    Raises:
        NotReady: code "no-health-address", "no-stand-in", "no-drill-target".
    """
    targets = []
    for name in names:
        found = build.plan().components[acting_at(run, inputs, name)]
        if isinstance(found, Service) and not found.health:
            raise NotReady(
                f"expected a health address of {name}, found none",
                hint="give the service, and what stands in for it, its `health` in the plan",
                code="no-health-address",
            )
        if isinstance(found, Service | Bucket) and found.health:
            targets.append(Target(name, found.health, found.health_says or ""))
    return targets


def acting_at(run: Run, inputs: dict[str, Any], name: str) -> str:
    """`acting_on` at the site that the step names, else at the run's; never at a lost site."""
    site = str(inputs.get("site") or run.site)
    chosen = acting_on(replace(run, site=site), name)
    scenario = build.plan().scenarios.get(run.scenario)
    # A drill loses nothing: what stands in for drills may be at any site.
    lost = scenario.loses if scenario and not run.drill else ()
    if build.plan().components[chosen].site in lost:
        raise NotReady(
            f"expected a stand-in of {name} at {site or 'another site'}, found none",
            hint=f"name one under `stand_ins` of {name}; the site that it is at is lost",
            code="no-stand-in",
        )
    return chosen


def _not_asked(names: tuple[str, ...], targets: list[Target], run: Run) -> list[str]:
    """What nobody can vouch for: buckets without an address, and in a drill the databases; and
    what is lost for good, which an address that answers would not change."""
    asked = {target.component for target in targets}
    lost = lost_for_good(build.plan(), run.scenario)
    left = [name for name in names if name not in asked and name not in lost]
    if not run.drill:
        left = [name for name in left if not isinstance(build.plan().components[name], Postgres)]
    told = [f"not recovered: {name}, {why}" for name, why in lost.items()]
    return [*told, *([f"not asked: {', '.join(left)}"] if left else [])]


def _verify_writes(run: Run, inputs: dict[str, Any], name: str) -> CheckResult:
    """The application's own next write, seen in the statistics of the database."""
    databases = build.operator(acting_at(run, inputs, name))
    began = build.clock().now()
    try:
        before = count_writes(databases, databases.database)
        at = wait_for_application(
            databases,
            databases.database,
            writes_before=before,
            clock=build.clock(),
            limit_seconds=DATABASE_SECONDS,
        )
    except CheckFailed as error:
        return CheckResult(name, ok=False, found=f"{name}: {error.message}")
    seconds = (at - began).total_seconds()
    return CheckResult(
        name, ok=True, found=f"{name} is written by the application", seconds=round(seconds, 3)
    )


def _require_good(health: tuple[Health, ...], written: list[CheckResult]) -> None:
    bad = [_tell(it) for it in health if not it.ok]
    bad += [it.found for it in written if not it.ok]
    if bad:
        raise CheckFailed(
            f"expected every service to serve, found {'; '.join(bad)}",
            hint="mend or roll out what does not answer, and start the next run",
            code="service-down",
            services=[it.to_json() for it in health],
        )


def _tell(it: Health) -> str:
    if not it.ok:
        return f"{it.component} does not serve ({it.address}): {it.problem}"
    slow = ", slow" if it.slow else ""
    return f"{it.component} answers in {it.slowest_seconds:.2f} s{slow}"


def _tell_watched(it: Watched) -> str:
    share = f"{it.component}: {it.availability:.2%} of {it.answers} answers good"
    if it.p95_seconds is not None:
        share += f", 95 % within {it.p95_seconds:.2f} s"
    if it.longest_outage_seconds:
        share += f", longest outage {it.longest_outage_seconds:.0f} s ({it.problem})"
    return f"{share}: {it.verdict}"


def _left(run: Run, wanted: float) -> tuple[Watch, datetime]:
    """The watch as it was left, and when it ends: later by the time since then."""
    now = build.clock().now()
    found = build.state().get(f"run#{run.run_id}", f"watched#{run.step}")
    if found is None:
        return Watch(now), now + timedelta(seconds=wanted)
    kept_at, ends_at = parse_time(found["kept_at"]), parse_time(found["ends_at"])
    is_over = kept_at >= ends_at
    return Watch.from_json(found), ends_at if is_over else ends_at + (now - kept_at)


def _keep(run: Run, watch: Watch, ends_at: datetime) -> None:
    partition, sort = f"run#{run.run_id}", f"watched#{run.step}"
    times = {"kept_at": build.clock().now(), "ends_at": ends_at}
    item = watch.to_json() | {name: format_time(at) for name, at in times.items()}
    if not build.state().create(partition, sort, item):
        build.state().replace(partition, sort, item, expected={})
