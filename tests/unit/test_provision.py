"""What a build of infrastructure is told: its variables, its workspace, its one token."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import NotReady, Refused
from chalicelib.plan.components import Infrastructure
from chalicelib.recover.sites.provision import decide_build, drill_workspace, shown_outputs

SITE = Infrastructure(
    kind="infrastructure",
    project="terraform",
    variables={"region": "us-west-2", "environment": "dr"},
    outputs="s3://bucket/some/prefix/",
)
run_ids = st.builds(
    "run-2026{}".format, st.text(alphabet="abcXYZ019-_ /.", min_size=0, max_size=200)
)


def test_the_documents_command_is_what_runs() -> None:
    made = decide_build(SITE, run_id="run-1", step="provision", drill=False)
    assert made.command == "terraform apply -var=region=us-west-2 -var=environment=dr"
    assert made.workspace == "dr"
    assert made.order.outputs == ("bucket", "some/prefix/dr/run-1.provision/outputs.json")


@given(value=st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_value_reaches_terraform_as_it_stands(value: str) -> None:
    component = SITE.model_copy(update={"variables": {"region": value, "environment": "dr"}})
    made = decide_build(component, run_id="run-1", step="provision", drill=False)
    told = shlex.split(made.order.environment["TF_CLI_ARGS_apply"])
    assert told == [f"-var=region={value}", "-var=environment=dr"]


@given(run_id=run_ids)
def test_a_drill_never_works_where_production_does(run_id: str) -> None:
    made = decide_build(SITE, run_id=run_id, step="provision", drill=True)
    assert made.workspace == drill_workspace(run_id) != "dr"
    assert made.workspace.startswith("drill-")
    assert f"-var=environment={made.workspace}" in made.command


@given(run_id=run_ids, drill=st.booleans(), environment=st.sampled_from(["dr", "drill-mine"]))
def test_nothing_but_a_runs_own_drill_is_ever_destroyed(
    run_id: str, drill: bool, environment: str
) -> None:
    component = SITE.model_copy(update={"variables": {"environment": environment}})
    if not drill:
        with pytest.raises(Refused, match="not a drill's"):
            decide_build(component, run_id=run_id, step="make", drill=drill, action="destroy")
        return
    made = decide_build(component, run_id=run_id, step="make", drill=drill, action="destroy")
    assert made.workspace == drill_workspace(run_id) != environment


def test_two_long_runs_have_two_workspaces() -> None:
    long = "run-20261122T084500Z-" + "a" * 60
    assert drill_workspace(long) != drill_workspace(f"{long}-2")
    assert len(drill_workspace(long)) == 60


def test_applying_and_destroying_are_two_builds() -> None:
    tokens = {
        decide_build(SITE, run_id="run-1", step="provision", drill=True, action=action).order.token  # type: ignore[arg-type]
        for action in ("apply", "destroy")
    }
    assert len(tokens) == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"variables": {"region": "us-west-2"}}, "no-environment"),
        ({"outputs": None}, "no-outputs-address"),
        ({"outputs": "/tmp/outputs"}, "no-outputs-address"),
    ],
)
def test_what_the_plan_lacks_is_said_before_anything_is_built(
    change: dict[str, object], code: str
) -> None:
    component = SITE.model_copy(update=change)
    with pytest.raises(NotReady) as raised:
        decide_build(component, run_id="run-1", step="provision", drill=False)
    assert raised.value.instance_code == code


def test_secrets_and_long_outputs_stay_where_they_are() -> None:
    shown = shown_outputs(
        {
            "servers": {"sensitive": False, "value": ["a", "b"]},
            "password": {"sensitive": True, "value": "hunter2"},
            "everything": {"sensitive": False, "value": "x" * 2000},
        }
    )
    assert shown == {
        "everything": "(2002 characters)",
        "password": "(sensitive)",
        "servers": ["a", "b"],
    }
