"""Which server counts, what its groups must be, and how long one is waited for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.errors import CheckFailed, NotReady, Refused, Unavailable
from chalicelib.ports.servers import ServerFacts
from chalicelib.recover.sites.host_scripts import Download, clone_bundle, place_files, tell_settings
from chalicelib.recover.sites.servers import (
    RUN_TAG,
    decide_groups,
    launch_token,
    one_of_name,
    require_launched_by,
    split_template,
    tags_of,
    wait_until_healthy,
    wait_until_online,
)

AT = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
FACTS = ServerFacts("i-1", "running", "10.0.0.1", ("sg-1", "sg-2"), "web", AT)


@dataclass
class PassingClock:
    at: datetime = AT

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class InMemoryServers:
    """Answers `facts` with one after the other, the last one for ever; None: it is not known."""

    answers: list[ServerFacts | None]
    online_after: int = 0
    asked: int = field(default=0)

    def facts(self, server: str) -> ServerFacts:
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if found is None:
            raise NotReady("unknown", code="server-not-found")
        return found

    def is_online(self, server: str) -> bool:
        return self.asked > self.online_after


@dataclass
class InMemoryTargets:
    states: list[str]

    def health(self, group: str) -> dict[str, str]:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {"i-1": state}


def test_the_one_that_runs_counts() -> None:
    old = replace(FACTS, id="i-0", state="stopped")
    assert one_of_name([old, FACTS], "web") == FACTS
    assert one_of_name([old], "web") == old
    assert one_of_name([], "web") is None


def test_two_that_run_stop_the_run() -> None:
    with pytest.raises(NotReady) as error:
        one_of_name([FACTS, replace(FACTS, id="i-2")], "web")
    assert error.value.instance_code == "server-ambiguous"
    assert "i-1, i-2" in error.value.message


@pytest.mark.parametrize(
    ("wanted", "change", "reason"),
    [
        (("sg-2", "sg-1"), False, "it has sg-1, sg-2, as the plan says"),
        (("sg-1",), True, "it has sg-2, which the plan does not name"),
        (("sg-1", "sg-2", "sg-3"), True, "it lacks sg-3"),
        (("sg-9",), True, "it lacks sg-9 and has sg-1, sg-2, which the plan does not name"),
    ],
)
def test_groups_are_compared_with_the_plan(
    wanted: tuple[str, ...], change: bool, reason: str
) -> None:
    decided = decide_groups(FACTS, wanted)
    assert (decided.change, decided.reason) == (change, reason)
    assert decided.groups == tuple(sorted(wanted))


def test_a_plan_without_groups_says_nothing_and_is_refused() -> None:
    with pytest.raises(NotReady) as error:
        decide_groups(FACTS, ())
    assert error.value.instance_code == "no-security-groups"


def test_data_goes_to_servers_of_the_run_alone() -> None:
    require_launched_by(replace(FACTS, tags={RUN_TAG: "run-1"}), "run-1")
    for tags in ({}, {RUN_TAG: "run-2"}):
        with pytest.raises(Refused) as error:
            require_launched_by(replace(FACTS, tags=tags), "run-1")
        assert error.value.instance_code == "not-of-this-run"


def test_each_attempt_launches_with_the_same_token_and_each_step_with_its_own() -> None:
    assert launch_token("run-1", "a") == launch_token("run-1", "a")
    assert (
        len({launch_token("run-1", "a"), launch_token("run-1", "b"), launch_token("r", "a")}) == 3
    )
    assert len(launch_token("run-" + "x" * 200, "a")) <= 64


def test_a_new_server_does_not_have_the_plans_name() -> None:
    assert tags_of("web", "app-server", "run-1")["Name"] != "web"
    assert len(tags_of("w" * 300, "app-server", "run-1")["Name"]) <= 255


@pytest.mark.parametrize(
    ("template", "parts"),
    [("web", ("web", None)), ("web:7", ("web", 7)), ("a:b", ("a:b", None)), (":7", (":7", None))],
)
def test_a_template_may_be_pinned(template: str, parts: tuple[str, int | None]) -> None:
    assert split_template(template) == parts


def test_it_is_waited_for_while_ec2_does_not_know_it_yet() -> None:
    pending = replace(FACTS, state="pending")
    servers = InMemoryServers([None, pending, FACTS], online_after=4)
    found = wait_until_online(servers, servers, "i-1", clock=PassingClock(), limit_seconds=60)  # type: ignore[arg-type]
    assert found == FACTS
    assert servers.asked == 5


def test_one_that_never_comes_is_tried_again_and_one_that_ended_is_not() -> None:
    silent = InMemoryServers([FACTS], online_after=10**6)
    with pytest.raises(Unavailable) as late:
        wait_until_online(silent, silent, "i-1", clock=PassingClock(), limit_seconds=30)  # type: ignore[arg-type]
    assert late.value.instance_code == "server-not-online"
    ended = InMemoryServers([replace(FACTS, state="stopped")])
    with pytest.raises(CheckFailed) as over:
        wait_until_online(ended, ended, "i-1", clock=PassingClock(), limit_seconds=30)  # type: ignore[arg-type]
    assert over.value.instance_code == "server-ended"


def test_the_load_balancer_decides_whether_it_is_healthy() -> None:
    clock = PassingClock()
    targets = InMemoryTargets(["initial", "unhealthy", "healthy"])
    at = wait_until_healthy(targets, "arn", "i-1", clock=clock, limit_seconds=60)  # type: ignore[arg-type]
    assert at == AT + timedelta(seconds=2)
    with pytest.raises(CheckFailed) as error:
        wait_until_healthy(
            InMemoryTargets(["unhealthy"]), "arn", "i-1", clock=clock, limit_seconds=9
        )  # type: ignore[arg-type]
    assert error.value.instance_code == "target-unhealthy"


def test_what_comes_from_a_plan_is_quoted_in_scripts() -> None:
    bad = "/var/x'; touch /tmp/owned; '"
    files = place_files("run-1/step", Download("https://s3/x", "0" * 64), "/var", [bad])
    assert "'/var/x'\"'\"'; touch /tmp/owned; '\"'\"''" in files
    bundle = clone_bundle(
        "run-1/step", Download("https://s3/x", "0" * 64), "/opt/$(id)", "a b", "u"
    )
    assert "'/opt/$(id)'" in bundle
    assert "keep '/opt/$(id)'" in bundle
    assert "'a b'" in bundle
    assert "printf '%s\\n' 'A=$(id)'" in tell_settings({"A": "$(id)"}, ["site"])


def test_an_address_is_never_in_the_words_of_a_command() -> None:
    script = place_files(
        "r/s", Download("https://s3/x?X-Amz-Signature=1", "0" * 64), "/", ["/etc/a"]
    )
    [line] = [line for line in script.splitlines() if "Signature" in line]
    assert line == 'url = "https://s3/x?X-Amz-Signature=1"'
