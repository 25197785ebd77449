"""Every rule fires on its example in docs/rules.md, and is silent on the mended one."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.plan.check.finding import Finding
from chalicelib.plan.check.lint import EXPIRED, RULES, UNUSED, check_plan, title_of
from chalicelib.plan.model import Plan
from chalicelib.scenarios.stability import check_stability
from chalicelib.scenarios.wiring import check_wiring
from leeward.plan_file import load_plan
from leeward.plan_yaml import parse_yaml

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
RULES_PAGE = (ROOT / "docs/rules.md").read_text()
WIRING = tuple(f"LW{number}" for number in range(101, 110))
ALL_IDS = (*(rule.id for rule in RULES), EXPIRED, UNUSED, *WIRING)
_SECTION = re.compile(r"^### (LW\d{3}) (.+)\n\n(\w+)\. ", re.MULTILINE)
_EXAMPLE = re.compile(r"```yaml (fires|sound)\n(.*?)```", re.DOTALL)


def read_yaml(text: str) -> Any:
    return parse_yaml(text, Path("example.yaml")).data


SOUND = read_yaml((ROOT / "docs/sound-plan.yaml").read_text())


def lay_over(base: Any, change: Any) -> Any:
    """The change's mappings merged into the base's, everything else replaced, None removed."""
    if not (isinstance(base, dict) and isinstance(change, dict)):
        return change
    merged = {key: lay_over(base.get(key), value) for key, value in change.items()}
    return {key: value for key, value in {**base, **merged}.items() if value is not None}


def plan_with(change: Any) -> Plan:
    data = lay_over(copy.deepcopy(SOUND), change)
    return Plan.model_validate_json(json.dumps(data), context={"written": True})


def findings_of(plan: Plan) -> list[Finding]:
    return check_plan(plan, now=NOW, also=[*check_wiring(plan), *check_stability(plan)])


def examples() -> Iterator[tuple[str, str, str]]:
    sections = list(_SECTION.finditer(RULES_PAGE))
    ends = [section.start() for section in sections[1:]] + [len(RULES_PAGE)]
    for section, end in zip(sections, ends, strict=True):
        for outcome, text in _EXAMPLE.findall(RULES_PAGE[section.start() : end]):
            yield section[1], outcome, text


EXAMPLES = list(examples())


@pytest.mark.parametrize(("rule", "outcome", "text"), EXAMPLES, ids=lambda value: value[:6].strip())
def test_example_of_the_page(rule: str, outcome: str, text: str) -> None:
    found = {finding.rule for finding in findings_of(plan_with(read_yaml(text)))}

    assert (rule in found) == (outcome == "fires"), found


@pytest.mark.parametrize("rule", ALL_IDS)
def test_every_rule_has_its_section_with_both_examples(rule: str) -> None:
    titles = {match[1]: (match[2], match[3]) for match in _SECTION.finditer(RULES_PAGE)}

    assert titles[rule][0] == title_of(rule)
    assert [outcome for id_, outcome, _ in EXAMPLES if id_ == rule] == ["fires", "sound"]


def test_the_page_tells_no_rule_that_does_not_exist() -> None:
    assert {match[1] for match in _SECTION.finditer(RULES_PAGE)} == set(ALL_IDS)


def test_severity_on_the_page_is_the_rules_own() -> None:
    told = {match[1]: match[3].lower() for match in _SECTION.finditer(RULES_PAGE)}

    assert {rule.id: told[rule.id] for rule in RULES} == {rule.id: rule.severity for rule in RULES}


def test_ids_are_unique_and_in_order() -> None:
    assert len(ALL_IDS) == len(set(ALL_IDS))
    assert [rule.id for rule in RULES] == sorted(rule.id for rule in RULES)


def test_nothing_is_found_in_the_sound_plan() -> None:
    file = load_plan(ROOT / "docs/sound-plan.yaml")

    assert findings_of(file.plan) == []


def test_the_acceptance_on_the_page_accepts() -> None:
    text = RULES_PAGE.split("```yaml accept\n")[1].split("```")[0]
    steps = SOUND["scenarios"]["corruption"]["steps"]
    unapproved = [{k: v for k, v in step.items() if k != "approve"} for step in steps]
    change = read_yaml(text) | {"scenarios": {"corruption": {"steps": unapproved}}}

    assert [(one.rule, one.accepted) for one in findings_of(plan_with(change))] == [("LW040", True)]
