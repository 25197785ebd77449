"""A scenario against real damage in the local cloud: what `leeward drill` does.

    start cloud | production + sample data | package        side by side
      -> deploy -> application writes -> backups -> damage -> the plan's schedules notice it
      -> alarm -> the deployed package recovers, nobody touches it
      -> the application's ledger against what it has now -> evidence copied and verified

Nothing here repairs anything: it sets the stage, does the damage, watches and counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.s3_store import S3ObjectStore
from chalicelib.errors import CheckFailed, NotReady, Unavailable
from chalicelib.evidence.bundle import copy_evidence
from chalicelib.evidence.records import StoredRecords
from chalicelib.evidence.scorecard import Scorecard, score_run
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord
from leeward.local.application import Application
from leeward.local.cloud import LocalCloud
from leeward.local.damage import DAMAGES, Injected, Victim
from leeward.local.deploy import deploy
from leeward.local.iam import Rights
from leeward.local.ledger import Reckoning, read_ledger, reckon
from leeward.local.locations import create_application_buckets, start_locations
from leeward.local.production import APPLICATION, DATABASE, SUPERUSER, Production, store_secrets
from leeward.local.sample_app import create_schema
from leeward.package import build_package
from leeward.template import machine_id
from leeward.template_parts import rule_name

ALARM_SECONDS = 60.0
RECOVERY_SECONDS = 300.0
POLL_SECONDS = 0.1
# These leave the data whole and take a way to recover it: something must go wrong after them.
DAMAGES_TO_BACKUPS = ("wal-segment", "backup-object")
DEFAULT_DAMAGE = "update-without-where"


@dataclass(frozen=True)
class DrillOptions:
    """`projects`: rows of sample data (four assets each). `rate`: transactions a second.

    `other_clouds`: start an emulator of each location outside AWS, where it is installed.
    """

    scenario: str
    component: str
    damage: str
    out: Path
    projects: int = 20_000
    rate: float = 50.0
    other_clouds: bool = False


@dataclass(frozen=True)
class Told:
    """One thing that happened, for whoever watches. `seconds`: how long it took, if it did."""

    kind: str
    text: str
    seconds: float | None = None
    record: EvidenceRecord | None = None


@dataclass
class DrillResult:
    """`reckoning`: the application's ledger against its database; `problems`: why it is not ok.

    `rights`: what each function may do and did; `seconds`: of the whole drill.
    """

    score: Scorecard
    reckoning: Reckoning
    injected: tuple[Injected, ...]
    folder: Path
    seconds: float
    rights: dict[str, Rights]
    problems: list[str] = field(default_factory=list)


class Drill:
    """One drill; `run` does it once. `tell` hears of everything, in order, from any thread."""

    def __init__(self, plan: Plan, options: DrillOptions, tell: Callable[[Told], None]) -> None:
        self.plan = plan
        self.options = options
        component = plan.components[options.component]
        assert component.kind == "postgres"
        self.database = component
        self._tell = tell

    def run(self) -> DrillResult:
        """Raises LeewardError when the stage could not be set or no alarm came of the damage."""
        started = time.monotonic()
        with ExitStack() as stack:
            self._set_stage(stack)
            self._take_backups()
            injected = self._do_damage()
            incident = self._wait_for_incident()
            score = self._follow(incident)
            return self._reckon(score, injected, started)

    def _set_stage(self, stack: ExitStack) -> None:
        began = time.monotonic()
        self.cloud = stack.enter_context(LocalCloud(schedules=False))
        self.production = Production(self.cloud.folder / "production", self.cloud.reaper)
        stack.callback(self.production.stop)
        with ThreadPoolExecutor(2) as side_by_side:
            production = side_by_side.submit(self._start_production)
            package = side_by_side.submit(build_package, self.plan, self.cloud.folder / "package")
            production.result()
            self.deployed = deploy(self.cloud, package.result())
        store_secrets(
            self.cloud.client("secretsmanager"),
            self.production,
            operator=self.database.operator_secret,
            application=self.database.application_secret,
        )
        create_application_buckets(self.cloud, self.plan)
        self.others = start_locations(self.cloud, self.plan) if self.options.other_clouds else {}
        self._say("cloud", f"local AWS at {self.cloud.url}, two regions, package deployed", began)
        self._open_stores()
        self.application = Application(
            self.cloud, self.database.application_secret, rate=self.options.rate
        )
        stack.callback(self.application.stop)
        began = time.monotonic()
        self.application.start()
        self._say("application", f"the sample application writes, {self.application.url}", began)

    def _start_production(self) -> None:
        began = time.monotonic()
        self.production.start()
        create_schema(self.production.dsn(APPLICATION), projects=self.options.projects)
        rows = f"{self.options.projects:,} projects, {self.options.projects * 4:,} assets"
        self._say("production", f"PostgreSQL 17 on port {self.production.port}, {rows}", began)

    def _open_stores(self) -> None:
        client = self.cloud.client("s3")
        outputs = self.deployed.names
        prefix = f"{self.options.component}/"
        self.backups = S3ObjectStore(client, outputs["BackupBucket"], prefix)
        self.evidence = S3ObjectStore(client, outputs["EvidenceBucket"])
        self.records = StoredRecords(self.evidence, SystemClock())

    def _take_backups(self) -> None:
        """An older full backup, a newer one, an incremental; WAL in between; the first watch."""
        component = self.options.component
        for job in ("full", "wal", "full", "incremental", "wal"):
            began = time.monotonic()
            if job == "wal":
                answer = self._invoke("fetch_wal", {"component": component})
            else:
                answer = self._invoke("back_up", {"component": component, "kind": job})
            self._say("backup", answer["found"], began)
        began = time.monotonic()
        answer = self._invoke("watch", {"component": component})
        if answer["failed"]:
            raise CheckFailed(
                f"expected a sound database before the damage: {answer['found']}",
                hint="the sample data or a check of the plan is wrong, not the drill",
                code="unsound-before",
            )
        self._say("watch", answer["found"], began)

    def _do_damage(self) -> tuple[Injected, ...]:
        names = [self.options.damage]
        if self.options.damage in DAMAGES_TO_BACKUPS:
            names.append(DEFAULT_DAMAGE)
        return tuple(self._inject(name) for name in names)

    def _inject(self, name: str) -> Injected:
        began = time.monotonic()
        victim = Victim(self.production.dsn(SUPERUSER), self.production.data_dir, self.backups, "")
        injected = DAMAGES[name](victim)
        self._say("damage", f"{name}: {injected.what}", began)
        if name == "wal-segment":
            began = time.monotonic()
            answer = self._invoke("fetch_wal", {"component": self.options.component})
            self._say("backup", answer["found"], began)
        return injected

    def _wait_for_incident(self) -> str:
        """Fire the plan's schedules, as the clock would, until one raises the alarm."""
        began = time.monotonic()
        while time.monotonic() - began < ALARM_SECONDS:
            for what in ("wal", "watch"):
                self.cloud.fire(rule_name(self.plan, self.options.component, what))
            self.cloud.wait_idle()
            incident = self._open_incident()
            if incident:
                return incident
        raise Unavailable(
            f"no alarm came of the damage within {ALARM_SECONDS:.0f} s",
            hint="look at what the function `watch` logged",
            code="damage-unnoticed",
            lost=[why for _, _, why in self.cloud.lost],
            log=self.cloud.logs("watch")[-4000:],
        )

    def _open_incident(self) -> str:
        names = {listed.key.split("/")[0] for listed in self.evidence.list("inc-")}
        return max(names, default="")

    def _follow(self, incident: str) -> Scorecard:
        """Tell of each record as it appears, until the run has ended and its bundle is sealed."""
        deadline = time.monotonic() + RECOVERY_SECONDS
        known = 0
        while time.monotonic() < deadline:
            chain = self.records.read(incident)
            for record in chain[known:]:
                self._tell(Told("record", record.kind, record=record))
            known = len(chain)
            if self._ended(chain[-1].run_id):
                return score_run(incident, self.records.read(incident))
            time.sleep(POLL_SECONDS)
        raise Unavailable(
            f"the run had not ended after {RECOVERY_SECONDS:.0f} s",
            hint="the records tell how far it came",
            code="run-unfinished",
            last=chain[-1].kind,
        )

    def _ended(self, run_id: str) -> bool:
        if not run_id:
            return False
        machine = self.deployed.names[machine_id(self.options.scenario)]
        arn = machine.replace(":stateMachine:", ":execution:") + f":{run_id}"
        answer = self.cloud.client("stepfunctions").describe_execution(executionArn=arn)
        return bool(answer["status"] != "RUNNING")

    def _reckon(
        self, score: Scorecard, injected: tuple[Injected, ...], started: float
    ) -> DrillResult:
        health = self.application.health() if score.outcome == "recovered" else {}
        self.application.stop()
        folder = copy_evidence(score.incident, self.evidence, self.options.out / score.incident)
        harm = injected[-1]
        reckoning = reckon(
            read_ledger(self.application.ledger),
            dsn=self.production.dsn(SUPERUSER, health.get("database") or DATABASE),
            set_aside_assets=_set_aside_assets(folder),
            damaged_at=harm.at if harm.xid is not None else None,
            damaged_database=DATABASE,
        )
        result = DrillResult(
            score,
            reckoning,
            injected,
            folder,
            round(time.monotonic() - started, 3),
            self.cloud.rights(),
        )
        result.problems = [*_problems(result), *_not_serving(health, score)]
        return result

    def _invoke(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        answer = self.cloud.client("lambda").invoke(
            FunctionName=f"leeward-primary-{function}", Payload=json.dumps(event)
        )
        body = json.loads(answer["Payload"].read())
        if "FunctionError" in answer:
            raise NotReady(
                f"{function} failed: {body.get('errorType')}: {body.get('errorMessage')}",
                hint="its log is in this error's context",
                code="function-failed",
                log=self.cloud.logs(function)[-4000:],
            )
        return dict(body)

    def _say(self, kind: str, text: str, began: float) -> None:
        self._tell(Told(kind, text, round(time.monotonic() - began, 3)))


def _set_aside_assets(folder: Path) -> set[str]:
    """The paths of assets in the set-aside file; none when nothing was set aside."""
    file = folder / "set-aside.jsonl"
    found: set[str] = set()
    for line in file.read_text().splitlines() if file.exists() else ():
        for row in json.loads(line).get("rows", ()):
            if row["table"] == "public.assets":
                found.add(str(row["row"]["path"]))
    return found


def _problems(result: DrillResult) -> list[str]:
    """Why the drill did not succeed; empty when it did. What is not known counts against it."""
    score, reckoning = result.score, result.reckoning
    denied = {name: rights.denied for name, rights in result.rights.items() if rights.denied}
    checks = {
        f"the run ended as {score.outcome}": score.outcome == "recovered",
        "the recovered data is not proven": score.proven,
        f"RTO {score.rto_seconds} s is not within the objective": score.rto_met is True,
        f"RPO {score.rpo_seconds} s is not within the objective": score.rpo_met is True,
        f"rights were lacking: {denied}": not denied,
        f"committed rows are lost: {reckoning.lost}": not reckoning.lost,
        f"recovered to before the damage by too much: {reckoning.too_far}": not reckoning.too_far,
        f"the run says {score.rows_lost} rows lost, the ledger {len(reckoning.lost)}": (
            score.rows_lost == len(reckoning.lost)
        ),
    }
    return [text for text, holds in checks.items() if not holds]


def _not_serving(health: dict[str, Any], score: Scorecard) -> list[str]:
    if score.outcome == "recovered" and not health.get("healthy"):
        return [f"the application does not serve: {health}"]
    return []
