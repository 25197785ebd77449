"""A scenario that ends with a hand-over, run by the deployed package: proven first, then stored."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from chalicelib.plan.records import RecoveryTarget, parse_lsn
from chalicelib.recover.database.hand_over import read_hand_over
from tests.scenarios.stages import COMPONENT, Stage, stage, steps_of

HAND_OVER = {
    "name": "hand-over",
    "says": "Give the host its data folder",
    "uses": "database.hand-over",
    "with": {"component": COMPONENT, "target": "${identify.target}"},
}
BEFORE = ("identify", "restore", "replay", "verify")


def ends_with_hand_over(plan: dict[str, Any]) -> None:
    kept = [step for step in steps_of(plan) if step["name"] in BEFORE]
    steps_of(plan)[:] = [*kept, HAND_OVER]


def test_a_run_hands_over_what_it_has_proven(tmp_path: Path) -> None:
    with stage(tmp_path, ends_with_hand_over) as here:
        secret = here.secret()
        fall_silent(here)
        injected = here.damage("update-without-where")
        incident = here.noticed()
        here.wait_for_record(incident, "step-started", "hand-over")
        here.cloud.kill_worker("rebuild")
        ended = here.ended(incident)
        assert ended.outcome["outcome"] == "recovered"
        assert len(ended.bodies("step-started", "hand-over")) > 1
        [finished] = ended.bodies("step-finished", "hand-over")

        made = read_hand_over(here.backups, ended.run_id)
        assert made is not None
        outputs = finished["outputs"]
        assert outputs["object"].endswith(f"/{COMPONENT}/{made.archive.key}")
        content = here.backups.get(made.archive.key)
        assert hashlib.sha256(content).hexdigest() == made.archive.sha256 == outputs["sha256"]
        assert outputs["object"] in finished["found"]
        assert made.archive.sha256 in finished["found"]
        assert made.recovered_lsn < injected.commit_lsn
        assert made.target.value == str(injected.xid)

        assert here.secret() == secret
        assert not [name for name in here.databases() if "recovery" in name]
        assert here.cloud.rights()["leeward-primary-rebuild"].denied == ()

        for early in ("database.hand-over", "database.load"):
            refused = unverified(here, ended.run_id, early)
            assert refused["errorType"] == "Refused"
            assert "expected a verified recovery" in refused["errorMessage"]
        assert not [name for name in here.databases() if "recovery" in name]


def fall_silent(here: Stage) -> None:
    """Nothing is committed between the moment the schema was seen and the damage."""
    here.application.stop()
    for item in list(here.backups.list("schemas/")):
        here.backups.delete(item.key)
    here.job("watch")
    assert len(list(here.backups.list("schemas/"))) == 1


def unverified(here: Stage, run_id: str, uses: str) -> Any:
    """Of a moment that nobody has verified."""
    target = RecoveryTarget("lsn", "0/1", lsn=parse_lsn("0/1")).to_json()
    inputs = {"component": COMPONENT, "target": target}
    event = {"run_id": run_id, "step": f"early-{uses}", "uses": uses, "inputs": inputs}
    answer = here.cloud.client("lambda").invoke(
        FunctionName="leeward-primary-rebuild", Payload=json.dumps(event)
    )
    return json.loads(answer["Payload"].read())
