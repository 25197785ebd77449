"""A recovery whose workers die in the middle, whose alarm comes twice: the same end, one run."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from chalicelib.errors import NotReady
from chalicelib.evidence.chain import decode_record
from chalicelib.plan.records import EvidenceRecord, format_time
from chalicelib.scenarios.steps import STEP_KINDS
from leeward.local.drill import Told
from tests.scenarios.drills import SCENARIO, make_drill
from tests.scenarios.striker import Striker, undisturbed
from tests.survived import survived


def read_records(folder: Path) -> list[EvidenceRecord]:
    files = sorted((folder / "records").glob("*.json"))
    return [decode_record(file.read_bytes(), where=file.name) for file in files]


# How far into the second attempt of a step its worker is killed, when it is still at work then.
KILL_AFTER_SECONDS = 0.3


def test_every_step_survives_deaths_of_its_worker(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Each dies once at a call; and by a signal, wherever it is, once more."""
    killed: list[str] = []
    striker = Striker()
    drill = striker.drill = make_drill(tmp_path, "update-without-where", lambda told: hear(told))
    steps = {step.name: step for step in drill.plan.scenarios[SCENARIO].all_steps()}

    def hear(told: Told) -> None:
        striker.hear(told)
        record = told.record
        if record is None or record.kind != "step-started" or record.body["attempt"] != 2:
            return
        function = STEP_KINDS[steps[record.step].uses or ""].function
        threading.Thread(target=kill, args=(function, record.step)).start()

    def kill(function: str, step: str) -> None:
        time.sleep(KILL_AFTER_SECONDS)
        try:
            drill.cloud.kill_worker(function, wait_seconds=0.05)
            killed.append(step)
        except NotReady:
            return

    result = drill.run()
    assert result.problems == [], striker.said
    [struck] = striker.killed.values()
    assert {step for step, _ in struck} == set(steps)
    assert undisturbed(read_records(result.folder)) == set()
    told = survived("nexus-studio", SCENARIO, "workers killed", len(struck) + len(killed))
    record_property("survived", told)


def alarm_event(body: dict[str, Any], at: str) -> dict[str, Any]:
    """As EventBridge sends it; the incident's record holds what the alarm said."""
    state = {"value": "ALARM", "timestamp": at, "reason": body["reason"]}
    return {
        "version": "0",
        "id": "8d3f6f0a-0000-0000-0000-000000000000",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": "123456789012",
        "time": at,
        "region": "us-east-1",
        "resources": [],
        "detail": {"alarmName": body["alarm"], "state": state},
    }


def test_alarms_that_come_twice_start_one_run(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    drill = make_drill(tmp_path, "delete-without-where", lambda told: repeat(told))
    answers: list[dict[str, Any]] = []

    def repeat(told: Told) -> None:
        record = told.record
        if record is None or record.kind != "incident-opened":
            return
        same = alarm_event(record.body, record.body["alarm_at"])
        later = alarm_event(record.body, format_time(record.at))
        client = drill.cloud.client("lambda")
        with ThreadPoolExecutor(4) as at_once:
            answers.extend(at_once.map(lambda it: invoke(client, it), [same, later] * 2))

    result = drill.run()
    assert result.problems == []
    assert [answer["incidents"] for answer in answers] == [[result.score.incident]] * 4
    kinds = Counter(told_record.kind for told_record in read_records(result.folder))
    assert (kinds["incident-opened"], kinds["run-started"], kinds["alarm-joined"]) == (1, 1, 1)
    told = survived("nexus-studio", SCENARIO, "alarm again", len(answers))
    record_property("survived", told)
    # It was well in between, as the alarm's own states would say, and rose again.
    record_property("survived", survived("nexus-studio", SCENARIO, "flapping", len(answers) // 2))


def invoke(client: Any, event: dict[str, Any]) -> dict[str, Any]:
    answer = client.invoke(
        FunctionName="leeward-primary-on_alarm", Payload=json.dumps(event).encode()
    )
    body: dict[str, Any] = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, body
    return body
