"""Artist Tech: a corrupted database and a lost server, recovered by the deployed package.

The rights of the functions that act on servers are held against what the recoveries needed.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chalicelib.plan.records import EvidenceRecord
from leeward.commands.drill import load_runnable
from leeward.local.drill import DrillOptions, DrillResult, Told
from tests.commands import ARTIST
from tests.grants import RECORDS_READ

# What these recoveries do not need, and why it is granted all the same.
RARE = {
    "ec2:StartInstances": "a drill gives back what it isolated",
    "ec2:TerminateInstances": "a drill ends the server that it launched",
    "iam:PassRole": "the profile that a launch template names; AWS asks for it inside RunInstances",
    "s3:AbortMultipartUpload": "a copy for the server that broke",
    "ssm:DescribeInstancePatchStates": "a step server.patch, which these scenarios have not",
    "ssm:CancelCommand": "a command whose end SSM does not tell",
}


def run_drill(
    scenario: str, damage: str, out: Path
) -> tuple[DrillResult, dict[str, list[EvidenceRecord]]]:
    """The result, and the records of the run by kind."""
    plan, stage = load_runnable(ARTIST, scenario)
    component = plan.scenarios[scenario].component or ""
    heard: list[Told] = []
    options = DrillOptions(scenario, component, damage, out, projects=500)
    result = stage(plan, options, heard.append).run()
    by_kind: dict[str, list[EvidenceRecord]] = {}
    for told in heard:
        if told.record:
            by_kind.setdefault(told.record.kind, []).append(told.record)
    return result, by_kind


def found_by(records: dict[str, list[EvidenceRecord]], step: str) -> str:
    [finished] = [it.body["found"] for it in records["step-finished"] if it.step == step]
    return str(finished)


def unused(result: DrillResult, function: str) -> set[str]:
    return set(result.rights[f"leeward-primary-{function}"].unused) - set(RARE)


def test_a_corrupted_database_is_recovered_with_its_units_stopped(tmp_path: Path) -> None:
    result, records = run_drill("database-corruption", "update-without-where", tmp_path)
    assert result.problems == []
    assert result.score.ok, result.score.shortfalls
    assert result.reckoning is not None
    assert result.reckoning.committed > 50
    assert [it.step for it in records["step-finished"]] == [
        "stop-services",
        "identify",
        "stop-writes",
        "restore",
        "replay",
        "verify",
        "load",
        "switch",
        "restart-services",
        "confirm",
        "set-aside",
    ]
    assert "2 to start again" in found_by(records, "stop-services")
    # The logs were replayed on the base backup: nothing before the damage is lost.
    assert "0 committed transactions lost" in found_by(records, "replay")
    assert result.score.rows_lost == 0


def test_a_lost_server_is_replaced_with_all_that_lay_on_it(tmp_path: Path) -> None:
    result, records = run_drill("server-failure", "host-lost", tmp_path)
    assert result.problems == []
    assert result.score.proven
    assert result.score.rto_seconds is not None
    assert 0 < result.score.rto_seconds < 8 * 3600
    assert {fact.name: fact.met for fact in result.facts} == {
        "uploads": True,
        "keys of Redis": True,
    }
    assert "/etc/artisttech/revision says" in found_by(records, "restore-code")
    assert "artisttech/redis leads there now" in found_by(records, "restore-redis")
    assert "is stopped and kept" in found_by(records, "isolate")
    [isolated] = records["server-isolated"]
    assert "start-instances" in isolated.body["undo"]
    told = json.dumps([record.body for kind in records.values() for record in kind])
    assert "X-Amz-Signature" not in told
    assert unused(result, "manage_servers") == RECORDS_READ
    assert unused(result, "restore_data") == {"secretsmanager:StopReplicationToReplica"}


@pytest.mark.parametrize("damage", ["repository-gone"])
def test_the_code_comes_from_the_bundle_when_its_repository_is_gone(
    damage: str, tmp_path: Path
) -> None:
    result, records = run_drill("server-failure", damage, tmp_path)
    assert result.problems == []
    assert "-bundle" in found_by(records, "restore-code")
