"""Where a rule must and must not fire, beyond its example on the page."""

from __future__ import annotations

from typing import Any

import pytest
from test_rules import findings_of, plan_with, read_yaml

EVERYWHERE = "[near, far, elsewhere]"


def messages(rule: str, text: str) -> list[str]:
    return [one.message for one in findings_of(plan_with(read_yaml(text))) if one.rule == rule]


def backups(*lines: str) -> str:
    rows = "".join(f"      - {{ {line} }}\n" for line in lines)
    return f"components:\n  db:\n    backups:\n{rows}"


def commands(text: str) -> str:
    return f"""
scenarios:
  loss-of-main:
    steps:
      - {{ name: restore, says: Restore, by: engineer, commands: {text!r} }}
      - {{ name: verify, says: Verify, by: engineer }}
"""


FULL = f"kind: full, when: daily at 02:00, takes: 20m, copied_within: 30m, to: {EVERYWHERE}"
WAL_NEAR = "kind: wal, when: every 5 minutes, takes: 30s, to: [near]"


def test_a_log_that_is_lost_with_the_site_does_not_bound_the_loss() -> None:
    [message] = messages("LW001", backups(FULL, WAL_NEAR))

    assert "when its site is lost" in message
    assert "1d 50m" in message


@pytest.mark.parametrize(
    ("size", "runs_in", "room"),
    [
        ("6 GB", "lambda", ""),
        ("8 GB", "lambda", "11 GB"),
        ("130 GB", "task", ""),
        ("130 GB", "null", ""),
        ("150 GB", "task", "204 GB"),
        ("150 GB", "null", "204 GB"),
    ],
)
def test_room_for_a_recovery_is_that_of_the_worker_it_may_have(
    size: str, runs_in: str, room: str
) -> None:
    found = messages("LW089", f"components: {{ db: {{ size: {size}, runs_in: {runs_in} }} }}")

    assert [room in one for one in found] == ([True] if room else [])


def test_without_a_scenario_that_loses_the_site_only_the_ordinary_loss_counts() -> None:
    text = backups(FULL, WAL_NEAR) + "scenarios: { loss-of-main: { loses: [] } }\n"

    assert messages("LW001", text) == []


def test_loss_exactly_at_the_objective_is_no_finding() -> None:
    log = f"kind: wal, when: every 40 minutes, takes: 10m, copied_within: 10m, to: {EVERYWHERE}"

    assert messages("LW001", backups(FULL, log)) == []


@pytest.mark.parametrize(("zone", "fires"), [("UTC", False), ("Europe/Berlin", True)])
def test_the_hour_that_comes_twice_counts_in_the_worst_loss(zone: str, fires: bool) -> None:
    log = f"kind: wal, when: hourly {zone}, takes: 0s, copied_within: 0s, to: {EVERYWHERE}"

    assert (
        any("2h between two runs" in one for one in messages("LW001", backups(FULL, log))) is fires
    )


def test_an_approval_waited_for_to_the_last_counts_in_the_recovery_time() -> None:
    text = """
objectives: { rto: 2h }
scenarios:
  loss-of-main:
    estimate: null
    steps:
      - { name: restore, says: Restore, by: engineer, takes: 60m }
      - { name: verify, says: Verify, by: engineer, takes: 10m,
          approve: { by: [commander], within: 1h } }
"""
    assert "2h 15m" in messages("LW002", text)[0]


def test_steps_that_run_together_count_once() -> None:
    text = """
objectives: { rto: 2h }
scenarios:
  loss-of-main:
    estimate: null
    steps:
      - parallel:
          - [{ name: files, says: Restore the files, by: engineer, takes: 90m }]
          - [{ name: restore, says: Restore the rest, by: engineer, takes: 80m }]
      - { name: verify, says: Verify, by: engineer, takes: 10m }
"""
    assert messages("LW002", text) == []


@pytest.mark.parametrize("often", ["every 6 hours", "cron(0 8/6 * * ? *)"])
def test_runs_that_do_not_meet_do_not_collide(often: str) -> None:
    incremental = f"kind: incremental, when: {often}, takes: 10m, to: [near]"

    assert messages("LW016", backups(FULL, incremental)) == []


def test_runs_that_begin_together_collide_even_when_nothing_says_how_long_they_take() -> None:
    dump = "kind: dump, when: daily at 02:00, to: [near]"

    assert len(messages("LW016", backups(FULL, dump))) == 1


def test_a_run_may_not_outlast_the_shortest_gap_of_an_uneven_schedule() -> None:
    uneven = (
        f"kind: full, when: 'cron(0 1,2 * * ? *)', takes: 90m, copied_within: 1m, to: {EVERYWHERE}"
    )

    assert "the next begins after 1h" in messages("LW015", backups(uneven))[0]


def test_a_noon_run_in_a_zone_with_summer_time_still_feeds_the_daily_tier() -> None:
    noon = "kind: full, when: daily at 12:00 Europe/Berlin, takes: 1m, to: [near]"

    assert messages("LW022", backups(noon)) == []


def test_logs_shorter_than_the_daily_tier_leave_a_gap() -> None:
    text = "components: { db: { retention: { daily: 14, logs: 7 days } } }"

    assert "from day 8 to day 14" in messages("LW021", text)[0]


@pytest.mark.parametrize(
    ("region", "failover", "provider", "fires"),
    [
        ("us-east-1", "change-records", "route53", True),
        ("us-east-1", "routing-control", "route53", False),
        ("us-east-1", "change-records", "other", False),
        ("eu-central-1", "change-records", "route53", False),
    ],
)
def test_only_record_changes_in_the_lost_control_region_fire(
    region: str, failover: str, provider: str, fires: bool
) -> None:
    text = f"""
sites: {{ main: {{ region: {region} }} }}
components: {{ names: {{ failover: {failover}, provider: {provider} }} }}
"""
    assert bool(messages("LW045", text)) is fires


@pytest.mark.parametrize(
    ("call", "fires"),
    [
        ("pg_restore /b/x.dump", True),
        ("pg_restore --clean -d shop /b/x.sql", True),
        ("pg_restore -d shop /b/x.dump", False),
        ("pg_restore -dshop /b/x.dump", False),
        ("pg_restore --clean \\\n --dbname=shop /b/x.dump", False),
        ("pg_restore -f out.sql /b/x.dump", False),
        ("pg_restore /b/x.dump > out.sql", False),
        ("psql -f /b/x.sql", False),
    ],
)
def test_restore_commands_that_cannot_work(call: str, fires: bool) -> None:
    change: Any = read_yaml(commands("x"))
    change["scenarios"]["loss-of-main"]["steps"][0]["commands"] = call

    found = [one for one in findings_of(plan_with(change)) if one.rule == "LW048"]
    assert bool(found) is fires


@pytest.mark.parametrize(
    ("text", "fires"),
    [
        ("psql postgresql://a:b@h/d", True),
        ("PGPASSWORD=hunter2 psql", True),
        ("psql 'host=h password=hunter2'", True),
        ("aws configure set aws_access_key_id AKIAABCDEFGHIJKLMNOP", True),
        ("AWS_ACCESS_KEY_ID=ASIAABCDEFGHIJKLMNOP aws s3 ls", True),
        (f"gh auth login --with-token ghp_{'a1' * 18}", True),
        ("curl -d token=xoxb-123456789012-abcdef https://slack.com", True),
        (f"curl 'https://maps.example?key=AIza{'b' * 35}'", True),
        ("ghp_ and xoxb- are how tokens begin", False),
        ("psql postgresql://a@h/d", False),
        ("psql postgresql://a:$PASSWORD@h/d", False),
        ("psql postgresql://a:***@h/d", False),
        ("PGPASSWORD=$(cat secret) psql", False),
        ("ask for the password at the door", False),
    ],
)
def test_secrets(text: str, fires: bool) -> None:
    assert bool(messages("LW078", commands(text))) is fires


def test_a_secret_is_not_repeated_in_its_finding() -> None:
    plan = plan_with(read_yaml(commands("psql postgresql://a:hunter2@h/d")))

    assert "hunter2" not in str([one for one in findings_of(plan) if one.rule == "LW078"])


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("[{ who: a, contact: ada, after: 5m }]", "from 0s to 5m nobody is called"),
        (
            "[{ who: a, contact: ada, after: 0m, until: 20m },"
            " { who: b, contact: grace, after: 10m }]",
            "from 10m to 20m two are called at once",
        ),
        (
            "[{ who: a, contact: ada, after: 0m }, { who: b, contact: grace, after: 0m }]",
            "has no end",
        ),
    ],
)
def test_escalation_clocks(steps: str, words: str) -> None:
    assert any(words in one for one in messages("LW055", f"escalation: {steps}"))


def test_who_is_called_on_a_condition_has_no_clock_to_keep() -> None:
    text = """
escalation:
  - { who: On call, contact: on-call, after: 0m, until: 15m }
  - { who: Ada, contact: ada, after: 15m }
  - { who: Grace, contact: grace, only: Major incidents }
"""
    assert messages("LW055", text) == []


def test_levels_that_begin_together_are_out_of_order() -> None:
    text = """
thresholds:
  - { metric: Disk, above: 80%, level: warning, notify: [on-call] }
  - { metric: Disk, above: 80%, level: critical, notify: [on-call] }
"""
    assert len(messages("LW067", text)) == 1


def test_a_team_needs_no_cover() -> None:
    assert messages("LW050", "roles: { engineer: { held_by: [on-call] } }") == []


def test_an_acceptance_covers_its_path_and_what_is_in_it_alone() -> None:
    text = """
locations: { near: { encryption: null }, far: { encryption: null } }
accept:
  - { rule: LW033, path: locations.near, reason: r, until: 2027-01-01 }
"""
    found = [one for one in findings_of(plan_with(read_yaml(text))) if one.rule == "LW033"]
    assert [(one.path[-1], one.accepted) for one in found] == [("near", True), ("far", False)]


def test_a_path_is_not_covered_by_one_that_only_begins_alike() -> None:
    text = """
locations: { near: { encryption: null } }
accept:
  - { rule: LW033, path: locations.ne, reason: r, until: 2027-01-01 }
"""
    found = findings_of(plan_with(read_yaml(text)))
    assert sorted((one.rule, one.accepted) for one in found) == [("LW033", False), ("LW099", False)]


def test_a_past_incident_with_less_than_the_objective_is_no_finding() -> None:
    assert messages("LW076", "objectives: { rpo: 10m }") == []


@pytest.mark.parametrize(
    ("checks", "path"),
    [
        ("assertions: [{name: a, sql: select  COUNT (id) from t, expect: '> -1'}]", "expect"),
        ("assertions: [{name: a, sql: SELECT count(*) FROM t, expect: '!= -1'}]", "expect"),
        ("assertions: [{name: a, sql: SELECT count(*) FROM t, expect: '0..1000000000000'}]",
         "expect"),
        ("assertions: [{name: a, sql: SELECT sum(n) FROM t, expect: '200..100'}]", "expect"),
        ("freshness: [{table: t, column: at, max_age: 0s}]", "max_age"),
        ("{assertions: [], freshness: [], amcheck: false, page_checksums: false,"
         " schema_digest: false}", "checks"),
        ("assertions: [{name: a, sql: SELECT sum(n) FROM t, expect: '>= 0'}]", ""),
        ("assertions: [{name: a, sql: SELECT count(*) FROM t, expect: '0..500'}]", ""),
        ("assertions: [{name: a, sql: SELECT count(*) FROM t, expect: '== 0'}]", ""),
        ("{assertions: [], freshness: [], amcheck: false, page_checksums: false}", ""),
    ],
)  # fmt: skip
def test_checks_that_decide_nothing(checks: str, path: str) -> None:
    body = checks if checks.startswith("{") else "{" + checks + "}"
    plan = plan_with(read_yaml(f"components: {{db: {{checks: {body}}}}}"))
    found = [str(one.path[-1]) for one in findings_of(plan) if one.rule == "LW111"]
    assert found == ([path] if path else [])


@pytest.mark.parametrize(
    ("tables", "kinds", "fires"),
    [
        ("['*']", "[drop]", True),
        ("['public.*']", "[mass-delete]", True),
        ("[orders]", "[truncate]", True),
        ("['ord*']", "[drop, truncate]", True),
        ("['events_*']", "[drop]", False),
        ("['audit.*']", "[drop]", False),
    ],
)
def test_expected_damage_that_hides_other_damage(tables: str, kinds: str, fires: bool) -> None:
    fresh = "freshness: [{table: orders, column: at, max_age: 1h}]"
    expected = f"expected: [{{tables: {tables}, kinds: {kinds}}}]"
    parts = f"checks: {{{fresh}}}, damage: {{{expected}}}"
    assert bool(messages("LW113", f"components: {{db: {{{parts}}}}}")) is fires


@pytest.mark.parametrize(("period", "fires"), [("100 years", True), ("366d", False)])
def test_a_proof_that_counts_for_very_long(period: str, fires: bool) -> None:
    assert bool(messages("LW063", f"proof_valid_for: {period}")) is fires


@pytest.mark.parametrize("address", ["[email]", "[Phone Number]", "<name>@example.com"])
def test_the_blanks_of_a_template(address: str) -> None:
    assert messages("LW052", f"contacts: {{ada: {{reach: {{email: '{address}'}}}}}}")
