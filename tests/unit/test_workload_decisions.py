"""What is decided about application servers, and how a rollout is judged, without a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from chalicelib.adapters.kubernetes.kept import RUNS, bare, kept_of, with_environment, without
from chalicelib.adapters.kubernetes.rollout import has_failing, is_stuck, waits_for, why_not_ready
from chalicelib.adapters.secrets import as_url
from chalicelib.errors import BadInput, NotReady
from chalicelib.recover.sites.workloads import decide_replicas, may_stay_silent


@pytest.mark.parametrize(
    ("asked", "before", "planned", "replicas"),
    [(5, 3, 2, 5), ("4", 0, None, 4), (None, 3, 2, 3), (None, 0, 2, 2), (None, 0, None, None)],
)
def test_replicas_are_the_steps_then_those_before_then_the_plans(
    asked: object, before: int, planned: int | None, replicas: int | None
) -> None:
    assert decide_replicas(asked=asked, before=before, planned=planned).replicas == replicas


@pytest.mark.parametrize("asked", [0, -1, "many", ""])
def test_what_is_no_number_of_replicas_is_refused(asked: object) -> None:
    with pytest.raises(BadInput) as caught:
        decide_replicas(asked=asked, before=3, planned=3)
    assert caught.value.instance_code == "bad-replicas"


def test_a_silent_service_may_stay_so_only_at_a_site_that_is_lost() -> None:
    assert may_stay_silent("primary", ("primary",))
    assert not may_stay_silent("primary", ("dr",))
    assert not may_stay_silent("primary", ())
    assert not may_stay_silent(None, ("primary",))


def rolled(status: dict[str, Any], *, generation: int = 2, replicas: int | None = 3) -> Any:
    spec = {} if replicas is None else {"replicas": replicas}
    seen = {"observedGeneration": 2, **status}
    return {"metadata": {"generation": generation}, "spec": spec, "status": seen}


DONE = {"updatedReplicas": 3, "replicas": 3, "availableReplicas": 3}


@pytest.mark.parametrize(
    ("deployment", "waiting"),
    [
        (rolled(DONE), ""),
        (rolled({}, replicas=0), ""),
        (rolled(DONE, generation=3), "has not seen"),
        (rolled({}), "0 of 3 are of the newest"),
        (rolled({**DONE, "updatedReplicas": 2}), "2 of 3 are of the newest"),
        (rolled({**DONE, "replicas": 4}), "1 of an old revision"),
        (rolled({**DONE, "availableReplicas": 1}), "1 of 3 are available"),
        (rolled({"updatedReplicas": 1, "replicas": 1}, replicas=None), "0 of 1 are available"),
    ],
)
def test_a_rollout_is_done_when_nothing_is_waited_for(deployment: Any, waiting: str) -> None:
    found = waits_for(deployment)
    assert (waiting in found) if waiting else (found == "")


def test_it_is_stuck_when_the_cluster_says_so_of_this_very_generation() -> None:
    conditions = [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]
    assert is_stuck(rolled({"conditions": conditions}))
    assert not is_stuck(rolled({"conditions": conditions}, generation=3))
    assert not is_stuck(rolled({"conditions": [{"type": "Progressing", "reason": "X"}]}))


def pod(name: str, ready: bool = False, **container: Any) -> Any:
    conditions = [{"type": "Ready", "status": str(ready)}]
    status = {"conditions": conditions, "containerStatuses": [{"ready": ready, **container}]}
    return {"metadata": {"name": name}, "status": status}


def test_each_pod_that_does_not_serve_says_why_those_that_fail_first() -> None:
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    looping = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    pods = [
        pod("serves", ready=True, restartCount=7),
        pod("a-starts", state={"waiting": {"reason": "ContainerCreating"}}),
        pod("b-loops", state=looping, lastState=ended, restartCount=3),
        pod("c-is-not-pulled", state={"waiting": {"reason": "ErrImagePull"}}),
        pod("d-runs", state={"running": {}}),
    ]
    assert why_not_ready(pods) == [
        "b-loops: CrashLoopBackOff, back-off, ended with 1 (Error), 3 restarts",
        "c-is-not-pulled: ErrImagePull",
        "a-starts: ContainerCreating",
        "d-runs: runs, and its readiness probe fails",
    ]
    assert has_failing(pods)
    assert not has_failing([pods[0], pods[1], pods[4]])


def test_a_pod_that_no_node_takes_and_one_that_is_ending_say_so() -> None:
    message = "0/3 nodes are available"
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    waiting = {"metadata": {"name": "a"}, "status": {"conditions": [unscheduled]}}
    unscheduled["message"] = message
    ending = pod("b", ready=True)
    ending["metadata"]["deletionTimestamp"] = "2026-11-22T08:45:00Z"
    over = {"metadata": ending["metadata"], "status": {"phase": "Failed"}}
    assert why_not_ready([waiting, ending, over]) == [
        f"a: Unschedulable: {message}",
        "b: is ending",
    ]


def kept_in(text: str | None) -> Any:
    annotations = {} if text is None else {"leeward/before": text}
    return {"metadata": {"name": "api", "annotations": annotations}}


def test_the_first_value_of_a_run_is_remembered_and_old_runs_are_forgotten() -> None:
    text: str | None = None
    for number in range(RUNS + 2):
        text = with_environment(kept_in(text), f"run-{number}", "X", {"value": str(number)})
        text = with_environment(kept_in(text), f"run-{number}", "X", {"value": "later"})
    kept = kept_of(kept_in(text))
    assert list(kept) == [f"run-{number}" for number in range(2, RUNS + 2)]
    assert kept["run-4"] == {"environment": {"X": {"value": "4"}}}


def test_what_was_put_back_is_remembered_no_more_and_the_rest_is() -> None:
    kept = {"run-1": {"environment": {"X": None, "Y": None}, "object": None}}
    only_y = without(kept, "run-1", "environment", "X")
    assert kept_of(kept_in(only_y)) == {"run-1": {"environment": {"Y": None}, "object": None}}
    assert without({"run-1": {"environment": {"X": None}}}, "run-1", "environment", "X") is None
    assert without({"run-1": {"object": {}}}, "run-1", "object") is None


def test_what_somebody_else_wrote_there_is_not_taken_for_ours() -> None:
    with pytest.raises(NotReady) as caught:
        kept_of(kept_in("not JSON"))
    assert caught.value.instance_code == "kept-unreadable"


def test_an_object_is_kept_as_a_person_would_write_it() -> None:
    said = {"uid": "1", "resourceVersion": "7", "generation": 2, "managedFields": []}
    item = {
        "kind": "ConfigMap",
        "metadata": {"name": "x", "labels": {"a": "b"}, "annotations": {"leeward/before": "{}"}},
        "status": {},
    }
    item["metadata"] |= said  # type: ignore[operator]
    assert bare(item) == {"kind": "ConfigMap", "metadata": {"name": "x", "labels": {"a": "b"}}}


@pytest.mark.parametrize(
    "dsn",
    [
        "host=db port=5433 dbname=nexus user=app password='p/w@: %'",
        "host=db dbname='my db' user=app sslmode=verify-full",
        "dbname=nexus",
        "postgresql://app:pw@db:5433/nexus?sslmode=require",
    ],
)
def test_an_address_is_the_same_one_as_a_url(dsn: str) -> None:
    url = as_url(dsn)
    assert url.startswith("postgresql://")
    assert conninfo_to_dict(url) == conninfo_to_dict(dsn)
