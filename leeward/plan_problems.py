"""What is wrong with a plan file, told as expected and found, with the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import ValidationError

from chalicelib.plan.model import Plan

PlanPath = tuple[str | int, ...]

_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")

_QUOTED = re.compile(r"'([^']+)'")

# pydantic's error types -> what was expected, as a person would say it.
_EXPECTED = {
    "string_type": "text (quote it when it looks like a number)",
    "string_too_short": "text that is not empty",
    "string_too_long": "text of at most {max_length} characters",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "dict_type": "a mapping of names",
    "tuple_type": "a list",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "too_short": "at least {min_length} of them",
    "greater_than_equal": "at least {ge}",
    "literal_error": "{expected}",
    "date_from_datetime_parsing": "a day such as 2027-03-01",
    "date_parsing": "a day such as 2027-03-01",
    "date_type": "a day such as 2027-03-01",
}


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a file from being a plan. is_key: the key is meant, not its value."""

    path: PlanPath
    message: str
    nearest: str | None = None
    hint: str = "docs/plan.md describes every part of a plan"
    is_key: bool = False


def explain_validation(error: ValidationError, data: Any) -> list[Problem]:
    """pydantic's errors about `data` as problems."""
    return [
        _explain(detail, _path_in(data, detail), data) for detail in error.errors(include_url=False)
    ]


def _path_in(data: Any, detail: Any) -> PlanPath:
    """Pydantic's place without the tags of unions, which stand in no file."""
    path: list[str | int] = []
    for part in detail["loc"]:
        is_key = isinstance(data, dict) and part in data
        if is_key or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
            path.append(part)
    return (*path, detail["loc"][-1]) if detail["type"] == "missing" else tuple(path)


def _explain(detail: Any, path: PlanPath, data: Any) -> Problem:
    kind, found = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        return _unknown_key(path, data)
    if kind == "missing":
        return Problem(path[:-1], f"expected the key {path[-1]!r}{_within(path[:-1])}, found none")
    if kind == "union_tag_invalid":
        return _unknown_kind((*path, "kind"), detail["ctx"])
    if kind == "union_tag_not_found":
        return Problem(path, f"expected the key 'kind'{_within(path)}, found none")
    expected = _expected(detail)
    nearest = (
        _nearest(found, re.findall(r"'([^']+)'", expected)) if kind == "literal_error" else None
    )
    tail = "" if "found" in expected else f", found {describe(found)}"
    return Problem(path, f"{show(path)}: {expected}{tail}", nearest)


def _unknown_key(path: PlanPath, data: Any) -> Problem:
    nearest = _nearest(path[-1], known_keys(path[:-1], data))
    message = f"expected a key that a plan has{_within(path[:-1])}, found {path[-1]!r}"
    return Problem(path, message, nearest, is_key=True)


def _unknown_kind(path: PlanPath, context: dict[str, Any]) -> Problem:
    kinds = _QUOTED.findall(context["expected_tags"])
    message = f"{show(path)}: expected one of {', '.join(kinds)}, found {context['tag']!r}"
    return Problem(path, message, _nearest(context["tag"], kinds))


def _expected(detail: Any) -> str:
    if detail["type"] == "value_error":
        text = str(detail["ctx"]["error"])
        return text if text.startswith("expected") else f"expected otherwise: {text}"
    form = _EXPECTED.get(detail["type"])
    return f"expected {form.format(**detail.get('ctx', {}))}" if form else detail["msg"].lower()


def _nearest(name: Any, known: Iterable[str]) -> str | None:
    return next(iter(get_close_matches(str(name), list(known), n=1)), None)


def _within(path: PlanPath) -> str:
    return f" in {show(path)}" if path else ""


def show(path: PlanPath) -> str:
    """("components", "db", "backups", 0) -> "components.db.backups.0"."""
    return ".".join(map(str, path))


def describe(value: Any) -> str:
    """What was found, short and without passwords."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = _PASSWORD.sub(r"\1***@", repr(value))
    return text if len(text) <= 60 else text[:57] + "..."


def known_keys(path: PlanPath, data: Any) -> list[str]:
    """The keys that a plan may have at this place of `data`, sorted."""
    nodes = [_schema()]
    for part in path:
        data = data[part]
        nodes = [inner for node in nodes for inner in _step_into(node, part, data)]
    return sorted({key for node in nodes for key in node.get("properties", ())})


@cache
def _schema() -> dict[str, Any]:
    return Plan.model_json_schema()


def _step_into(node: dict[str, Any], part: str | int, data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, int):
        inner = node.get("items")
    else:
        inner = node.get("properties", {}).get(part, node.get("additionalProperties"))
    if isinstance(inner, dict):
        yield from (one for one in _alternatives(inner) if _is_of_kind(one, data))


def _alternatives(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in node:
        yield from _alternatives(_schema()["$defs"][node["$ref"].rpartition("/")[2]])
    elif "oneOf" in node or "anyOf" in node:
        for one in node.get("oneOf", node.get("anyOf", ())):
            yield from _alternatives(one)
    else:
        yield node


def _is_of_kind(node: dict[str, Any], data: Any) -> bool:
    """Whether a member of a union with `kind` is the one that the data names."""
    const = node.get("properties", {}).get("kind", {}).get("const")
    return const is None or not isinstance(data, dict) or data.get("kind") == const
