"""The stage of a drill, for tests that act on it themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.step_functions import StepFunctions
from chalicelib.incidents.incident import Desk, Incident, start_run
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord
from chalicelib.ports import ObjectStore
from leeward.local.drill import DrillOptions
from leeward.local.production import APPLICATION, SUPERUSER
from leeward.local.stages.database import DatabaseDrill
from leeward.packaging.template import machine_id
from tests.clouds import ended, wait_for
from tests.scenarios.drills import PLAN, SCENARIO, load_runnable

COMPONENT = "nexus-db"
RUN_SECONDS = 120.0


@dataclass(frozen=True)
class Ended:
    """A run that is over. `status` is Step Functions'."""

    run_id: str
    status: str
    records: list[EvidenceRecord]

    def bodies(self, kind: str, step: str = "") -> list[dict[str, Any]]:
        """Of this run's records, and of those that belong to none."""
        return [
            it.body
            for it in self.records
            if it.kind == kind and it.run_id in ("", self.run_id) and step in ("", it.step)
        ]

    @property
    def outcome(self) -> dict[str, Any]:
        [found] = self.bodies("run-finished")
        return found

    def error(self, step: str) -> dict[str, Any]:
        return self.bodies("step-failed", step)[-1]


class Stage(DatabaseDrill):
    """A drill whose acts are called one by one; everything runs until the test ends."""

    def open_on(self, stack: ExitStack) -> None:
        self.set_stage(stack)
        self.prepare()

    def damage(self, name: str) -> Any:
        return self.inject(name)

    def job(self, function: str) -> dict[str, Any]:
        return self.invoke(function, {"component": COMPONENT})

    def noticed(self) -> str:
        """The incident that the plan's schedules and alarm open."""
        return self.notice()

    @property
    def desk(self) -> Desk:
        client = self.cloud.client
        state = DynamoDbState(client("dynamodb"), self.deployed.names["StateTable"])
        machine = self.deployed.names[machine_id(SCENARIO)]
        workflows = StepFunctions(lambda: client("stepfunctions"), machine.removesuffix(SCENARIO))
        return Desk(state, self.records, workflows, SystemClock())

    def declare_run(self, *, moment: str | None = None) -> str:
        """A person starts the scenario with `leeward run`, and may name the moment."""
        done = self.run_command(moment=moment)
        assert done.returncode == 0, done.stdout + done.stderr
        self.declared: dict[str, str] = json.loads(done.stdout)
        return self.declared["incident"]

    def run_command(self, *, moment: str | None = None) -> subprocess.CompletedProcess[str]:
        more = ["--moment", moment] if moment else []
        return subprocess.run(
            [
                str(Path(sys.executable).with_name("leeward")), "run", SCENARIO,
                "--plan", str(PLAN), "--reason", "a person says so", "--format", "json", *more,
            ],
            env=os.environ | self.cloud.environment(),
            capture_output=True,
            text=True,
        )  # fmt: skip

    def start_another(self) -> str:
        """A second run of the scenario, as nothing but a person's hand could start it."""
        now = datetime.now(UTC)
        incident = Incident(
            f"inc-{now:%Y%m%dT%H%M%SZ}-by-hand", COMPONENT, SCENARIO, "SEV1", "by-hand", now, now
        )
        start_run(incident, run_body={}, desk=self.desk)
        return incident.id

    def ended(self, incident: str, run_id: str = "") -> Ended:
        """Waits for the incident's first run to end, or for the one that is named."""
        run_id = run_id or "run-" + incident.removeprefix("inc-")
        machine = self.deployed.names[machine_id(SCENARIO)]
        arn = machine.replace(":stateMachine:", ":execution:") + f":{run_id}"
        found = wait_for(
            lambda: ended(self.cloud, arn), f"{run_id} did not end", seconds=RUN_SECONDS
        )
        return Ended(run_id, found["status"], self.records.read(incident))

    def answer_step(self, incident: str, step: str) -> None:
        """Do a person's step, once it has been asked for."""
        run_id = "run-" + incident.removeprefix("inc-")
        question = wait_for(
            lambda: self.desk.state.get(f"run#{run_id}", f"question#do#{step}"),
            f"{step} was never asked for",
            seconds=RUN_SECONDS,
        )
        output = json.dumps({"found": "done", "answer": "done", "by": "a test"})
        self.cloud.client("stepfunctions").send_task_success(
            taskToken=question["token"], output=output
        )

    def secret(self) -> str:
        """What the application reads."""
        found = self.cloud.client("secretsmanager").get_secret_value(
            SecretId=self.database.application_secret
        )
        return str(found["SecretString"])

    def is_fenced(self) -> bool:
        with psycopg.connect(self.production.dsn(SUPERUSER)) as connection:
            rows = connection.execute(
                "SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (APPLICATION,)
            ).fetchall()
        return rows == [(False,)]

    def databases(self) -> set[str]:
        with psycopg.connect(self.production.dsn(SUPERUSER)) as connection:
            return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}

    def wait_for_record(self, incident: str, kind: str, step: str = "") -> EvidenceRecord:
        def look() -> EvidenceRecord | None:
            chain = self.records.read(incident)
            found = [it for it in chain if it.kind == kind and step in ("", it.step)]
            assert found or chain[-1].kind != "run-finished", chain[-1].body
            return found[0] if found else None

        found: EvidenceRecord = wait_for(look, f"no record {kind} came", seconds=RUN_SECONDS)
        return found


@contextmanager
def stage(
    out: Path,
    change: Callable[[dict[str, Any]], None] | None = None,
    *,
    other_clouds: bool = False,
) -> Iterator[Stage]:
    """The local cloud with production, application and backups, under a changed plan.

    `change` edits the JSON of nexus-studio's plan.
    """
    data = load_runnable(PLAN, SCENARIO)[0].to_json()
    if change:
        change(data)
    options = DrillOptions(
        SCENARIO, COMPONENT, "", out, projects=1000, rate=30, other_clouds=other_clouds
    )
    made = Stage(Plan.from_json(data), options, lambda told: None)
    with ExitStack() as stack:
        made.open_on(stack)
        yield made


def steps_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = plan["scenarios"][SCENARIO]["steps"]
    return steps


def checks_of(plan: dict[str, Any]) -> dict[str, Any]:
    checks: dict[str, Any] = plan["components"][COMPONENT]["checks"]
    return checks


def overwrite_middle(store: ObjectStore, key: str) -> None:
    """One byte of an object is another, as a bad disk or a hand would have it."""
    data = bytearray(store.get(key))
    data[len(data) // 2] ^= 0xFF
    store.put(key, bytes(data))
