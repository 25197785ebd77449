"""`leeward check`: the shipped plans' contradictions are found, and told to people and programs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chalicelib.plan.check.finding import show_path
from chalicelib.plan.check.lint import check_plan
from chalicelib.scenarios.stability import check_stability
from chalicelib.scenarios.wiring import check_wiring
from leeward.cli import main
from leeward.commands.check import command
from leeward.plan_file import load_plan

ROOT = Path(__file__).parents[2]
PLANS = ROOT / "policies/plans"
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def check(*arguments: str) -> Any:
    return CliRunner().invoke(command, list(arguments))


def findings_of(name: str) -> list[str]:
    plan = load_plan(PLANS / f"{name}.yaml").plan
    found = check_plan(plan, now=NOW, also=[*check_wiring(plan), *check_stability(plan)])
    return [f"{one.rule} {one.severity} {show_path(one.path)}".strip() for one in found]


@pytest.mark.parametrize("name", ["nexus-studio", "artist-tech"])
def test_findings_of_the_shipped_plans(name: str) -> None:
    golden = (ROOT / f"tests/golden/findings-{name}.txt").read_text().splitlines()

    assert findings_of(name) == golden


@pytest.mark.parametrize(
    ("name", "rule", "path", "words"),
    [
        ("nexus-studio", "LW002", "scenarios.ransomware.estimate", ["4h (RTO)", "8h 15m"]),
        ("nexus-studio", "LW006", "objectives.uptime", ["8h 46m", "2 incidents"]),
        ("nexus-studio", "LW045", "scenarios.regional-outage.steps.8", ["us-east-1", "Route 53"]),
        ("nexus-studio", "LW027", "locations.tertiary.region", ["us-east-1", "Virginia"]),
        ("nexus-studio", "LW065", "testing.3", ["every 31d", "every 92d"]),
        ("artist-tech", "LW001", "components.artist-db.backups.1", ["at most 1h", "1h 6m"]),
        ("artist-tech", "LW001", "components.user-files.backups.0", ["at most 1d", "1d 2h"]),
        ("artist-tech", "LW021", "components.artist-db.retention.logs", ["day 8 to day 30"]),
        ("artist-tech", "LW026", "components.artist-db.backups", ["3-2-1"]),
        ("artist-tech", "LW034", "locations.local.encryption.key", ["one account", "us-east-1"]),
        ("artist-tech", "LW013", "components.artist-db.backups.1", ["dumps", "WAL"]),
    ],
)
def test_the_known_contradictions_are_found_and_explained(
    name: str, rule: str, path: str, words: list[str]
) -> None:
    report = json.loads(check(str(PLANS / f"{name}.yaml"), "--format", "json").stdout)

    [message] = [
        one["message"] for one in report["findings"] if (one["rule"], one["path"]) == (rule, path)
    ]
    assert all(word in message for word in words), message


def test_json_is_what_the_documentation_says() -> None:
    result = check(str(PLANS / "nexus-studio.yaml"), "--format", "json")

    report = json.loads(result.stdout)
    keys = {"rule", "severity", "line", "path", "message", "hint", "accepted"}
    assert set(report) == {"plan", "findings"}
    assert report["plan"] == "nexus-studio"
    assert all(set(finding) == keys for finding in report["findings"])
    lines = [finding["line"] for finding in report["findings"]]
    assert lines == sorted(lines)
    assert result.exit_code == 1


def test_line_is_that_of_the_plan_file() -> None:
    text = (PLANS / "nexus-studio.yaml").read_text().splitlines()
    report = json.loads(check(str(PLANS / "nexus-studio.yaml"), "--format", "json").stdout)

    lines = {one["path"]: text[one["line"] - 1].strip() for one in report["findings"]}
    assert lines["objectives.uptime"] == "uptime: 99.9%"
    assert lines["contacts.cto.reach.phone"].startswith("reach:")
    assert lines["review.next"] == "next: April 2024"


def test_text_for_people_fits_80_columns_and_has_no_colour_when_piped() -> None:
    result = check(str(PLANS / "artist-tech.yaml"))

    *findings, summary = result.stdout.splitlines()
    assert max(map(len, findings)) <= 80
    assert "\x1b" not in result.stdout
    assert "LW001  More data can be lost than the RPO allows" in result.stdout
    assert "HINT:" in result.stdout
    assert summary.startswith(f"{PLANS / 'artist-tech.yaml'}: ")


def test_a_sound_plan_passes() -> None:
    result = check(str(ROOT / "docs/sound-plan.yaml"))

    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert "0 errors, 0 warnings, 0 notes" in result.stdout.replace("\n", " ")


def with_acceptance(folder: Path, until: str) -> Path:
    text = (ROOT / "docs/sound-plan.yaml").read_text()
    file = folder / "plan.yaml"
    file.write_text(
        text.replace("held_by: [on-call]", "held_by: []")
        + "\naccept:\n  - { rule: LW049, path: roles, reason: hiring, until: "
        + until
        + " }\n"
    )
    return file


def test_an_accepted_error_is_shown_and_does_not_fail(tmp_path: Path) -> None:
    file = with_acceptance(tmp_path, "9999-12-31")

    result = check(str(file), "--format", "json")

    [finding] = json.loads(result.stdout)["findings"]
    assert (finding["rule"], finding["accepted"], result.exit_code) == ("LW049", True, 0)
    assert "1 accepted" in check(str(file)).stdout.replace("\n", " ")


def test_an_acceptance_ends_after_its_last_day(tmp_path: Path) -> None:
    result = check(str(with_acceptance(tmp_path, "2026-01-31")), "--format", "json")

    rules = [(one["rule"], one["accepted"]) for one in json.loads(result.stdout)["findings"]]
    assert sorted(rules) == [("LW049", False), ("LW098", False)]
    assert result.exit_code == 1


def test_an_acceptance_holds_on_its_last_day(tmp_path: Path) -> None:
    plan = load_plan(with_acceptance(tmp_path, "2026-11-22")).plan

    assert [one.accepted for one in check_plan(plan, now=NOW)] == [True]


def test_what_is_no_plan_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("name: x\nnmae: y\n")

    with pytest.raises(SystemExit) as stopped:
        main(["check", str(file)])

    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "ERROR [plan-unreadable]" in told
    assert "HINT: " in told


def test_what_is_no_plan_is_one_json_object_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(tmp_path / "none.yaml"), "--format", "json"])

    assert stopped.value.code == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "plan-unreadable"
