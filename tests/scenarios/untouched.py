"""What is production's in the local cloud, as one value: equal before and after a drill.

All of AWS is read (untouched_aws.py) and every server, host and cluster that a test names
(untouched_machines.py); `MAY_CHANGE` says what of it a drill leaves behind, and why. What stands in
for production in drills is read too: a drill leaves that as it was, but for its history.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chalicelib.evidence.scorecard import Scorecard, score_run
from chalicelib.plan.components import Infrastructure, Redis, Server
from chalicelib.plan.model import Plan
from chalicelib.plan.records import EvidenceRecord
from leeward.local.cloud import LocalCloud
from leeward.local.crew import crew_of
from leeward.local.drill import Drill
from leeward.local.infrastructure import state_bucket
from leeward.local.kubernetes.server import LocalKubernetes
from leeward.local.other_clouds import OtherCloud
from leeward.local.production import Production
from tests.clouds import wait_for
from tests.drilled import FAILED, WHOLE, drilled
from tests.scenarios.striker import clean_ups_struck
from tests.scenarios.untouched_aws import differences, everything, leaves, tables
from tests.scenarios.untouched_machines import (
    cluster_state,
    copies_state,
    host_state,
    redis_state,
    server_state,
)

State = dict[str, Any]


@dataclass(frozen=True)
class Allowed:
    """`where`: the path of a value (untouched_aws.leaves), a regular expression; {stand_in} and the
    others of `_known` are the plan's. how: ADDED, or ANY change."""

    where: str
    why: str
    how: str = ": .*"


ADDED = ": 'absent' -> '[0-9a-f]{64}'"
DELETED = ": 'absent' -> 'deleted'"
# A drill's incident and run end so, and no other.
DRILL = "[0-9TZ]+-[a-z-]+-drill(-[0-9]+)?"
ROW = "dynamodb [^/]* / [^ ]*StateTable"
EVIDENCE, BACKUPS, SWITCHES, STATUS = (
    f"s3 / leeward-{name}[^/]* / objects"
    for name in ("evidencebucket", "backupbucket", "switch", "status")
)
PARTIAL = "wal/[0-9A-F]+/[0-9A-F]+[.][0-9A-F]+[.]partial[.]zst"
MAY_CHANGE = (
    Allowed(f"{EVIDENCE} / (people-)?inc-{DRILL}/.*", "the drill's records and report", ADDED),
    Allowed(f"{EVIDENCE} / (exercises|restore-tests)/.*", "what an exercise found", ADDED),
    Allowed(f"{ROW} run#run-{DRILL} .*", "what the drill's run needs of itself"),
    Allowed(f"{ROW} incidents (open#.*-drill|inc-{DRILL})", "the drill's own incident"),
    Allowed(f"{ROW} signals .*-drill(-[0-9]+)?", "by which signal the drill was opened"),
    Allowed(f"{ROW} exercises .*", "which exercise was begun when, and how it ended"),
    Allowed(f"{ROW} (told|told-notices|thread|escalation|review)#inc-{DRILL} .*",
            "who was told of the drill"),
    Allowed(f"{ROW} (outbox|notices) inc-{DRILL}#.*", "who is to be told of the drill"),
    # Leeward's own alarms go on: schedules that do not run here are silent.
    Allowed(f"{ROW} (alarms|alarm-bursts|alarms-looked) .*", "which alarms are raised"),
    Allowed(f"{ROW} (told|thread)#alarm-.* .*", "who was told of an alarm"),
    Allowed(f"{ROW} outbox alarm-.*", "who is to be told of an alarm"),
    Allowed(f"{EVIDENCE} / people-alarm-[^/]*/.*", "that they were told", ADDED),
    Allowed(f"{ROW} factor#.* (tries|totp)", "the codes by which people answered"),
    Allowed(f"{ROW} fence#{{stand_in}} fence", "how often what stands in was held: it grows"),
    Allowed(f"{ROW} isolation#{{stand_in}} .*", "what was shut there, and opened again"),
    # What a run reads is production's own newest WAL, which it stores first, as the schedule does.
    Allowed(f"{ROW} catalogue#[^ ]* wal", "how far the stored WAL goes"),
    Allowed(f"{BACKUPS} / [^/]*/wal/.*", "WAL that was not stored yet", ADDED),
    Allowed(f"{BACKUPS} / [^/]*/{PARTIAL} .*", "a part of a segment that another goes on", DELETED),
    Allowed(f"{BACKUPS} / [^/]*/relations/.*", "the names of tables in that WAL", ADDED),
    Allowed(f"{BACKUPS} / [^/]*/points/[^/]*/proof[.]json .*", "a point that restores", ADDED),
    Allowed("copies / [^/]* / [^/]*/points/[^/]*/proof[.]json", "a point that restores from there"),
    Allowed(f"{BACKUPS} / _transit/run-{DRILL}/.*",
            "what a drill's servers handed to each other: the bucket removes it after a day"),
    Allowed("secretsmanager [^/]* / {secret} / (value|versions / .*)",
            "the login of a stand-in, led elsewhere and back"),
    Allowed("s3 / {trail} / objects / .*", "the trail tells what was done in the drill too"),
    Allowed("s3 / {state} / objects / (env:/drill-|outputs/drill-).*",
            "the state of what a drill made and destroyed"),
    Allowed(f"{SWITCHES} / (switch|history)/{{stand_in}}[ /].*", "where names for drills led"),
    Allowed(f"{STATUS} / drills?/.*", "the page that shows drills alone"),
    Allowed("ec2 [^/]* / snapshots / {server} .*", "what an isolation kept of what stands in"),
    Allowed("ec2 [^/]* / instances / {server} [^/]* / PublicIpAddress",
            "EC2 gives a server that was stopped another one"),
)  # fmt: skip


# Values of the emptiest stage.
MANY = 500


def state_of(
    cloud: LocalCloud,
    plan: Plan,
    *servers: Production,
    hosts: Sequence[str] = (),
    caches: Sequence[str] = (),
    clusters: Sequence[LocalKubernetes] = (),
    others: dict[str, OtherCloud] | None = None,
) -> State:
    """Path -> value of all that a drill must leave alone. Nobody may be writing."""
    found: State = everything(cloud)
    found["servers"] = {str(one.port): server_state(one) for one in servers}
    found["hosts"] = {host: host_state(cloud, host) for host in hosts}
    found["caches"] = {name: redis_state(_address(cloud, plan, name)) for name in caches}
    found["clusters"] = {one.cluster: cluster_state(one) for one in clusters}
    found["copies"] = {
        name: copies_state(one, str(plan.locations[name].bucket))
        for name, one in (others or {}).items()
    }
    return dict(leaves(found))


def _address(cloud: LocalCloud, plan: Plan, name: str) -> str:
    """Of a Redis, from its secret at home."""
    found = plan.components[name]
    assert isinstance(found, Redis)
    secret = cloud.client("secretsmanager").get_secret_value(SecretId=found.secret)
    return str(json.loads(secret["SecretString"])["url"])


def _allowed(plan: Plan) -> re.Pattern[str]:
    text = "|".join(f"(?:{it.where}{it.how})" for it in MAY_CHANGE)
    for name, words in _known(plan).items():
        text = text.replace(f"{{{name}}}", _one_of(words))
    return re.compile(text, re.DOTALL)


def _known(plan: Plan) -> dict[str, list[str]]:
    """What the plan calls things of stand-ins, and where it lets others write."""
    components = [plan.components[name] for name in drill_stand_ins(plan)]
    fields = ("operator_secret", "application_secret", "secret")
    return {
        "stand_in": sorted(drill_stand_ins(plan)),
        "server": [it.instance for it in components if isinstance(it, Server)],
        "secret": [str(found) for it in components for field in fields
                   if (found := getattr(it, field, None))],
        "trail": [plan.trail.bucket] if plan.trail else [],
        "state": [state_bucket(it) for it in plan.components.values()
                  if isinstance(it, Infrastructure)],
    }  # fmt: skip


def _one_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(re.escape, words)) or 'none'})"


def drill_stand_ins(plan: Plan) -> frozenset[str]:
    """The components that only drills act on."""
    return frozenset(
        component.stand_ins["drill"]
        for component in plan.components.values()
        if "drill" in component.stand_ins
    )


def changed(plan: Plan, before: State, after: State) -> list[str]:
    """A line for each value that is another and may not be."""
    allowed = _allowed(plan)
    lines = differences(before.items(), after.items())
    return [line for line in lines if not allowed.fullmatch(line)]


Drills = dict[str, tuple[str, str, int]]


def drills_of(cloud: LocalCloud) -> Drills:
    """Id of each run that was a drill -> its scenario, how it ended ("drill", "failed step", ""
    while neither), how many steps that it had done were taken back."""
    rows: dict[str, dict[str, Any]] = {}
    for region in cloud.regions:
        for text in tables(cloud, region).values():
            row = json.loads(text)
            rows.setdefault(row["pk"]["S"], {})[row["sk"]["S"]] = row["item"]["M"]
    return {
        key.removeprefix("run#"): _drill_of(items)
        for key, items in rows.items()
        if key.startswith("run#") and items.get("run", {}).get("drill", {}).get("BOOL")
    }


def _drill_of(items: dict[str, Any]) -> tuple[str, str, int]:
    done = {name.removeprefix("step#") for name in items if name.startswith("step#")}
    back = {name.removeprefix("undone#") for name in items if name.startswith("undone#")}
    status = items["run"]["status"]["S"]
    how = {"recovered": WHOLE, "partial": WHOLE, "failed": FAILED}.get(status, "")
    return items["run"]["scenario"]["S"], how, len(done & back)


def drill_of(stage: Drill, reason: str) -> tuple[Scorecard, list[EvidenceRecord]]:
    """A drill of the stage's scenario, to its end, and its own records: after one that failed the
    next is of the same incident."""
    known = set(drills_of(stage.cloud))
    incident = stage.declare(reason, drill=True)
    [run] = set(drills_of(stage.cloud)) - known

    def followed() -> bool:
        stage.follow(incident)
        return bool(drills_of(stage.cloud)[run][1])

    wait_for(followed, f"{run} did not end", seconds=600)
    chain = stage.records.read(incident)
    return score_run(incident, chain, run_id=run), [it for it in chain if it.run_id == run]


class Declining(Drill):
    """A stage where somebody declines the step `declined`, so that the run fails there."""

    declined = ""

    @contextmanager
    def declining(self, step: str) -> Iterator[None]:
        self.declined = step
        try:
            yield
        finally:
            self.declined = ""

    def answer(self, asked: EvidenceRecord) -> None:
        question = (asked.run_id, asked.step, asked.body["kind"])
        if asked.step == self.declined and question not in self._answered:
            self._answered.add(question)
            self._say(asked, "decline", crew_of(self.plan)[0])
        super().answer(asked)


@dataclass
class Untouched:
    """What a marked test is given: see tests/drilled.py. `claims`: (plan, scenario, how)."""

    claims: list[tuple[str, str, str]]
    tell: Callable[[str, str], None]

    @contextmanager
    def __call__(self, stage: Drill, read: Callable[[], State]) -> Iterator[None]:
        """The drills inside leave what `read` gives as it was, and are those that are claimed; and
        that though the worker of each undo dies twice, and the one that ends the run."""
        known, before = drills_of(stage.cloud), read()
        assert len(before) > MANY, "too little was read to be all of production"
        with clean_ups_struck(stage) as striker:
            yield
        after = read()
        wrong = changed(stage.plan, before, after)
        assert not wrong, "\n".join(("not as it was:", *wrong))
        new = {run: it for run, it in drills_of(stage.cloud).items() if run not in known}
        for scenario, how, taken_back in new.values():
            claim = (stage.plan.name, scenario, how)
            assert claim in self.claims, f"{claim} is not what the test is marked with"
            assert taken_back, f"{claim}: nothing was made and taken back, which proves nothing"
            self.claims.remove(claim)
            self.tell("untouched", drilled(*claim, taken_back))
            self.tell("survived", striker.told(stage.plan.name, scenario))
