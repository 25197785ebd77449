"""YAML -> plain JSON types, with the line and column of every key and item.

Stricter than YAML: keys are texts and stand once, and there are no anchors, aliases, merge keys or
tags, so that a reader of the file sees all there is. Dates stay the text that was written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from chalicelib.errors import PlanError
from leeward.plan_problems import Problem

PlanPath = tuple[str | int, ...]
_TAG = "tag:yaml.org,2002:"
_KINDS = ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")


@dataclass
class Document:
    """What a file says: `data` in JSON types, where each part stands, what YAML must not say."""

    data: Any = None
    keys: dict[PlanPath, tuple[int, int]] = field(default_factory=dict)
    values: dict[PlanPath, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def position(self, path: PlanPath, *, of_key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of a part, or of the nearest part around it."""
        if of_key and path in self.keys:
            return self.keys[path]
        while path not in self.values and path:
            path = path[:-1]
        return self.values.get(path, (1, 1))


def parse_yaml(text: str, file: Path) -> Document:
    """Raises PlanError when the text is not YAML, is empty, or is no mapping."""
    node = _compose(text, file)
    if not isinstance(node, MappingNode):
        found = "an empty file" if node is None else "something else"
        raise PlanError(
            f"{file}:1:1: expected a plan, a mapping that starts with `name:`, found {found}",
            hint="start from policies/plans/nexus-studio.yaml",
        )
    document = Document()
    document.data = _read(node, (), document)
    return document


def _compose(text: str, file: Path) -> Node | None:
    try:
        node = _nodes(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise PlanError(
            f"{where}: expected YAML: {error.problem}", hint=_yaml_hint(text, mark)
        ) from error
    except YAMLError as error:
        raise PlanError(
            f"{file}: expected YAML, found a character that it does not allow",
            hint="remove control characters from the file",
        ) from error
    except RecursionError as error:
        raise PlanError(
            f"{file}: expected a plan, found YAML nested too deeply to be one",
            hint="look whether this is the right file",
        ) from error
    return node


@lru_cache(maxsize=4)
def _nodes(text: str) -> Node | None:
    """Each part of a command that needs a plan reads it, 0.15 s a time. Nobody changes a node."""
    node: Node | None = YAML(typ="safe", pure=True).compose(text)
    return node


def _yaml_hint(text: str, mark: Any) -> str:
    line = text.split("\n")[mark.line] if mark and mark.line < text.count("\n") + 1 else ""
    if line[: len(line) - len(line.lstrip())].count("\t"):
        return "indent with spaces, not with tabs"
    return "look at that line and the one before: indentation, quotes, and a space after each colon"


def _read(node: Node, path: PlanPath, document: Document) -> Any:
    """The node as JSON types; a part that is not allowed is reported and read as None."""
    document.values.setdefault(path, _place(node))
    if node.anchor or str(node.tag).removeprefix(_TAG) not in _KINDS:
        what = "an anchor or alias" if node.anchor else f"the tag {node.tag}"
        _report(document, path, f"expected plain YAML, found {what}", "write the value out in full")
        return None
    if isinstance(node, MappingNode):
        return dict(_read_entries(node, path, document))
    if isinstance(node, SequenceNode):
        return [_read(item, (*path, i), document) for i, item in enumerate(node.value)]
    return _read_scalar(node)


def _read_entries(
    node: MappingNode, path: PlanPath, document: Document
) -> Iterator[tuple[str, Any]]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line, column = _place(key_node)
        key = key_node.value if isinstance(key_node, ScalarNode) else None
        here = (*path, key if isinstance(key, str) else "?")
        document.keys.setdefault(here, (line, column))
        if not isinstance(key, str) or str(key_node.tag) == _TAG + "merge":
            hint = "write the keys out in full"
            _report(document, here, "expected a name as key, found a merge or a list", hint)
        elif key in seen:
            document.keys[here] = (line, column)
            found = f"expected each key once, found {key!r} again (first on line {seen[key]})"
            _report(document, here, found, "keep one of the two", is_key=True)
        else:
            seen[key] = line
            is_block = not isinstance(value_node, ScalarNode) and not value_node.flow_style
            document.values[here] = (line, column) if is_block else _place(value_node)
            yield key, _read(value_node, here, document)


def _read_scalar(node: Node) -> Any:
    kind, text = str(node.tag).removeprefix(_TAG), str(node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("true", "yes", "on")
    try:
        if kind == "int":
            return int(text.replace("_", ""), 0 if text[:2].lower() in ("0x", "0o") else 10)
        if kind == "float" and not text.lower().endswith(("inf", "nan")):
            return float(text.replace("_", ""))
    except ValueError:
        return text
    return text


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _report(
    document: Document, path: PlanPath, message: str, hint: str, *, is_key: bool = False
) -> None:
    document.problems.append(Problem(path, message, hint=hint, is_key=is_key))
