"""Who attacked and since when: decided from signs, damaged versions, trail and database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.adapters.trail_files import read_record
from chalicelib.errors import CheckFailed
from chalicelib.plan.signs import Judgement, Sign
from chalicelib.ports.trail import TrailEvent
from chalicelib.recover.attack.infection import (
    UNKNOWN_IDENTITY,
    DatabaseSign,
    Facts,
    Infection,
    Looked,
    decide_infection,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BUCKET = "assets"
ARN = "arn:aws:iam::123456789012:user/uploader"
THEIRS, OURS = "203.0.113.66", "10.0.0.5"


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def act(
    seconds: float, name: str = "PutObject", *, address: str = THEIRS, **more: Any
) -> TrailEvent:
    key = more.pop("key", f"k{seconds}")
    event = TrailEvent(
        at(seconds), name, "s3", ARN, "user/uploader", "AKIA1", address, read_only=False,
        bucket=BUCKET, key=key, version_id=f"v{seconds}",
    )  # fmt: skip
    return replace(event, **more)


def judgement(started: datetime | None = NOON, *signs: Sign) -> Judgement:
    return Judgement(True, 0.99, started, "writes that belie themselves", signs)


ATTACK = [act(second) for second in range(10)]
HONEST = [act(second + 0.0, address=OURS, key=f"h{second}") for second in range(-600, 10, 30)]
LOOKED = [Looked(it, "kind-lost") for it in ATTACK] + [Looked(it, "") for it in HONEST]
FACTS = Facts(BUCKET, judgement(), LOOKED, [*ATTACK, *HONEST])


def test_a_stolen_key_is_told_from_its_owner_by_the_place() -> None:
    found = decide_infection(FACTS)
    assert found.vector["address"] == THEIRS
    assert found.vector["first_act"] == "s3:PutObject k0"
    assert found.identities == ("user/uploader",)
    assert found.counts["written"] == 10, "the owner's writes are not the attack's"
    assert (found.started_at, found.last_clean) == (NOON, at(-1))


def test_what_the_attacker_prepared_is_where_it_began() -> None:
    """Half an hour before the first damaged version the rules that keep versions were changed."""
    looked_around = act(-3600, "ListBuckets", service="s3", read_only=True, key="")
    refused = act(-1900, "PutBucketPolicy", error="AccessDenied", key="")
    prepared = act(-1800, "PutBucketLifecycle", key="")
    trail = [*ATTACK, *HONEST, prepared, looked_around, refused]
    found = decide_infection(replace(FACTS, trail=trail))
    assert found.started_at == at(-1800)
    assert found.vector["first_act_at"].startswith("2026-11-22T11:00:00")
    assert "PutBucketLifecycle" in found.vector["first_harm"]
    assert (found.counts["settings_changed"], found.counts["refused"]) == (1, 1)
    assert [it["what"] for it in found.timeline][:3] == [
        "s3:ListBuckets", "s3:PutBucketPolicy", "s3:PutBucketLifecycle",
    ]  # fmt: skip


def test_what_alternates_is_two_lines() -> None:
    """Who encrypts reads each object first."""
    reads = [act(second, "GetObject", read_only=True) for second in range(10)]
    found = decide_infection(replace(FACTS, trail=[*ATTACK, *reads]))
    assert [(it["what"], it["times"]) for it in found.timeline] == [
        ("s3:PutObject", 10), ("s3:GetObject", 10),
    ]  # fmt: skip


def test_deletions_before_the_first_damaged_version_count() -> None:
    gone = act(-20, "DeleteObject", version_id="v")
    found = decide_infection(replace(FACTS, trail=[*ATTACK, gone]))
    assert found.started_at == at(-20)
    assert found.counts["versions_removed"] == 1


def test_a_key_that_the_attacker_made_is_the_attackers() -> None:
    made = act(-5, "CreateAccessKey", service="iam", bucket="", key="", target="user/ghost",
               made_key="AKIA2")  # fmt: skip
    later = act(60, address="198.51.100.1", principal="arn:ghost", identity="user/ghost",
                key_id="AKIA2")  # fmt: skip
    found = decide_infection(replace(FACTS, trail=[*ATTACK, made, later]))
    assert set(found.identities) == {"user/uploader", "user/ghost"}
    assert found.counts["written"] == 11
    assert found.started_at == at(-5)


def test_an_application_whose_own_host_is_used_is_not_blamed_for_its_honest_work() -> None:
    """Same key, same address: going back to its first write of the day would lose the day."""
    honest = [act(second, key=f"h{second}") for second in range(-7200, 0, 600)]
    looked = [Looked(it, "kind-lost") for it in ATTACK] + [Looked(it, "") for it in honest]
    found = decide_infection(replace(FACTS, looked=looked, trail=[*honest, *ATTACK]))
    assert found.vector["address"] == THEIRS
    assert found.started_at == NOON


def test_the_earliest_of_what_can_be_blamed_is_the_start() -> None:
    early = DatabaseSign(7, at(-600), 80_000, "changed 80,000 rows of projects")
    long_before = DatabaseSign(5, at(-7200), 50_000, "changed 50,000 rows of reports")
    found = decide_infection(replace(FACTS, database=[early, long_before]))
    assert found.started_at == at(-600)
    assert "80,000 rows" in found.how
    assert any("first version" in it["why"] for it in found.alternatives)


def test_the_trail_knows_better_than_the_watch_when_a_setting_changed() -> None:
    """Between two looks: the sign bears the time of the earlier one."""
    setting = Sign("settings-lifecycle", "configuration", 0.85, BUCKET, at(-300), "a rule")
    content = Sign("content", "content", 0.99, BUCKET, at(0), "ten writes")
    watched = judgement(at(-300), setting, content)
    assert decide_infection(replace(FACTS, judgement=watched)).started_at == NOON
    alone = decide_infection(Facts(BUCKET, watched))
    assert alone.started_at == at(-300)


def test_without_a_trail_who_is_unknown_and_said_to_be() -> None:
    found = decide_infection(Facts(BUCKET, judgement()))
    assert (found.vector, found.identities) == ({}, (UNKNOWN_IDENTITY,))
    assert found.unknown == ("who: the plan names no trail",)
    assert found.last_clean == at(-1)


def test_without_data_events_who_is_unknown() -> None:
    found = decide_infection(Facts(BUCKET, judgement(), (), [], reaches=at(60)))
    assert "are data events of it on?" in found.unknown[0]
    assert "after 2026-11-22T12:01:00" in found.unknown[1]


@pytest.mark.parametrize("judged", [None, Judgement(False, 0.2, None, "no sign")])
def test_when_nothing_says_when_a_person_must(judged: Judgement | None) -> None:
    facts = Facts(BUCKET, judged, [Looked(it, "") for it in HONEST], HONEST)
    with pytest.raises(CheckFailed) as caught:
        decide_infection(facts)
    assert caught.value.instance_code == "infection-unknown"
    assert "--moment" in caught.value.hint
    named = decide_infection(replace(facts, moment=at(-90)))
    assert (named.started_at, named.last_clean) == (at(-90), at(-91))


def test_it_survives_json() -> None:
    found = decide_infection(FACTS)
    assert Infection.from_json(found.to_json()) == found


def test_a_record_of_a_session_names_its_role_and_a_marker_is_no_removed_version() -> None:
    issuer = {"type": "Role", "arn": "arn:aws:iam::1:role/api", "userName": "api"}
    read = read_record(
        {
            "eventName": "DeleteObject",
            "eventTime": "2026-11-22T12:00:00Z",
            "eventSource": "s3.amazonaws.com",
            "readOnly": False,
            "sourceIPAddress": THEIRS,
            "userIdentity": {
                "type": "AssumedRole",
                "arn": "arn:aws:sts::1:assumed-role/api/pod",
                "accessKeyId": "ASIA1",
                "sessionContext": {"sessionIssuer": issuer},
            },
            "requestParameters": {"bucketName": BUCKET, "key": "k"},
            "responseElements": {"x-amz-version-id": "marker", "x-amz-delete-marker": "true"},
        }
    )
    assert read is not None
    assert (read.identity, read.version_id, read.at) == ("role/api", "", NOON)
    assert read_record({"eventType": "AwsCloudTrailInsight"}) is None


@pytest.mark.parametrize(
    ("quiet_since", "dropped_at", "lsn"),
    [(-60, 30, 77), (None, 30, 77), (-60, -0.5, 77), (10, 30, 0), (-1, 30, 0), (-60, -30, 0)],
)
def test_a_replay_ends_before_the_drop_that_commits_first_after_the_moment(
    quiet_since: float | None, dropped_at: float, lsn: int
) -> None:
    """The last clean moment is second -1. At or after it another commit ends the replay."""
    quiet = None if quiet_since is None else at(quiet_since)
    dropped = DatabaseSign(9, at(dropped_at), 5, "dropped the whole database", 77, quiet)
    found = decide_infection(replace(FACTS, database=[dropped], moment=NOON))
    assert (found.last_clean, found.drop_lsn) == (at(-1), lsn)
    assert Infection.from_json(found.to_json()).drop_lsn == lsn
