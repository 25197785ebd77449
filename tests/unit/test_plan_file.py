"""What a person hears about a file that is no plan."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.errors import PlanError
from chalicelib.plan.check.lint import check_plan
from leeward.plan_file import MAX_BYTES, load_plan
from leeward.plan_yaml import parse_yaml

ROOT = Path(__file__).parents[2]
SOUND = (ROOT / "docs/sound-plan.yaml").read_text()


def refusal(folder: Path, content: str | bytes) -> PlanError:
    file = folder / "plan.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PlanError) as caught:
        load_plan(file)
    return caught.value


def line_with(text: str) -> int:
    return SOUND[: SOUND.index(text)].count("\n") + 1


@pytest.mark.parametrize("name", ["nexus-studio", "artist-tech"])
def test_the_shipped_plans_are_plans(name: str) -> None:
    assert load_plan(ROOT / f"policies/plans/{name}.yaml").plan.name == name


def test_unknown_key_names_line_column_and_the_nearest(tmp_path: Path) -> None:
    error = refusal(tmp_path, SOUND.replace("    depends_on: [db]", "    depend_on: [db]"))

    [problem] = error.context["problems"]
    assert (problem["line"], problem["column"]) == (line_with("    depends_on: [db]"), 5)
    assert problem["path"] == ["components", "shop", "depend_on"]
    assert f"plan.yaml:{problem['line']}:5: " in error.message
    assert "found 'depend_on'" in error.message
    assert error.hint == "write 'depends_on'"


@pytest.mark.parametrize(
    ("right", "wrong", "nearest"),
    [
        ("kind: names", "kind: name", "names"),
        ("site: main\n    deployment", "site: mian\n    deployment", "main"),
        ("depends_on: [db]", "depends_on: [dbs]", "db"),
        ("role: standby", "role: stanby", "standby"),
        ("with: { component: names }", "with: { component: nmes }", "names"),
        ("held_by: [ada, grace]", "held_by: [ada, grase]", "grace"),
    ],
)
def test_a_misspelt_name_gets_the_nearest(
    tmp_path: Path, right: str, wrong: str, nearest: str
) -> None:
    assert refusal(tmp_path, SOUND.replace(right, wrong, 1)).hint == f"write {nearest!r}"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        SOUND.replace("rto: 4h", "rto: 4").replace("ttl:", "x").replace("takes: 20m", "takes: soon")
    )
    text = text.replace("    kind: service\n", "")

    error = refusal(tmp_path, text)

    told = [(problem["line"], problem["message"]) for problem in error.context["problems"]]
    assert [line for line, _ in told] == sorted(line for line, _ in told)
    assert "with a unit" in told[0][1]
    assert "found 'soon'" in told[1][1]
    assert "expected the key 'kind' in components.shop" in told[2][1]
    assert error.message.startswith("3 problems")


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("", "an empty file", "start from"),
        ("# nothing\n", "an empty file", "start from"),
        ("- a\n", "something else", "start from"),
        ("name: x\n\tb: 1\n", ":2:1: expected YAML", "spaces, not with tabs"),
        ("a: b: c\n", ":1:5: expected YAML", "indentation"),
        ("a: [1, 2\n", ":2:1: expected YAML", "indentation"),
        ("a: \x01\n", "character that it does not allow", "control characters"),
        ("a: 1\n---\nb: 2\n", ":2:1: expected YAML", "indentation"),
        ("a: 1\nb: 2\na: 3\n", "plan.yaml:3:1: expected each key once", "keep one"),
        ("a: &x {b: 1}\n", "found an anchor or alias", "write the value out"),
        ("a: &x 1\nb: *x\n", "found an anchor or alias", "write the value out"),
        ("<<: {a: 1}\n", "found a merge", "in full"),
        ("a: !!python/object:os.system x\n", "found the tag", "in full"),
        ("[a, b]: 1\n", "expected a name as key", "in full"),
        (b"\x7fELF\x00\x01", "a binary file", "YAML file"),
        (b"name: ok\nb: \xff\n", "plan.yaml:2:4: expected UTF-8", "as UTF-8"),
        ("{" * 1000, "nested too deeply", "right file"),
        ("a" * (MAX_BYTES + 1), f"at most {MAX_BYTES} bytes", "right file"),
        ("a: " + "b" * 10_000_000, f"at most {MAX_BYTES} bytes", "right file"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_what_is_no_plan_gets_one_clear_error(
    tmp_path: Path, content: str | bytes, message: str, hint: str
) -> None:
    error = refusal(tmp_path, content)

    assert message in error.message
    assert hint in error.hint
    assert error.code == "plan-unreadable"


def test_a_file_that_is_not_there_or_a_folder_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(PlanError, match=r"(no such file|is a directory)"):
            load_plan(path)


@pytest.mark.parametrize("told", ["ada", "commander", "chat", "status"])
def test_an_alarm_goes_to_contacts_roles_and_channels(told: str, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(SOUND.replace("notify: [on-call]", f"notify: [{told}]"))

    assert load_plan(file).plan.thresholds[0].notify == (told,)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("title: Database corruption", "title: 12", "quote it when it looks like a number"),
        ("kind: restore-test", "kind: restore-test\n    manual: 1", "true or false"),
        ("takes: 20m", "takes: 20", "with a unit"),
    ],
)
def test_values_are_not_bent_into_another_type(
    right: str, wrong: str, message: str, tmp_path: Path
) -> None:
    assert message in refusal(tmp_path, SOUND.replace(right, wrong)).message


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SOUND.replace("\n", "\r\n").encode())

    assert load_plan(file).plan == load_plan(ROOT / "docs/sound-plan.yaml").plan


def test_a_password_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    error = refusal(tmp_path, SOUND.replace("rto: 4h", "rto: postgresql://a:hunter2@db/x"))

    assert "hunter2" not in error.message + str(error.context)


def test_many_problems_are_cut_short_and_counted(tmp_path: Path) -> None:
    error = refusal(tmp_path, SOUND + "".join(f"x{number}: 1\n" for number in range(50)))

    assert error.message.startswith("50 problems")
    assert "and 30 more" in error.message
    assert len(error.context["problems"]) == 50


JUNK = st.sampled_from(
    [None, 0, -1, 3.5, True, "", "x", "4h", "$(date)", [], {}, ["a"], {"a": 1}, [None], "9" * 400]
)


def places(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in the data, the outermost first."""
    yield path
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(value, (*path, key))


def told_about(file: Path) -> list[str]:
    """What a person hears: findings, or why it is no plan."""
    try:
        plan = load_plan(file).plan
    except PlanError as error:
        return [problem["message"] for problem in error.context["problems"]] or [""]
    return [one.message for one in check_plan(plan, now=datetime(2026, 11, 22, tzinfo=UTC))]


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_a_plan_with_anything_anywhere_is_a_plan_or_refused(data: st.DataObject) -> None:
    plan = parse_yaml(SOUND, Path("plan.yaml")).data
    *path, last = data.draw(st.sampled_from([place for place in places(plan) if place]))
    part = plan
    for key in path:
        part = part[key]
    part[last] = data.draw(JUNK)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plan.yaml"
        file.write_text(json.dumps(plan))
        assert all(told_about(file))


def test_line_of_a_part_and_of_what_is_not_written() -> None:
    file = load_plan(ROOT / "docs/sound-plan.yaml")

    assert file.line_of(("objectives", "rpo"))[0] == line_with("  rpo: 1h")
    assert file.line_of(("components", "shop", "backups"))[0] == line_with("  shop:\n")
    assert file.line_of(()) == (4, 1)
