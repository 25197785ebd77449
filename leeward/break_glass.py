"""A regional failover from a laptop: object reads, questions to servers, and one object write.

    assess    what still answers at the lost site, what answers at the other one
    copies    which copy each component would be brought back from
    switch    the one write: the object that moves the names (docs/traffic.md)
    resolve   ask the zone's name servers until all answer for the other site
    verify    every service there answers well three times in a row

No Lambda, no Step Functions, no DynamoDB, nothing of the lost region. The steps that need those are
named as left to do. The records are the chain that a run would have written, in a folder; `merge`
brings them into the incident's evidence later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.traffic.switch_history import StoredSwitches
from chalicelib.adapters.traffic.switch_object import SwitchObject
from chalicelib.errors import CheckFailed, LeewardError
from chalicelib.evidence.entries import (
    Entry,
    decision,
    incident_opened,
    run_finished,
    run_started,
    step_failed,
    step_finished,
    step_started,
)
from chalicelib.evidence.records import StoredRecords
from chalicelib.plan.components import Names
from chalicelib.plan.model import Plan
from chalicelib.plan.records import RecoveryTarget
from chalicelib.plan.scenario import Scenario
from chalicelib.ports import Clock, ObjectStore
from chalicelib.ports.health import Answer, Prober
from chalicelib.ports.traffic import Resolver
from chalicelib.recover.choose_copy import choose_copy
from chalicelib.recover.sites.traffic import Decision, Wish, decide_switch, wait_for_site
from chalicelib.services.locations import Locations
from chalicelib.verify.probes import ask_all, policy_of, verify_targets
from leeward.break_glass_scope import (
    moved_names,
    require_failover,
    require_sense,
    steps_left,
    targets_at,
)
from leeward.deployed import HAVE_POINTS

RESOLVE_SECONDS = 300.0
VERIFY_SECONDS = 300.0
Tell = Callable[[str, str], None]


@dataclass(frozen=True)
class Request:
    """What a person asks for. `insist`: also when the lost site answers, or the other one does
    not. `dry_run`: assess and choose alone, and write nothing but records."""

    scenario: str
    reason: str
    by: str
    folder: Path
    insist: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Means:
    """What it is done with. `switches`: the switch bucket."""

    switches: ObjectStore
    prober: Prober
    resolver: Resolver
    places: Locations
    clock: Clock


@dataclass
class Result:
    """`left`: steps of the scenario that need the deployment. `seconds`: from the start to names
    and services verified; None when it did not come to that."""

    incident: str
    folder: Path
    site: str
    left: tuple[str, ...]
    copies: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None


class BreakGlass:
    """One failover; `run` does it once. `tell(step, found)` hears of each step."""

    def __init__(self, plan: Plan, request: Request, means: Means, tell: Tell) -> None:
        self.plan, self.request, self.means, self._tell = plan, request, means, tell
        self.scenario: Scenario = plan.scenarios[request.scenario]
        self.site = self.scenario.recovers_at(plan.sites)
        self.lost = self.scenario.subject(request.scenario)
        require_failover(plan, request.scenario, self.scenario, self.site)
        self.began_at: datetime = means.clock.now()
        self.incident = f"inc-{self.began_at:%Y%m%dT%H%M%SZ}-{self.lost}"
        self.run_id = "run-" + self.incident.removeprefix("inc-") + "-break-glass"
        self.records = StoredRecords(FolderObjectStore(request.folder), means.clock)

    def run(self) -> Result:
        """Raises LeewardError, after it was recorded; what was switched stays switched."""
        self._open()
        result = Result(self.incident, self.request.folder, self.site, steps_left(self.scenario))
        try:
            self._assess()
            result.copies = self._choose_copies()
            if not self.request.dry_run:
                self._switch_and_resolve()
                self._verify()
                result.seconds = (self.means.clock.now() - self.began_at).total_seconds()
        except LeewardError as error:
            self._say(run_finished(outcome="failed", why=f"{type(error).__name__}: {error}"))
            raise
        done = "nothing was changed" if self.request.dry_run else "names moved, services verified"
        left = f"; left to do: {', '.join(result.left)}" if result.left else ""
        self._say(run_finished(outcome="stopped", why=done + left))
        return result

    def _open(self) -> None:
        opened = incident_opened(
            alarm=f"break-glass by {self.request.by}",
            alarm_at=self.began_at,
            component=self.lost,
            scenario=self.request.scenario,
            severity=self.scenario.severity,
            reason=self.request.reason,
        )
        rto, rpo = (
            one.total_seconds() if one else None
            for one in (
                self.plan.rto_of_scenario(self.request.scenario),
                self.plan.rpo_of_scenario(self.request.scenario),
            )
        )
        started = run_started(
            scenario=self.request.scenario,
            component=self.lost,
            plan_sha256=self.plan.plan_sha256,
            execution="break-glass",
            rto_objective_seconds=rto,
            rpo_objective_seconds=rpo,
        )
        self._say(opened)
        self._say(started)

    def _assess(self) -> None:
        with self._step("assess", "see what answers at the lost site and at the other one") as out:
            there, here = self._ask(self.lost), self._ask(self.site)
            out["found"] = f"{self.lost}: {_told(there)}; {self.site}: {_told(here)}"
            out["lost"], out["other"] = _plain(there), _plain(here)
        if not self.request.insist:
            require_sense(self.lost, there, self.site, here)

    def _ask(self, site: str) -> dict[str, Answer]:
        policy = policy_of(self.plan)
        asked = ask_all(targets_at(self.plan, self.scenario, site), self.means.prober, policy)
        return {target.component: answer for target, answer in asked}

    def _choose_copies(self) -> dict[str, str]:
        """For each component with backups; that none answers is told and stops nothing here."""
        chosen: dict[str, str] = {}
        with self._step("copies", "choose the copy of each component") as out:
            without = self.means.places.lost_with(self.scenario.loses)
            kept = self._kept(without)
            # A location that does not answer is waited for once, not once a component.
            self.means.places.find_silent((name, it) for name in kept for it in kept[name])
            chosen |= {name: self._choose(name, without) for name in kept}
            out["found"] = "; ".join(f"{name}: {it}" for name, it in chosen.items()) or "none kept"
            out["copies"] = chosen
        return chosen

    def _kept(self, without: frozenset[str]) -> dict[str, list[str]]:
        """Component -> the locations of its copies, of those that have recovery points."""
        found = {
            name: [it for it in self.means.places.of(name) if it not in without]
            for name in sorted(self.scenario.restored_components())
            if self.plan.components[name].kind in HAVE_POINTS
        }
        return {name: places for name, places in found.items() if places}

    def _choose(self, name: str, without: frozenset[str]) -> str:
        region = self.plan.sites[self.site].region or ""
        try:
            found = self.means.places.candidates(name, in_region=region, without=without)
            choice = choose_copy(found, RecoveryTarget("end", ""))
        except LeewardError as error:
            return f"{error.instance_code}: {error.message}"
        return f"{choice.point_id} in {choice.location}, {choice.why}"

    def _switch_and_resolve(self) -> None:
        for component, found in moved_names(self.plan, self.scenario, self.site):
            with self._step("switch", "move the names by one object") as out:
                decided = self._decide(component, found)
                self._say(decision(what=f"send {component} to {self.site}", why=decided.why))
                if decided.acts:
                    out["changed"] = self._driver(component, found).switch(decided.switch).changed
                out["found"] = out.get("changed", decided.why)
                out["switch"], out["component"] = decided.switch.to_json(), component
            with self._step("resolve", "ask the name servers until they answer for it") as out:
                seen = wait_for_site(
                    self.means.resolver,
                    found.zone,
                    found.records,
                    self.site,
                    clock=self.means.clock,
                    limit_seconds=RESOLVE_SECONDS,
                )
                after = (seen.at - decided.switch.at).total_seconds()
                out["found"] = f"{found.zone} leads to {self.site}, {after:.1f} s after the switch"
                out["answers"] = seen.to_json()

    def _decide(self, component: str, found: Names) -> Decision:
        """By the history in the switch bucket; a person's reason goes before it."""
        return decide_switch(
            Wish(self.site, self.run_id, "switch", self.request.reason),
            StoredSwitches(self.means.switches, component).past(),
            state=self._driver(component, found).state(),
            home=found.site or self.lost,
            stays_for=found.stays_for,
            now=self.means.clock.now(),
        )

    def _driver(self, component: str, found: Names) -> SwitchObject:
        home = found.site or self.lost
        return SwitchObject(self.means.switches, component, home=home, away=self.site)

    def _verify(self) -> None:
        with self._step("verify", "ask every service for its health") as out:
            health = verify_targets(
                targets_at(self.plan, self.scenario, self.site),
                self.means.prober,
                policy_of(self.plan),
                clock=self.means.clock,
                limit_seconds=VERIFY_SECONDS,
            )
            bad = [f"{it.component}: {it.problem}" for it in health if not it.ok]
            if bad:
                raise CheckFailed(
                    f"expected every service at {self.site} to serve, found {'; '.join(bad)}",
                    hint="the names have moved; mend these, or move the names back with a reason",
                    code="service-down",
                )
            out["found"] = ", ".join(f"{it.component} serves" for it in health)
            out["services"] = [it.to_json() for it in health]

    @contextmanager
    def _step(self, name: str, does: str) -> Iterator[dict[str, Any]]:
        """Records around the block; it must set `found`."""
        self._say(step_started(attempt=1, does=does), step=name)
        began, outputs = self.means.clock.now(), dict[str, Any]()
        try:
            yield outputs
        except LeewardError as error:
            self._say(step_failed(error, attempt=1), step=name)
            raise
        seconds = (self.means.clock.now() - began).total_seconds()
        self._say(
            step_finished(found=outputs["found"], outputs=outputs, seconds=seconds), step=name
        )
        self._tell(name, outputs["found"])

    def _say(self, entry: Entry, *, step: str = "") -> None:
        self.records.append(
            self.incident, *entry, actor=self.request.by, run_id=self.run_id, step=step
        )


def _told(answers: dict[str, Answer]) -> str:
    good = sum(answer.good for answer in answers.values())
    return f"{good} of {len(answers)} services answer"


def _plain(answers: dict[str, Answer]) -> dict[str, str]:
    return {name: answer.problem or "answers" for name, answer in answers.items()}
