"""The way back: a region is lost, the standby takes over, the region comes back with old data.

As outage.py, and then: the lost servers run again as they were left, their pods write to the old
database, names lead to the standby. What is drilled is the scenario that goes home from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import psycopg

from chalicelib.errors import CheckFailed
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Names, Postgres, Service
from chalicelib.plan.model import Plan
from chalicelib.recover.sites.failback import EARLY
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION
from leeward.local.damage import Injected
from leeward.local.drill import DrillOptions, Fact, Told
from leeward.local.ledger import read_ledger
from leeward.local.production import OPERATOR, SUPERUSER, store_secrets
from leeward.local.stages.outage import OutageDrill
from leeward.local.stages.site_loss import HOW

# What the pods of both sites are given to write in, before and after the region is back.
WRITING_SECONDS = 2.0


class FailbackDrill(OutageDrill):
    """See the module. `lost`: the scenario that took over; `failover`: how its run went."""

    damages: ClassVar[tuple[str, ...]] = ("region-refuses", "region-hangs", "region-answers-503")

    def __init__(self, plan: Plan, options: DrillOptions, tell: Callable[[Told], None]) -> None:
        self.returning = options.scenario
        self.lost = _lost_before(plan)
        super().__init__(plan, replace(options, scenario=self.lost), tell)

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        """A scenario that goes back, in a plan with one that this stage can lose a site by."""
        return bool(plan.scenarios[scenario].returns_to) and bool(_lost_before(plan))

    def _store_logins(self) -> None:
        """As site_loss.py, but those of the lost site are replicated, as AWS does it: they are
        changed at home alone."""
        name = self._first(Postgres)
        spare, staging = self.there(name), self.there(name, drill=True)
        for region in self.cloud.regions:
            client = self.cloud.client("secretsmanager", region)
            for one, server in ((spare, self.spare), (staging, self.staging)):
                if region == STANDBY_REGION:
                    store_secrets(client, server, **_secrets_of(self.plan, one))
        client = self.cloud.client("secretsmanager", PRIMARY_REGION)
        store_secrets(client, self.home, **_secrets_of(self.plan, name))
        for secret in _secrets_of(self.plan, name).values():
            client.replicate_secret_to_regions(
                SecretId=secret, AddReplicaRegions=[{"Region": STANDBY_REGION}]
            )

    def harm(self) -> tuple[Injected, ...]:
        """Lose the region, let the standby take over, and bring the region back."""
        lost = self.lose()
        self.take_over()
        self.come_back()
        return lost

    def lose(self) -> tuple[Injected, ...]:
        """The region's API and database; its pods go on, and nobody reaches them."""
        began, at = time.monotonic(), datetime.now(UTC)
        self.cloud.fail(region=PRIMARY_REGION, how=HOW[self.options.damage])
        self.home.stop()
        what = f"{PRIMARY_REGION} is lost: its API ({self.options.damage}), its database"
        self.say("damage", what, began)
        return (Injected(self.options.damage, "region", what, at),)

    def take_over(self) -> None:
        """Raises CheckFailed (code "no-failover") when the standby could not."""
        began = time.monotonic()
        self.failover = score = self.follow(super().notice())
        self.options = replace(self.options, scenario=self.returning)
        if not score.serves:
            raise CheckFailed(
                f"expected a failover to go back from, it ended as {score.outcome}",
                hint=f"`leeward drill {self.lost}` drills it alone",
                code="no-failover",
            )
        self.say("failover", f"{self.lost}: the standby serves", began)
        time.sleep(WRITING_SECONDS)

    def come_back(self) -> None:
        """The region as it was left: its old database, and pods that write to it."""
        began = time.monotonic()
        self.cloud.heal()
        self.home.resume()
        before = self._assets(self.home_database())
        while len(self._assets(self.home_database())) <= len(before):
            time.sleep(0.2)
        self.say("return", f"{PRIMARY_REGION} is back, and writes to its old database", began)

    def notice(self) -> str:
        """A person goes back, and knows how short a time ago the failover was."""
        return self.declare(f"{EARLY} a drill of the way back")

    def home_database(self) -> str:
        """What the application at home uses, as the operator's connection string."""
        found = self.plan.components[self._first(Postgres)]
        assert isinstance(found, Postgres)
        return self.home.dsn(OPERATOR, self._used(found, PRIMARY_REGION))

    def spare_database(self) -> str:
        """What the application used at the other site."""
        name = self.plan.components[self._first(Postgres)].stand_ins[self._away]
        found = self.plan.components[name]
        assert isinstance(found, Postgres)
        return self.spare.dsn(OPERATOR, self._used(found, STANDBY_REGION))

    @property
    def _away(self) -> str:
        return self.plan.scenarios[self.lost].recovers_at(self.plan.sites)

    def _used(self, found: Postgres, region: str) -> str:
        client = self.cloud.client("secretsmanager", region)
        text = client.get_secret_value(SecretId=found.application_secret)["SecretString"]
        return str(psycopg.conninfo.conninfo_to_dict(_dsn(text))["dbname"])

    def _assets(self, dsn: str) -> set[str]:
        with psycopg.connect(dsn) as connection:
            return {path for (path,) in connection.execute("SELECT path FROM assets")}

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        """Where names lead, who serves, and that every committed row is at home or set aside."""
        if not score.serves:
            return (), []
        wrong = []
        answers, wanted = self.led_to(), self._wanted(self._first(Names), self._home_site)
        if answers != wanted:
            wrong.append(f"names lead to {answers}")
        # The pods at home write on: what they were told is read before what is there.
        ledgers = [read_ledger(it) for it in (self.cloud.folder / "ledgers").glob("*.jsonl")]
        told = {entry["asset"] for ledger in ledgers for entry in ledger}
        home, kept = self._assets(self.home_database()), self._assets(self.home.dsn(SUPERUSER))
        away = self._assets(self.spare_database())
        if left := away - home:
            wrong.append(f"{len(left)} rows of the standby are not at home")
        if lost := told - home - kept:
            wrong.append(f"{len(lost)} committed rows are neither at home nor set aside")
        pods = self.clusters.of(self._spare_service()).pods()
        return (
            Fact("names lead to", self._home_site, self._home_site, answers == wanted),
            Fact("rows of the standby at home", f"{len(away):,}", "all", not left),
            Fact("committed rows lost", f"{len(lost)} of {len(told):,}", "0", not lost),
            Fact("set aside, kept at home", f"{len(kept - home):,} rows"),
            Fact("servers left at the standby", str(len(pods)), "0", not pods),
        ), [*wrong, *(["servers still run at the standby"] if pods else [])]

    def led_to(self) -> dict[str, tuple[str, ...]]:
        """What name servers answer now."""
        return self._answers(self._first(Names))

    @property
    def _home_site(self) -> str:
        return self.plan.scenarios[self.returning].returns_to or ""

    def _spare_service(self) -> str:
        return self.plan.components[self._first(Service)].stand_ins[self._away]


def _lost_before(plan: Plan) -> str:
    """The scenario by which this stage loses a site; "" when there is none."""
    return next((name for name in plan.scenarios if OutageDrill.accepts(plan, name)), "")


def _secrets_of(plan: Plan, name: str) -> dict[str, str]:
    found = plan.components[name]
    assert isinstance(found, Postgres)
    return {"operator": found.operator_secret, "application": found.application_secret}


def _dsn(text: str) -> str:
    return str(json.loads(text)["dsn"])
