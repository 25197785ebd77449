"""Parts of Slack's Block Kit. Pure.

Everything that anybody may have chosen (names, reasons) stands in `plain_text`, which is markup to
nobody.
"""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]
# Slack takes 3000. Source: docs.slack.dev, Block Kit, "Composition objects".
LONGEST_SECTION = 2900


def plain(text: str) -> Json:
    return {"type": "plain_text", "text": text or " ", "emoji": False}


def cut(text: str) -> list[str]:
    """At ends of lines, where there are some."""
    parts = [""]
    for line in text.splitlines():
        shown = line[:LONGEST_SECTION]
        if len(parts[-1]) + len(shown) + 1 > LONGEST_SECTION:
            parts.append("")
        parts[-1] += f"{shown}\n"
    return [part.rstrip("\n") for part in parts if part.strip()]


def answer_buttons(run_id: str, step: str, kind: str) -> Json:
    """What a question can be answered by."""
    value = json.dumps({"run_id": run_id, "step": step})
    good = "approve" if kind == "approve" else "done"
    styles = {good: "primary", "decline": "danger"}
    return {
        "type": "actions",
        "elements": [
            {
                "type": "button",
                "action_id": verb,
                "text": plain(f"{verb.capitalize()} {step}"[:75]),
                "style": style,
                "value": value,
            }
            for verb, style in styles.items()
        ],
    }


def question_blocks(subject: str, text: str, run_id: str, step: str, kind: str) -> list[Json]:
    """A question with the buttons that answer it."""
    sections = [{"type": "section", "text": plain(part)} for part in cut(f"{subject}\n{text}")]
    return [*sections, answer_buttons(run_id, step, kind)]
