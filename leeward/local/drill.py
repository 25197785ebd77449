"""A scenario against real damage in the local cloud: what `leeward drill` does.

    start cloud | production + sample data | package        side by side
      -> deploy -> application writes -> backups -> damage -> the plan's schedules notice it, or a
      person declares it -> the deployed package recovers; people's steps are answered when asked
      -> what is there now against what was there before -> evidence copied and verified

This module drives; what is put up, damaged and counted for a scenario is its stage (stages/).
Nothing here or there repairs anything: it sets the stage, does the damage, watches and counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.dynamodb_state import DynamoDbState
from chalicelib.adapters.s3.store import S3ObjectStore
from chalicelib.errors import NotReady, Unavailable
from chalicelib.evidence.bundle import copy_evidence
from chalicelib.evidence.records import StoredRecords
from chalicelib.evidence.scorecard import Scorecard, score_run
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord, format_time
from leeward.commands.run import event_of
from leeward.local.cloud import PRIMARY_REGION, STANDBY_REGION, LocalCloud
from leeward.local.crew import crew_of, fresh_code, with_crew
from leeward.local.damage import Injected
from leeward.local.deploy import deploy
from leeward.local.glance import count_keys, is_running
from leeward.local.iam import Rights
from leeward.local.inbox import Inbox
from leeward.local.ledger import Reckoning
from leeward.packaging.package import build_package
from leeward.packaging.template import machine_id

RECOVERY_SECONDS = 300.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class DrillOptions:
    """`component`: what the scenario is about, "" when it is about a site. `projects`: rows of
    sample data (four assets each). `rate`: transactions a second.

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


@dataclass(frozen=True)
class Fact:
    """A row of the result: what was measured against what was promised; `met` None: told alone."""

    name: str
    measured: str
    promised: str = ""
    met: bool | None = None


@dataclass
class DrillResult:
    """`reckoning`: the application's ledger against its database, where the scenario has one.

    `injected`: what was damaged. `facts`: what else the stage counted. `problems`: why it is not
    ok. `rights`: what each function may do and did; `seconds`: of the whole drill.
    """

    score: Scorecard
    injected: tuple[Injected, ...]
    folder: Path
    seconds: float
    rights: dict[str, Rights]
    reckoning: Reckoning | None = None
    facts: tuple[Fact, ...] = ()
    problems: list[str] = field(default_factory=list)


class Drill:
    """One drill; `run` does it once. `tell` hears of everything, in order, from any thread.

    A stage is a subclass: it names its `damages`, the default one first, and fills in
    `start_parts`, `prepare`, `harm`, `notice` and `count`.
    """

    damages: ClassVar[tuple[str, ...]] = ()
    reckoning: Reckoning | None = None
    recovery_seconds: ClassVar[float] = RECOVERY_SECONDS

    def __init__(self, plan: Plan, options: DrillOptions, tell: Callable[[Told], None]) -> None:
        self.plan = plan
        self.options = options
        self._tell = tell
        self._answered: set[tuple[str, str, str]] = set()

    @classmethod
    def accepts(cls, plan: Plan, scenario: str) -> bool:
        """Whether this is the stage for the scenario."""
        raise NotImplementedError  # each stage says it; the other hooks may be left as they are

    def start_parts(self, stack: ExitStack, deploying: Future[None]) -> None:
        """Start production; what needs the deployment waits for `deploying`."""

    def prepare(self) -> None:
        """Take the backups that the recovery will need."""

    def harm(self) -> tuple[Injected, ...]:
        """Do the damage named in the options; what was done."""
        raise NotImplementedError  # each stage does its own

    def notice(self) -> str:
        """The incident that comes of it; by default a person declares the scenario."""
        return self.declare(f"drill: {self.options.damage}")

    def count(self, score: Scorecard, folder: Path) -> tuple[tuple[Fact, ...], list[str]]:
        """What is there now against what was there before: rows to show, and what is wrong."""
        return (), []

    def run(self, linger: Callable[[DrillResult], None] = lambda _: None) -> DrillResult:
        """One drill. `linger`: called with what came of it while everything still runs.

        Raises:
            LeewardError: the stage could not be set, or no alarm came of the damage.
        """
        started = time.monotonic()
        with ExitStack() as stack:
            self.set_stage(stack)
            self.prepare()
            injected = self.harm()
            score = self.follow(self.notice())
            result = self._result(score, injected, started)
            linger(result)
            return result

    @property
    def region(self) -> str:
        """Where the scenario's run runs."""
        in_standby = self.plan.runs_in_standby(self.options.scenario)
        return STANDBY_REGION if in_standby else PRIMARY_REGION

    def set_stage(self, stack: ExitStack) -> None:
        began = time.monotonic()
        self.cloud = stack.enter_context(self.open_cloud())
        with ThreadPoolExecutor(2) as side_by_side:
            deploying = side_by_side.submit(self._deploy)
            self.start_parts(stack, deploying)
            deploying.result()
        self._open_inbox(stack)
        regions = "both regions" if self.deployed.standby else "two regions"
        self.say("cloud", f"local AWS at {self.cloud.url}, {regions}, package deployed", began)

    def open_cloud(self) -> LocalCloud:
        return LocalCloud(schedules=False)

    def _deploy(self) -> None:
        package = build_package(with_crew(self.plan), self.cloud.folder / "package")
        standby = self.plan.runs_in_standby(self.options.scenario)
        self.deployed = deploy(self.cloud, package, standby=standby)
        here = self.deployed.standby or self.deployed
        self.names = here.names
        self._evidence_bucket = here.outputs["EvidenceBucket"]
        self.evidence = S3ObjectStore(self.cloud.client("s3", self.region), self._evidence_bucket)
        self.records = StoredRecords(self.evidence, SystemClock())

    def _open_inbox(self, stack: ExitStack) -> None:
        """What Leeward tells people arrives there."""
        self.inbox = stack.enter_context(Inbox())
        for region in self.cloud.regions:
            mail = self.cloud.client("sesv2", region)
            self.inbox.store_logins(self.cloud.client("secretsmanager", region), self.plan, mail)

    def declare(self, reason: str, *, moment: str | None = None, drill: bool = False) -> str:
        """A person starts the scenario, as `leeward run` does."""
        now = format_time(datetime.now(UTC))
        detail = {"scenario": self.options.scenario, "reason": reason, "by": "drill", "at": now,
                  "moment": moment, "drill": drill}  # fmt: skip
        answer = self.invoke("on_alarm", event_of(detail, now))
        return str(answer["incident"])

    def open_incident(self) -> str:
        """The newest incident, "" when there is none."""
        names = {listed.key.split("/")[0] for listed in self.evidence.list("inc-")}
        return max(names, default="")

    def follow(self, incident: str) -> Scorecard:
        """Tell of each record as it appears, answer what people are asked, until the run has ended
        and its bundle is sealed."""
        deadline = time.monotonic() + self.recovery_seconds
        chain: list[EvidenceRecord] = []
        known, kept = 0, -1
        while time.monotonic() < deadline:
            if kept != (kept := count_keys(self._evidence_bucket)):
                chain = self.records.read(incident)
            for record in chain[known:]:
                self._tell(Told("record", record.kind, record=record))
                if record.kind == "asked":
                    self.answer(record)
            known = len(chain)
            if chain and self._ended(chain[-1].run_id):
                return score_run(incident, self.records.read(incident))
            time.sleep(POLL_SECONDS)
        raise Unavailable(
            f"the run had not ended after {self.recovery_seconds:.0f} s",
            hint="the records tell how far it came",
            code="run-unfinished",
            last=chain[-1].kind if chain else "",
        )

    def answer(self, asked: EvidenceRecord) -> None:
        """Do what a person is asked, at once: the drill's own people are awake.

        By the function that hears everybody, each with a one-time code.
        """
        kind = asked.body["kind"]
        question = (asked.run_id, asked.step, kind)
        if question in self._answered:
            return
        self._answered.add(question)
        decision = "approve" if kind == "approve" else "done"
        for person in crew_of(self.plan)[: int(asked.body.get("count") or 1)]:
            self._say(asked, decision, person)
        self._tell(Told("person", f"{asked.step}: {asked.body['says']}"))

    def _say(self, asked: EvidenceRecord, decision: str, person: str) -> None:
        kms, key = self.cloud.client("kms", self.region), self.names["FactorKey"]
        answer = {
            "run_id": asked.run_id,
            "step": asked.step,
            "decision": decision,
            "by": person,
            "code": fresh_code(person, state=self.state(), kms=kms, key=key),
            "reason": "by the drill",
            "key": f"{asked.digest}/{person}",
        }
        said = self.invoke("answer", answer)
        if "error" in said:
            raise NotReady(
                f"{person} was refused at {asked.step}: {said['error']['message']}",
                hint=said["error"]["hint"],
                code="answer-refused",
            )

    def state(self) -> DynamoDbState:
        client = self.cloud.client("dynamodb", self.region)
        return DynamoDbState(client, self.names["StateTable"])

    def _ended(self, run_id: str) -> bool:
        if not run_id:
            return False
        machine = self.names[machine_id(self.options.scenario)]
        arn = machine.replace(":stateMachine:", ":execution:") + f":{run_id}"
        return not is_running(arn)

    def _result(
        self, score: Scorecard, injected: tuple[Injected, ...], started: float
    ) -> DrillResult:
        folder = copy_evidence(score.incident, self.evidence, self.options.out / score.incident)
        facts, wrong = self.count(score, folder)
        result = DrillResult(
            score,
            injected,
            folder,
            round(time.monotonic() - started, 3),
            self.cloud.rights(),
            self.reckoning,
            facts,
        )
        result.problems = [*problems_of(result), *wrong]
        return result

    def invoke(
        self, function: str, event: dict[str, Any], *, region: str | None = None
    ) -> dict[str, Any]:
        """Call a function of the stack where the scenario runs, or of the other region's."""
        region = region or self.region
        stage = "primary" if region == PRIMARY_REGION else "standby"
        answer = self.cloud.client("lambda", region).invoke(
            FunctionName=f"leeward-{stage}-{function}", Payload=json.dumps(event)
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

    def say(self, kind: str, text: str, began: float) -> None:
        self._tell(Told(kind, text, round(time.monotonic() - began, 3)))


def problems_of(result: DrillResult) -> list[str]:
    """Why the run did not succeed; empty when it did. What is not known counts against it."""
    score = result.score
    denied = {name: rights.denied for name, rights in result.rights.items() if rights.denied}
    checks = {
        f"the run ended as {score.outcome}": score.outcome == "recovered",
        "the recovered data is not proven": score.proven,
        f"RTO {score.rto_seconds} s is not within the objective": score.rto_met is True,
        f"RPO {score.rpo_seconds} s is not within the objective": score.rpo_met is True,
        f"rights were lacking: {denied}": not denied,
    }
    lost = [f"not recovered: {it}" for it in score.not_recovered]
    return [*(text for text, holds in checks.items() if not holds), *lost]
