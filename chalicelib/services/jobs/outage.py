"""The standby's look at the other site: signals each minute, and a failover when they agree.

    primary   heartbeat  each minute  -> heartbeat/<site> in the switch bucket
    standby   probe      each minute  -> services there, witnesses elsewhere, the heartbeat's age
                         on events    -> alarms that the scenario names, AWS Health
                         -> signs kept -> decide_failover -> latch -> incident -> run

The latch is written before the incident is opened and says what opened it, so that a death in
between is healed by the next look, and nothing is decided twice. A person takes it back
(docs/health.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import BadInput, Truncated
from chalicelib.incidents.incident import Signal
from chalicelib.plan.components import Names, Service
from chalicelib.plan.records import format_time, parse_time
from chalicelib.plan.scenario import Scenario, SignalKind, Trigger
from chalicelib.services import build
from chalicelib.services.signals import open_incident
from chalicelib.services.steps.acting import choose_target
from chalicelib.services.steps.sites.names import names_of
from chalicelib.services.steps.sites.traffic import switch_store
from chalicelib.verify.probes import HealthPolicy, Target, ask_all, policy_of
from chalicelib.verify.quorum import FailoverDecision, Sign, decide_failover

# Signs older than the longest window that makes sense are of no use to anybody.
SIGNS_KEPT = 120
# Below the minute in which the next look comes.
PROBE_SECONDS = 5.0
LATCH = "latch"
HOME_AGAIN = "home-again"
QUORUM = "quorum"


def write_heartbeat() -> dict[str, Any]:
    """Say that this site's functions run, find their state, and reach the other region."""
    here, now = build.environment().stack, format_time(build.clock().now())
    build.state().get("heartbeat", here)  # without its state Leeward can do nothing here
    for site, one in build.plan().sites.items():
        if one.role == here:
            body = json.dumps({"site": site, "at": now}).encode()
            switch_store().put(heartbeat_key(site), body)
            build.metrics().put(site, {"Taken.heartbeat": 1.0})
    return {"found": f"heartbeat of the {here} site at {now}"}


def heartbeat_key(site: str) -> str:
    return f"heartbeat/{site}"


def look(event: dict[str, Any]) -> dict[str, Any]:
    """A schedule's tick, an alarm's change or an event of AWS Health: note it, and decide.

    Returns:
        {"decisions": {scenario: decision}}.
    Raises:
        BadInput: code "not-a-signal".
    """
    source = event.get("source")
    decisions = {}
    for name, scenario, trigger in triggered():
        site = scenario.subject(name)
        if source == "aws.health":
            _note(site, _of_health(event, site))
        elif source == "aws.cloudwatch":
            _note(site, _of_alarm(event, scenario))
        else:
            _note(site, [_of_services(site, scenario, trigger), _of_heartbeat(site, trigger)])
        decisions[name] = _decide(name, scenario, trigger, site).to_json()
    return {"decisions": decisions}


def triggered() -> Iterator[tuple[str, Scenario, Trigger]]:
    """The scenarios that start by a quorum of signals."""
    for name, scenario in build.plan().scenarios.items():
        if scenario.trigger is not None:
            yield name, scenario, scenario.trigger


def _decide(name: str, scenario: Scenario, trigger: Trigger, site: str) -> FailoverDecision:
    """Decide, latch, open the incident; each repeats harmlessly."""
    latch = build.state().get(_partition(site), LATCH)
    now = build.clock().now()
    decision = decide_failover(
        _signs(site),
        trigger,
        now=now,
        latched_at=parse_time(latch["at"]) if latch else None,
        settles_at=_settles_at(site, scenario),
    )
    if decision.go:
        why = f"{decision.why}: " + "; ".join(f"{it.kind}: {it.says}" for it in decision.for_it)
        latch = {"at": format_time(now), "why": why, "scenario": name, "started": False}
        build.state().create(_partition(site), LATCH, latch)
        latch = build.state().get(_partition(site), LATCH) or latch
    if latch and latch["scenario"] == name and not latch["started"]:
        open_incident(Signal(QUORUM, parse_time(latch["at"]), latch["why"]), name, scenario)
        done = {key: it for key, it in latch.items() if key != "sort"} | {"started": True}
        build.state().replace(_partition(site), LATCH, done, expected={"at": latch["at"]})
    _publish(site, decision)
    return decision


def _publish(site: str, decision: FailoverDecision) -> None:
    """`SiteVotes` for the eyes, `Taken.probe` so that a look that is missed is an alarm."""
    votes = float(len(decision.for_it))
    build.metrics().put(f"site-{site}", {"SiteVotes": votes, "Taken.probe": 1.0})


def _of_services(site: str, scenario: Scenario, trigger: Trigger) -> Sign:
    """Bad when more than half of what serves at the site does not answer; good when nobody can
    tell, for the standby may be the one that is cut off."""
    now, policy = build.clock().now(), policy_of(build.plan())
    policy = HealthPolicy(slow_seconds=policy.slow_seconds, within_seconds=PROBE_SECONDS)
    targets = [Target(name, address, says) for name, address, says in _serving_at(site, scenario)]
    answers = {target.component: answer for target, answer in ask_all(targets, _prober(), policy)}
    gone = [f"{name}: {it.problem}" for name, it in answers.items() if not it.good]
    if len(gone) * 2 <= len(answers):
        return Sign("probe", now, False, f"{len(answers) - len(gone)} of {len(answers)} answer")
    if not _seen_by_witnesses(trigger, policy):
        return Sign("probe", now, False, "no witness answers either: the standby is cut off itself")
    return Sign("probe", now, True, "; ".join(gone))


def _serving_at(site: str, scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """The services that the scenario restores: another environment at the site tells nothing."""
    for name in sorted(scenario.restored_components()):
        one = build.plan().components[name]
        if one.site == site and isinstance(one, Service) and one.health:
            yield name, one.health, one.health_says or ""


def _seen_by_witnesses(trigger: Trigger, policy: HealthPolicy) -> bool:
    """Whether any answers, whatever it says; True where the plan names none."""
    targets = [Target(address, address) for address in trigger.witnesses]
    answers = [answer for _, answer in ask_all(targets, _prober(), policy)]
    return not answers or any(answer.status is not None for answer in answers)


def _prober() -> Any:
    return build.prober()


def _of_heartbeat(site: str, trigger: Trigger) -> Sign:
    """By its own time in the object. None yet: good, as a site that never spoke was never lost."""
    now = build.clock().now()
    try:
        at = parse_time(json.loads(switch_store().get(heartbeat_key(site)))["at"])
    except Truncated:
        return Sign("heartbeat", now, False, "none was ever written")
    age = now - at
    says = f"the last one is {age.total_seconds():.0f} s old"
    return Sign("heartbeat", now, age > trigger.fresh, says)


def _of_alarm(event: dict[str, Any], scenario: Scenario) -> list[Sign]:
    """One sign when the scenario names the alarm; a state without data says nothing."""
    try:
        name, state = event["detail"]["alarmName"], event["detail"]["state"]
        if name not in scenario.alarms or state["value"] not in ("ALARM", "OK"):
            return []
        bad = state["value"] == "ALARM"
        return [Sign("alarm", parse_time(state["timestamp"]), bad, f"{name} is {state['value']}")]
    except (KeyError, TypeError, ValueError) as error:
        raise _no_signal("an alarm", error) from error


def _of_health(event: dict[str, Any], site: str) -> list[Sign]:
    """One sign when AWS tells of an issue in the site's region.

    Events of a region are delivered there and in a second one, so that they arrive when it is lost.
    Source: AWS Health user guide, "About monitoring AWS Health events in a backup Region".
    """
    try:
        detail = event["detail"]
        region = detail.get("eventRegion") or event["region"]
        if detail["eventTypeCategory"] != "issue" or region != build.plan().sites[site].region:
            return []
        open_ = detail.get("statusCode", "open") != "closed"
        says = f"{detail['eventTypeCode']} is {'open' if open_ else 'closed'}"
        return [Sign("aws-health", parse_time(event["time"]), open_, says)]
    except (KeyError, TypeError, ValueError) as error:
        raise _no_signal("an event of AWS Health", error) from error


def _no_signal(what: str, error: Exception) -> BadInput:
    return BadInput(
        f"expected {what}, found none: {type(error).__name__}",
        hint="the rules of `probe` must pass EventBridge's events unchanged",
        code="not-a-signal",
    )


def _note(site: str, signs: list[Sign]) -> None:
    for sign in signs:
        _add(site, sign)


def _add(site: str, sign: Sign) -> None:
    """To the kept signs of its kind; two that arrive at once are both kept."""
    partition = _partition(site)
    while True:
        kept = build.state().get(partition, sign.kind)
        if kept is None:
            if build.state().create(partition, sign.kind, {"count": 1, "seen": [sign.to_json()]}):
                return
            continue
        count = int(kept["count"])
        seen = [*kept["seen"], sign.to_json()][-SIGNS_KEPT:]
        item = {"count": count + 1, "seen": seen}
        if build.state().replace(partition, sign.kind, item, expected={"count": count}):
            return


def _signs(site: str) -> list[Sign]:
    kinds: tuple[SignalKind, ...] = ("alarm", "probe", "heartbeat", "aws-health")
    kept = [build.state().get(_partition(site), kind) for kind in kinds]
    return [Sign.from_json(item) for it in kept if it for item in it["seen"]]


def latched_at(site: str) -> datetime | None:
    """When a failover from the site was decided by itself; None while that may happen again."""
    latch = build.state().get(_partition(site), LATCH)
    return parse_time(latch["at"]) if latch else None


def _settles_at(site: str, scenario: Scenario) -> datetime | None:
    """Until when what flaps must not move names again: `stays_for` of the names that it moves."""
    kept = build.state().get(_partition(site), HOME_AGAIN)
    if kept is None:
        return None
    moved = [names_of(it).stays_for for it in _names_moved(scenario)]
    return parse_time(kept["at"]) + max(moved, default=timedelta(0))


def _names_moved(scenario: Scenario) -> list[str]:
    """The names that its steps act on, or what stands in for them at the other site."""
    plan = build.plan()
    site = scenario.recovers_at(plan.sites)
    acted_on = {
        choose_target(plan, step.component, site=site, drill=False)
        for step in scenario.all_steps()
        if step.component
    }
    return [it for it in acted_on if isinstance(plan.components[it], Names)]


def last_failing(site: str) -> Sign | None:
    """The newest bad sign of the site that is kept; None when there is none, or nobody looks."""
    bad = [sign for sign in _signs(site) if sign.bad]
    return max(bad, key=lambda sign: sign.observed_at, default=None)


def note_home_again(site: str) -> None:
    """The site was gone back to now."""
    item = {"at": format_time(build.clock().now())}
    if not build.state().create(_partition(site), HOME_AGAIN, item):
        build.state().replace(_partition(site), HOME_AGAIN, item, expected={})


def release_latch(site: str) -> bool:
    """Let it be decided again: the end of a failback, and a person's matter. True when it was."""
    latch = build.state().get(_partition(site), LATCH)
    return latch is not None and build.state().remove(
        _partition(site), LATCH, expected={"at": latch["at"]}
    )


def _partition(site: str) -> str:
    return f"outage#{site}"
