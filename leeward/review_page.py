"""A review as one page for an editor: headings to write under, as a commit's message is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

Field = dict[str, Any]
_HEADING = re.compile(r"^## .*\[([a-z0-9-]+)\]\s*$")


def write_page(incident: str, fields: Iterable[Field]) -> str:
    lines = [
        f"# Review of {incident}. Write below each heading; lines that begin with # are left out,",
        '# a line that begins with "- " is an item of a list. Save and close when you are done.',
    ]
    for it in fields:
        lines += ["", f"## {it['heading']} [{it['name']}]"]
        lines += [f"# {prompt}" for prompt in it["prompts"]]
        lines += ["", *(it["text"] or "").splitlines()]
    return "\n".join(lines) + "\n"


def changed_in(page: str, fields: Iterable[Field]) -> dict[str, str]:
    """What stands there now under each heading where it is not what stood there; emptied ones are
    left as they were."""
    before = {it["name"]: (it["text"] or "").strip() for it in fields}
    found: dict[str, list[str]] = {}
    name = ""
    for line in page.splitlines():
        heading = _HEADING.match(line)
        if heading and heading[1] in before:
            name = heading[1]
        elif name and not line.startswith("#"):
            found.setdefault(name, []).append(line.rstrip())
    said = {name: "\n".join(lines).strip() for name, lines in found.items()}
    return {name: text for name, text in said.items() if text and text != before[name]}
