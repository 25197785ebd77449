"""The documents in policies/iam/ allow what the functions really do, and no more.

Held against a whole recovery by the deployed package, with a damaged backup on the way.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from leeward.local.iam import Rights
from tests.grants import RECORDS_READ
from tests.scenarios.drills import run_drill

# What a drill without faults does not need, and why it is granted all the same.
RARE = {
    "s3:AbortMultipartUpload": "an upload that broke",
    "s3:DeleteObject": "objects of a backup that broke; partial WAL that was superseded",
}
# An alarm that joins reads the records; a person's next run asks whether the last one still runs.
RARE_OF = {"on_alarm": {*RECORDS_READ, "states:DescribeExecution"}}
# The look at raised alarms, each minute: tests/scenarios/test_people.py.
RARE_OF["on_alarm"] |= {"cloudwatch:DescribeAlarms", "cloudwatch:PutMetricData", "dynamodb:Query",
                        "dynamodb:DeleteItem"}  # fmt: skip
# What does not fit into a Lambda: tests/scenarios/test_task.py.
RARE_OF |= {name: set(RECORDS_READ) for name in ("fence", "switch")}
RARE_OF["rebuild"] = {"ecs:ListTasks", "ecs:RunTask", "iam:PassRole", "states:SendTaskSuccess"}
# These run in no unattended scenario; tests/scenarios/test_copies.py holds those of the copies,
# test_buckets.py and test_many.py there those of the buckets.
COPIES = {"copy", "check", "arrive", "repair", "prune", "extend_locks"}
SHARDS = {"plan_shards", "copy_shard", "finish_shards", "batch_copy"}
UNATTENDED_NEVER = {"replicate", "sync", "take", "watch_bucket"} | COPIES | SHARDS
UNATTENDED_NEVER |= {"expire_versions"}  # tests/scenarios/test_bucket_jobs.py
UNATTENDED_NEVER |= {"ask", "answer", "tell", "escalate"}  # tests/scenarios/test_people.py
UNATTENDED_NEVER |= {"api_handler", "chat", "show"}  # tests/contract/test_chatops.py, test_api.py
UNATTENDED_NEVER |= {"manage_servers", "restore_data"}  # tests/scenarios/test_artist.py
UNATTENDED_NEVER |= {"find_scope", "restore_bucket", "tighten"}  # tests/scenarios/test_deletion.py
UNATTENDED_NEVER |= {"workloads"}  # tests/scenarios/test_workloads.py
UNATTENDED_NEVER |= {"assess", "provision"}  # tests/scenarios/test_great_loss.py
UNATTENDED_NEVER |= {"isolate", "inspect"}  # tests/scenarios/test_attack.py
UNATTENDED_NEVER |= {"fail_back"}  # tests/scenarios/test_failback.py
UNATTENDED_NEVER |= {"move_names"}  # tests/scenarios/test_names.py
UNATTENDED_NEVER |= {"heartbeat", "probe", "verify_services"}  # .../test_regional_outage.py
UNATTENDED_NEVER |= {"prove"}  # tests/scenarios/test_prove_copies.py
UNATTENDED_NEVER |= {"publish"}  # tests/scenarios/test_outage_noticed.py
UNATTENDED_NEVER |= {"exercise"}  # tests/scenarios/test_exercise_run.py
ROOT = Path(__file__).parents[2]
FUNCTIONS = sorted(path.stem for path in (ROOT / "policies" / "iam").iterdir())


@pytest.fixture(scope="module")
def rights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rights]:
    result, _ = run_drill(tmp_path_factory.mktemp("drill"), "backup-object")
    assert result.problems == []
    return result.rights


def test_no_function_lacked_a_right(rights: dict[str, Rights]) -> None:
    assert {name: it.denied for name, it in rights.items() if it.denied} == {}


@pytest.mark.parametrize("function", sorted(set(FUNCTIONS) - UNATTENDED_NEVER))
def test_nothing_is_granted_that_is_not_needed(rights: dict[str, Rights], function: str) -> None:
    assert set(rights[f"leeward-primary-{function}"].unused) <= set(RARE) | RARE_OF.get(
        function, set()
    )


def test_each_function_has_its_document() -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    functions = config["stages"]["primary"]["lambda_functions"]
    named = {Path(it["iam_policy_file"]).stem for it in functions.values()}
    assert named == set(functions) == set(FUNCTIONS)
