"""A person takes the decision: a moment of their own, and another run after one that failed."""

from __future__ import annotations

import json
from pathlib import Path

from tests.scenarios.stages import stage


def test_a_person_names_the_moment_and_starts_again_after_a_failure(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        incident = here.declare_run(moment="2020-01-01T00:00:00Z")
        failed = here.ended(incident)
        assert failed.error("identify")["code"] == "outside-window"

        injected = here.damage("update-without-where")
        assert here.declare_run(moment=str(injected.xid)) == incident
        second = here.declared["run"]
        assert second == f"{failed.run_id}-2"
        refused = here.run_command()
        assert refused.returncode == 1
        assert json.loads(refused.stdout)["error"]["code"] == "run-running"

        ended = here.ended(incident, second)
        assert ended.status == "SUCCEEDED"
        assert ended.outcome["outcome"] == "recovered"
        [damage] = [it for it in ended.bodies("damage") if it["xid"] == injected.xid]
        assert damage["how"] == "override"
        assert here.application.health()["healthy"]
        assert "_recovery_" in here.application.health()["database"]
