"""A corrupted database: one server, an application, an older and a newer backup, the damage."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.errors import CheckFailed, Unavailable
from chalicelib.evidence.scorecard import Scorecard
from chalicelib.plan.components import Postgres
from chalicelib.plan.model import Plan
from leeward.local.application import Application
from leeward.local.damage import DAMAGES, Injected, Victim
from leeward.local.drill import Drill, Fact
from leeward.local.ledger import Reckoning, read_ledger, reckon
from leeward.local.locations import create_application_buckets, start_locations
from leeward.local.production import APPLICATION, DATABASE, SUPERUSER, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.packaging.parts import rule_name

ALARM_SECONDS = 60.0
# These leave the data whole and take a way to recover it: something must go wrong after them.
DAMAGES_TO_BACKUPS = ("wal-segment", "backup-object")
# Only a probe of the plan notices these: Nexus's plan has one.
DAMAGES_TO_PROBES = ("rename-table",)
DEFAULT_DAMAGE = next(iter(DAMAGES))


class DatabaseDrill(Drill):
    """See the module. `production` and `application` are up from `set_stage` on.

    `damaged_database`: what the one that the application used is called after the damage.
    """

    damages: ClassVar[tuple[str, ...]] = tuple(DAMAGES)
    damaged_database: str = DATABASE

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        """A scenario of one database, that finds the damage by itself."""
        chosen = plan.scenarios[scenario]
        component = plan.components.get(chosen.component or "")
        finds = any(step.uses == "database.find-damage" for step in chosen.all_steps())
        return finds and component is not None and component.kind == "postgres"

    @property
    def database(self) -> Postgres:
        component = self.plan.components[self.options.component]
        assert component.kind == "postgres"
        return component

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        self.production = Production(self.cloud.folder / "production", self.cloud.reaper)
        stack.callback(self.production.stop)
        self._start_production()
        deploying.result()
        store_secrets(
            self.cloud.client("secretsmanager"),
            self.production,
            operator=self.database.operator_secret,
            application=self.database.application_secret,
        )
        create_application_buckets(self.cloud, self.plan)
        self.others = start_locations(self.cloud, self.plan) if self.options.other_clouds else {}
        prefix = f"{self.options.component}/"
        bucket = self.deployed.names["BackupBucket"]
        self.backups = S3ObjectStore(self.cloud.client("s3"), bucket, prefix)
        self.application = Application(
            self.cloud, self.database.application_secret, rate=self.options.rate
        )
        stack.callback(self.application.stop)
        began = time.monotonic()
        self.application.start()
        self.say("application", f"the sample application writes, {self.application.url}", began)

    def _start_production(self) -> None:
        began = time.monotonic()
        self.production.start()
        create_schema(self.production.dsn(APPLICATION), projects=self.options.projects)
        rows = f"{self.options.projects:,} projects, {self.options.projects * 4:,} assets"
        self.say("production", f"PostgreSQL 17 on port {self.production.port}, {rows}", began)

    def prepare(self) -> None:
        """An older full backup, a newer one, an incremental; WAL in between; the first watch."""
        component = self.options.component
        for job in ("full", "wal", "full", "incremental", "wal"):
            began = time.monotonic()
            if job == "wal":
                answer = self.invoke("fetch_wal", {"component": component})
            else:
                answer = self.invoke("back_up", {"component": component, "kind": job})
            self.say("backup", answer["found"], began)
        began = time.monotonic()
        answer = self.invoke("watch", {"component": component})
        if answer["failed"]:
            raise CheckFailed(
                f"expected a sound database before the damage: {answer['found']}",
                hint="the sample data or a check of the plan is wrong, not the drill",
                code="unsound-before",
            )
        self.say("watch", answer["found"], began)

    def harm(self) -> tuple[Injected, ...]:
        names = [self.options.damage]
        if self.options.damage in DAMAGES_TO_BACKUPS:
            names.append(DEFAULT_DAMAGE)
        self.injected = tuple(self.inject(name) for name in names)
        return self.injected

    def inject(self, name: str) -> Injected:
        began = time.monotonic()
        victim = Victim(self.production.dsn(SUPERUSER), self.production.data_dir, self.backups, "")
        injected = DAMAGES[name](victim)
        self.say("damage", f"{name}: {injected.what}", began)
        if name == "wal-segment":
            began = time.monotonic()
            answer = self.invoke("fetch_wal", {"component": self.options.component})
            self.say("backup", answer["found"], began)
        return injected

    def notice(self) -> str:
        """Fire the plan's schedules, as the clock would, until one raises the alarm."""
        began = time.monotonic()
        while time.monotonic() - began < ALARM_SECONDS:
            for what in ("wal", "watch"):
                self.cloud.fire(rule_name(self.plan, self.options.component, what))
            self.cloud.wait_idle()
            incident = self.open_incident()
            if incident:
                return incident
        raise Unavailable(
            f"no alarm came of the damage within {ALARM_SECONDS:.0f} s",
            hint="look at what the function `watch` logged",
            code="damage-unnoticed",
            lost=[why for _, _, why in self.cloud.lost],
            log=self.cloud.logs("watch")[-4000:],
        )

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        """The application's ledger against the database that it uses now."""
        health = self.application.health() if score.serves else {}
        self.application.stop()
        harm = self.injected[-1]
        self.reckoning = reckon(
            read_ledger(self.application.ledger),
            dsn=self.production.dsn(SUPERUSER, health.get("database") or self.damaged_database),
            set_aside_assets=set_aside_assets(folder),
            damaged_at=harm.at if harm.xid is not None else None,
            damaged_database=DATABASE,
        )
        wrong = wrong_with(score, self.reckoning)
        if score.serves and not health.get("healthy"):
            wrong.append(f"the application does not serve: {health}")
        return facts_of(self.reckoning), wrong


def facts_of(reckoning: Reckoning) -> tuple[Fact, ...]:
    lost = f"{len(reckoning.lost)} of {reckoning.committed:,}"
    return (
        Fact("committed rows lost", lost, "0", reckoning.ok),
        Fact("committed rows set aside, to be merged", str(reckoning.set_aside)),
    )


def set_aside_assets(folder: Path) -> set[str]:
    """The paths of assets in the set-aside file; none when nothing was set aside."""
    file = folder / "set-aside.jsonl"
    found: set[str] = set()
    for line in file.read_text().splitlines() if file.exists() else ():
        for row in json.loads(line).get("rows", ()):
            if row["table"] == "public.assets":
                found.add(str(row["row"]["path"]))
    return found


def wrong_with(score: Scorecard, reckoning: Reckoning) -> list[str]:
    checks: dict[str, Any] = {
        "the application was told of no commit, so no loss was measured": reckoning.committed > 0,
        f"committed rows are lost: {reckoning.lost}": not reckoning.lost,
        f"recovered to before the damage by too much: {reckoning.too_far}": not reckoning.too_far,
        f"the run says {score.rows_lost} rows lost, the ledger {len(reckoning.lost)}": (
            score.rows_lost == len(reckoning.lost)
        ),
    }
    return [text for text, holds in checks.items() if not holds]
