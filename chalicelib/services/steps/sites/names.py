"""The steps on DNS names: move them to another site, and ask the name servers where they lead."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chalicelib.errors import BadInput, CheckFailed, NotReady
from chalicelib.evidence.entries import decision
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import NameRecord, Names
from chalicelib.plan.records import format_time
from chalicelib.ports.traffic import Moved, Switch, Traffic
from chalicelib.recover.sites.traffic import (
    Decision,
    Seen,
    Wish,
    apply_switch,
    decide_switch,
    look,
    require_site,
    wait_for_site,
)
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.asked import asked_by, reason_of
from chalicelib.services.steps.said import say
from chalicelib.services.steps.sites import traffic

Outputs = dict[str, Any]

# Of the step's 300 s: fast health checks take about 30 s, ordinary ones 90 s, INSYNC a minute.
RESOLVE_SECONDS = 200.0
DATA_PLANE = ("health-check", "routing-control")
# Which kind of step may use which driver: a step's row in the catalogue says what it depends on.
DRIVERS = {
    "names.switch": DATA_PLANE,
    "names.change-records": ("change-records",),
    "names.retarget": ("load-balancer",),
}


def switch_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Move names by what was set up beforehand, and see every name server answer with the site."""
    return _move(run, inputs, "names.switch")


def change_records_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Change the records themselves, through Route 53's control plane."""
    return _move(run, inputs, "names.change-records")


def retarget_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Exchange the targets of the load balancer that the names lead to."""
    return _move(run, inputs, "names.retarget")


def _move(run: Run, inputs: dict[str, Any], kind: str) -> Outputs:
    """Decide, remember, act, and measure: green is what was resolved, never what was written."""
    name = acting_on(run, inputs["component"])
    found = names_of(name, DRIVERS[kind])
    to = _site(run, inputs)
    records = _records_for(found, name, to)
    acquire_fence(build.state(), name, run.run_id, clock=build.clock())
    driver, switches = traffic.driver_of(name), traffic.switches_of(name)
    decided = decide_switch(
        Wish(to, run.run_id, run.step, _why(run, inputs)),
        switches.past(),
        state=driver.state(),
        home=traffic.home_of(name),
        stays_for=found.stays_for,
        now=build.clock().now(),
    )
    say(run, decision(what=f"send {name} to {to}", why=decided.why), about="decided")
    moved = apply_switch(decided, driver, switches)
    if moved:
        say(run, decision(what=moved.changed, why=f"to undo: {moved.undo}"), about="done")
    return _measured(name, found, records, decided, driver, moved)


def _why(run: Run, inputs: dict[str, Any]) -> str:
    """A person's reason: the step's, or that of whoever declared the run; "" when signals did."""
    return str(inputs.get("reason") or "") or (reason_of(run) if asked_by(run) else "")


def _measured(
    name: str,
    found: Names,
    records: tuple[NameRecord, ...],
    decided: Decision,
    driver: Traffic,
    moved: Moved | None,
) -> Outputs:
    to, began = decided.switch.to, decided.switch.at
    if driver.resolves:
        seen = wait_for_site(
            traffic.resolver(),
            found.zone,
            records,
            to,
            clock=build.clock(),
            limit_seconds=RESOLVE_SECONDS,
        )
        told, answers, at = _tell(found, seen, to), seen.to_json(), seen.at
    else:
        at, answers = _confirmed(driver, name, to), {}
        told = f"the load balancer's healthy targets are those of {to} alone"
    seconds = round((at - began).total_seconds(), 3)
    how = moved.changed if moved else decided.why
    return {
        "found": f"{told}, {seconds:.1f} s after the switch ({how})",
        "site": to,
        "switched_at": format_time(began),
        "resolved_at": format_time(at),
        "seconds": seconds,
        "answers": answers,
    }


def _confirmed(driver: Traffic, name: str, to: str) -> datetime:
    """When the driver itself says that the site is served, and no other."""
    state = driver.state()
    if state != to:
        raise CheckFailed(
            f"expected {name} at {to}, found {state or 'targets of several sites'}",
            hint="look at the target group's registered and healthy targets",
            code="names-elsewhere",
        )
    return build.clock().now()


def _tell(found: Names, seen: Seen, to: str) -> str:
    names = sorted({what.partition(" ")[0] for what in seen.answers})
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return (
        f"{names[0]}{more} of {found.zone} resolve to {to} at {seen.servers} name servers"
        f" (caches keep old answers up to {seen.ttl} s)"
    )


def verify_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Ask every name server for every name, once; all must lead to the site.

    Raises CheckFailed (code "names-elsewhere").
    """
    name = acting_on(run, inputs["component"])
    found = names_of(name)
    site = str(inputs.get("site") or "") or run.site or traffic.home_of(name)
    records = _records_for(found, name, site)
    if found.failover == "load-balancer":
        _confirmed(traffic.driver_of(name), name, site)
    if not records:
        told = f"the load balancer's healthy targets are those of {site} alone"
        return {"found": told, "site": site, "answers": {}}
    seen = look(traffic.resolver(), found.zone, records, site, clock=build.clock())
    require_site(seen, site)
    return {"found": _tell(found, seen, site), "site": site, "answers": seen.to_json()}


def undo_move(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Send the names of a drill back to where they came from, see it, and forget the switch."""
    name = acting_on(run, inputs["component"])
    found, driver, switches = names_of(name), traffic.driver_of(name), traffic.switches_of(name)
    own = [it for it in switches.past() if (it.run_id, it.step) == (run.run_id, run.step)]
    if not own:
        at = driver.state() or "several sites"
        return {"found": f"{name} leads to {at}: no switch of this step stands"}
    back = own[0].came_from or traffic.home_of(name)
    driver.switch(
        Switch(build.clock().now(), own[0].to, back, run.run_id, f"{run.step}-undo", "drill")
    )
    if driver.resolves:
        wait_for_site(
            traffic.resolver(),
            found.zone,
            _records_for(found, name, back),
            back,
            clock=build.clock(),
            limit_seconds=RESOLVE_SECONDS,
        )
    switches.remove(own[0])
    return {"found": f"{name} is sent to {back} again"}


def names_of(component: str, drivers: tuple[str, ...] = ()) -> Names:
    """The component, which must be names that move by one of `drivers`, when any are given.

    Raises:
        BadInput: code "unknown-component" or "other-driver".
    """
    found = build.plan().components.get(component)
    if not isinstance(found, Names):
        known = [name for name, it in build.plan().components.items() if isinstance(it, Names)]
        raise BadInput(
            f"the plan has no names {component!r}",
            hint=f"one of: {', '.join(known)}",
            code="unknown-component",
        )
    if drivers and found.failover not in drivers:
        kind = next(kind for kind, these in DRIVERS.items() if found.failover in these)
        raise BadInput(
            f"expected {component} to move by {' or '.join(drivers)}, found {found.failover}",
            hint=f"use the step kind {kind}, or let a stand-in of {component} move by another way",
            code="other-driver",
        )
    return found


def _site(run: Run, inputs: dict[str, Any]) -> str:
    to = str(inputs.get("to") or "") or run.site
    if to not in build.plan().sites:
        raise BadInput(
            f"expected a site of the plan, found {to!r}",
            hint="give the step `to`, or let its scenario lose a site so that the run has one",
            code="no-such-site",
        )
    return to


def _records_for(found: Names, component: str, site: str) -> tuple[NameRecord, ...]:
    """The records, each with an answer for the site: without one nothing could be measured.

    A load balancer's names stay where they lead, so that they are not asked for.
    """
    if found.failover == "load-balancer":
        return ()
    lacking = [it.name for it in found.records if site not in it.answers]
    if lacking or not found.records:
        raise NotReady(
            f"expected records of {component} with an answer for {site}, "
            + (f"found none of {', '.join(lacking)}" if lacking else "found no record"),
            hint="write the names under `records`, with their `answers` at each site",
            code="no-answer-for-site",
        )
    return found.records
