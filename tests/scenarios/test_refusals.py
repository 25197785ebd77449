"""Runs that must not go on, or must wait: nothing is switched, and the record says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from leeward.local.production import SUPERUSER
from tests.gates import Verdict, gate
from tests.scenarios.drills import SCENARIO
from tests.scenarios.stages import Ended, Stage, checks_of, overwrite_middle, stage, steps_of
from tests.survived import survived

# True for production, which is reached over TCP; never for a throw-away server on its socket.
ONLY_IN_PRODUCTION = {
    "name": "reached-over-tcp",
    "sql": "SELECT coalesce(inet_server_port(), 0)",
    "expect": "> 0",
}
HOLD = {"name": "hold", "says": "Wait for a person", "by": "infrastructure-engineer"}


def assert_nothing_was_switched(stage: Stage, ended: Ended, secret: str, *, at: str) -> None:
    """The run failed at a step, after the fence; the application still has its old address."""
    assert ended.status == "FAILED"
    assert ended.outcome["outcome"] == "failed"
    names = [step["name"] for step in steps_of(stage.plan.to_json())]
    for later in names[names.index(at) + 1 :]:
        assert ended.bodies("step-started", later) == [], later
    assert stage.secret() == secret
    assert stage.is_fenced()
    assert not [name for name in stage.databases() if "recovery" in name]


def test_data_that_fails_an_assertion_is_never_switched_to(tmp_path: Path) -> None:
    def demand(plan: dict[str, Any]) -> None:
        checks_of(plan)["assertions"].append(ONLY_IN_PRODUCTION)

    with stage(tmp_path, demand) as here:
        secret = here.secret()
        here.damage("update-without-where")
        ended = here.ended(here.noticed())
        assert_nothing_was_switched(here, ended, secret, at="verify")
        error = ended.error("verify")
        assert error["code"] == "recovered-data-unsound"
        assert "assertion:reached-over-tcp: expected > 0, found 0" in error["message"]
        assert "assertion:reached-over-tcp" in ended.outcome["why"]
        assert [it["ok"] for it in ended.bodies("proof")[0]["checks"]].count(False) == 1
        assert "nothing was switched" in error["hint"]


def test_what_cannot_be_recovered_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        secret = here.secret()
        too_early = here.ended(here.declare_run(moment="2020-01-01T00:00:00Z"))
        nothing_wrong = here.ended(here.start_another())
        for ended in (too_early, nothing_wrong):
            assert ended.outcome["outcome"] == "failed"
            assert ended.bodies("step-started", "stop-writes") == []
        assert not here.is_fenced()
        assert here.secret() == secret
        assert here.application.health()["healthy"]

        error = too_early.error("identify")
        assert error["code"] == "outside-window"
        [window] = error["context"]["windows"]
        assert window["start_at"] in error["message"]
        assert window["end_at"] in error["message"]

        assert nothing_wrong.error("identify")["code"] == "no-damage-found"
        [probe] = nothing_wrong.bodies("decision")
        assert probe["what"] == "the state at the end of the WAL is sound"


def test_what_cannot_be_given_back_is_refused_while_the_application_still_writes(
    tmp_path: Path,
) -> None:
    with stage(tmp_path) as here:
        with psycopg.connect(here.production.dsn(SUPERUSER), autocommit=True) as database:
            database.execute("ALTER DATABASE nexus OWNER TO CURRENT_USER")
        watched = here.job("watch")
        assert watched["failed"] == ["owners"]
        ended = here.ended(here.declare_run())
        error = ended.error("identify")
        assert error["code"] == "owner-out-of-reach"
        assert "the database of" in error["message"]
        assert ended.bodies("step-started", "stop-writes") == []
        assert not here.is_fenced()
        assert here.application.health()["healthy"]


def test_a_second_run_is_refused_while_the_first_holds_the_component(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    def hold(plan: dict[str, Any]) -> None:
        steps_of(plan).insert(2, HOLD)

    with stage(tmp_path, hold) as here:
        here.damage("update-without-where")
        first = here.noticed()
        here.wait_for_record(first, "asked", "hold")
        second = here.ended(here.start_another())
        error = second.error("stop-writes")
        assert second.outcome["outcome"] == "failed"
        assert error["code"] == "fenced"
        assert error["context"]["holder"] == f"run-{first.removeprefix('inc-')}"
        assert second.bodies("step-started", "hold") == second.bodies("asked") == []
        here.answer_step(first, "hold")
        ended = here.ended(first)
        assert ended.outcome["outcome"] == "recovered"
        assert "recovery" in here.application.health()["database"]
    record_property("survived", survived("nexus-studio", SCENARIO, "two at once", 1))


def test_when_every_backup_is_corrupt_it_says_so_and_stops(tmp_path: Path) -> None:
    with stage(tmp_path) as here:
        secret = here.secret()
        points = [it.key for it in here.backups.list("points/") if it.key.endswith("base.tar.zst")]
        assert len(points) == 3
        for key in points:
            overwrite_middle(here.backups, key)
        here.damage("delete-without-where")
        ended = here.ended(here.noticed())
        assert_nothing_was_switched(here, ended, secret, at="restore")
        error = ended.error("restore")
        assert error["code"] == "no-clean-point"
        assert len(error["context"]["rejected"]) == 3
        quarantined = {it.key for it in here.backups.list("points/") if "quarantine" in it.key}
        assert quarantined


def is_backup(method: str, path: str) -> bool:
    return method == "GET" and "/points/" in path and ".tar.zst" in path


def test_a_step_that_times_out_is_tried_again_then_failed(tmp_path: Path) -> None:
    def judge(method: str, path: str) -> Verdict:
        return "hang" if is_backup(method, path) else "pass"

    with stage(tmp_path) as here, gate(here.cloud.url, judge) as between:
        secret = here.secret()
        here.cloud.sandbox_environment["AWS_ENDPOINT_URL"] = between.url
        here.cloud.client("lambda").update_function_configuration(
            FunctionName="leeward-primary-rebuild", Timeout=2
        )
        here.damage("truncate")
        ended = here.ended(here.noticed())
        assert_nothing_was_switched(here, ended, secret, at="restore")
        assert ended.outcome["why"].startswith("Sandbox.Timedout")
        assert here.cloud.logs("rebuild").count("Task timed out after 2.00 seconds") > 2


def test_a_store_that_is_overloaded_for_a_while_is_waited_for(tmp_path: Path) -> None:
    def judge(method: str, path: str) -> Verdict:
        return "503" if is_backup(method, path) else "pass"

    with stage(tmp_path) as here, gate(here.cloud.url, judge) as between:
        here.cloud.sandbox_environment["AWS_ENDPOINT_URL"] = between.url
        here.damage("drop-table")
        incident = here.noticed()
        failed = here.wait_for_record(incident, "step-failed", "restore")
        between.open()
        ended = here.ended(incident)
        assert ended.outcome["outcome"] == "recovered"
        assert failed.body["code"] in ("throttled", "unavailable")
        assert between.stopped > 1
        assert ended.bodies("rejected-point") == [], "an overloaded store damages no backup"
        assert here.application.health()["healthy"]
