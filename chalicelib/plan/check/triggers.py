"""Failovers that start by themselves: from enough signals, which somebody gives."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from chalicelib.plan.check.rule import Hits, Rule
from chalicelib.plan.components import Service
from chalicelib.plan.model import Plan
from chalicelib.plan.scenario import Scenario, Trigger

# What the standby sees with its own eyes, and what vanishes together when it is cut off.
OWN_EYES = ("probe", "heartbeat")


def _triggers(plan: Plan) -> Iterator[tuple[str, Scenario, Trigger]]:
    for name, scenario in plan.scenarios.items():
        if scenario.trigger is not None:
            yield name, scenario, scenario.trigger


def find_lonely_signal(plan: Plan, now: datetime) -> Hits:
    for name, _, trigger in _triggers(plan):
        path, signals = ("scenarios", name, "trigger"), len(set(trigger.of))
        if trigger.quorum == 1:
            yield path, f"one of {signals} signals alone starts {name}"
        elif trigger.quorum > signals:
            yield path, f"{name} needs {trigger.quorum} signals and has {signals}: it never starts"


def find_unseen_site(plan: Plan, now: datetime) -> Hits:
    for name, scenario, trigger in _triggers(plan):
        path = ("scenarios", name, "trigger")
        if not plan.runs_in_standby(name):
            yield path, f"{name} does not run in a standby region in AWS, from where it is seen"
            continue
        restored = (plan.components.get(one) for one in scenario.restored_components())
        served = [
            one
            for one in restored
            if isinstance(one, Service) and one.site in scenario.loses and one.health
        ]
        if "probe" in trigger.of and not served:
            yield path, f"no service that {name} restores has a health address to probe"
        if "alarm" in trigger.of and not scenario.alarms:
            yield path, f"an alarm is a signal of {name}, which names no alarm"


def find_blind_standby(plan: Plan, now: datetime) -> Hits:
    for name, _, trigger in _triggers(plan):
        seen = [kind for kind in set(trigger.of) if kind in OWN_EYES]
        if len(seen) >= trigger.quorum > 1 and not trigger.witnesses:
            yield (
                ("scenarios", name, "trigger"),
                f"a standby that is cut off sees neither services nor heartbeat, and starts {name}",
            )


def find_failback_unasked(plan: Plan, now: datetime) -> Hits:
    for name, scenario in plan.scenarios.items():
        if scenario.returns_to and (scenario.alarms or scenario.trigger):
            field = "trigger" if scenario.trigger else "alarms"
            what = "signals start" if scenario.trigger else f"{', '.join(scenario.alarms)} starts"
            yield (
                ("scenarios", name, field),
                f"{what} {name}, which goes back to {scenario.returns_to}: what flaps would"
                " move everything to and fro",
            )


RULES = (
    Rule(
        "LW085",
        "error",
        "A failback that nobody asks for",
        "leave alarms and trigger out: a person starts it, with `leeward failback`",
        find_failback_unasked,
    ),
    Rule(
        "LW090",
        "error",
        "A failover that starts from one signal, or from none",
        "ask for two or more of the signals that it has",
        find_lonely_signal,
    ),
    Rule(
        "LW091",
        "error",
        "A failover that waits for signals that nobody gives",
        "give the site's services a health address, the scenario its alarms, the plan a standby"
        " region; or leave the signal out",
        find_unseen_site,
    ),
    Rule(
        "LW092",
        "warning",
        "A standby that is cut off fails over",
        "name `witnesses`, addresses that have nothing to do with either site",
        find_blind_standby,
    ),
)
