"""A regional outage that nobody declares: the standby sees it, and recovers by what stands ready.

As site_loss.py, but the standby's application is deployed and scaled to nothing, and the incident
is opened by the standby's own look at the other region (services/jobs/outage.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from chalicelib.errors import NotReady, Unavailable
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Service
from chalicelib.plan.model import Plan
from chalicelib.plan.records import parse_time
from chalicelib.services.steps.acting import DRILL
from leeward.local.cloud import PRIMARY_REGION
from leeward.local.drill import DrillOptions, Fact, Told
from leeward.local.stages.site_loss import SiteLossDrill

LOOK_SECONDS = 0.5
NOTICE_SECONDS = 120.0
# The plan's minutes, as seconds of the drill.
LASTING_SECONDS, FRESH_SECONDS, WATCH = 3, 15, "10s"


class OutageDrill(SiteLossDrill):
    """See the module."""

    def __init__(self, plan: Plan, options: DrillOptions, tell: Callable[[Told], None]) -> None:
        super().__init__(hurried(plan, options.scenario), options, tell)

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        """A scenario that starts by itself, with a database and services that stand ready."""
        found = plan.scenarios[scenario]
        uses = {step.uses for step in found.all_steps()}
        wanted = {"database.load", "service.start", "names.switch", "health.verify"}
        return plan.runs_in_standby(scenario) and found.trigger is not None and wanted <= uses

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        super().start_parts(stack, deploying)
        standing = self.there(self._first(Service))
        for_drills = self.plan.components[standing].stand_ins.get(DRILL)
        for name in (standing, for_drills):
            if name:
                cluster = self.clusters.of(name)
                cluster.apply(scaled_to_nothing(self.clusters.manifests_of(name)))

    def prepare(self) -> None:
        """The backups and copies, and a first look and heartbeat while all is well."""
        super().prepare()
        self.invoke("heartbeat", {}, region=PRIMARY_REGION)
        decision = self.look()
        if any(vote["standing"] != "good" for vote in decision["votes"][:2]):
            raise NotReady(
                f"expected a site that serves before it is lost, found {decision['votes']}",
                hint="the sample application's pods or the heartbeat are wrong, not the drill",
                code="unsound-before",
            )

    def look(self) -> dict[str, Any]:
        """One tick of the standby's schedule."""
        decisions = self.invoke("probe", {"source": "aws.events"})["decisions"]
        found: dict[str, Any] = decisions[self.options.scenario]
        return found

    def notice(self) -> str:
        """The standby's look, as the clock would ask for it, until several signals agree."""
        began = time.monotonic()
        self._lost_at = datetime.now(UTC)
        while time.monotonic() - began < NOTICE_SECONDS:
            decision = self.look()
            if decision["go"]:
                self.say("notice", decision["why"], began)
                return self.open_incident()
            time.sleep(LOOK_SECONDS)
        raise Unavailable(
            f"the standby had not noticed the outage after {NOTICE_SECONDS:.0f} s",
            hint="look at its votes",
            code="outage-unnoticed",
            votes=decision["votes"],
        )

    def count(self, score: Scorecard, folder: Any) -> tuple[tuple[Fact, ...], list[str]]:
        facts, wrong = super().count(score, folder)
        noticed = self.records.read(score.incident)[0].body["alarm_at"]
        seconds = (parse_time(noticed) - self._lost_at).total_seconds()
        return (*facts, Fact("noticed after", f"{seconds:.1f} s")), wrong


def hurried(plan: Plan, scenario: str) -> Plan:
    """The plan with the minutes of its trigger and of its watch as seconds, and no witness: what
    stands for the rest of the world is not on this machine."""
    data = plan.to_json()
    found = data["scenarios"][scenario]
    found["trigger"] |= {"lasting": LASTING_SECONDS, "fresh": FRESH_SECONDS, "witnesses": []}
    for step in found["steps"]:
        if step.get("uses") == "health.watch":
            step["with"]["for"] = WATCH
    return Plan.from_json(data)


def scaled_to_nothing(manifests: str) -> str:
    found = json.loads(manifests)
    found["spec"]["replicas"] = 0
    return json.dumps(found)
