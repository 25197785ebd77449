"""Messages and windows in Slack's Block Kit. Pure.

Everything that anybody may have chosen (names, reasons) stands in `plain_text`, which is markup to
nobody; the line for notifications is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.adapters.chat.blocks import LONGEST_SECTION, answer_buttons, cut, plain
from chalicelib.plan.model import Plan
from chalicelib.scenarios.explain import explain_scenario

Json = dict[str, Any]
# Slack takes 50. Source: docs.slack.dev, Block Kit, "Blocks".
MOST_BLOCKS = 45
DIALOG = "leeward-code"
DOES = {
    "approve": "Approve the step {step} of {run_id}.",
    "decline": "Decline the step {step} of {run_id}: its run ends.",
    "done": "Say that the step {step} of {run_id} is done.",
    "declare": "Declare {scenario}: its run starts.",
    "drill": "Start a drill of {scenario}.",
}


def only_you(texts: Iterable[str], *more: Json) -> Json:
    """A message that one person sees."""
    parts = [part for text in texts for part in cut(text)]
    sections = [{"type": "section", "text": plain(part)} for part in parts]
    return {
        "response_type": "ephemeral",
        "replace_original": False,
        "text": escaped(parts[0] if parts else ""),
        "blocks": [*sections, *more][:MOST_BLOCKS],
    }


def escaped(text: str) -> str:
    """Source: docs.slack.dev, "Formatting message text", escaping."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code_dialog(event: Mapping[str, Any]) -> Json:
    """The window that asks for the one-time code, and says for what."""
    names = ("verb", "run_id", "step", "scenario", "reason", "channel", "reply_to")
    asked = {name: event[name] for name in names if name in event}
    what = DOES[event["verb"]].format_map(asked)
    if event.get("reason"):
        what += f"\nReason: {event['reason']}"
    blocks: list[Json] = [{"type": "section", "text": plain(what[:LONGEST_SECTION])}]
    if "run_id" in event:
        blocks.append(_input("reason", "Reason", optional=True, longest=500))
    blocks.append(_input("code", "Your one-time code", optional=False, longest=40))
    return {
        "type": "modal",
        "callback_id": DIALOG,
        "private_metadata": json.dumps(asked),
        "title": plain("Second factor"),
        "submit": plain(str(event["verb"]).capitalize()),
        "close": plain("Cancel"),
        "blocks": blocks,
    }


def _input(name: str, label: str, *, optional: bool, longest: int) -> Json:
    element = {"type": "plain_text_input", "action_id": name, "max_length": longest}
    return {
        "type": "input",
        "block_id": name,
        "optional": optional,
        "label": plain(label),
        "element": element,
    }


def show_status(incidents: Iterable[Mapping[str, Any]]) -> Json:
    """incidents: as the verb "incident" tells each."""
    texts, buttons = [], []
    for it in incidents:
        drill = "DRILL " if it["drill"] else ""
        head = f"{drill}{it['severity']} {it['incident']}\n{it['scenario']} ({it['component']})"
        asked = [question for question in it["questions"] if not question["answered"]]
        waits = [f"waits for {q['step']} until {q['until']}: {q['says']}" for q in asked]
        texts.append("\n".join([head, f"{it['run']}: {it['run_status']}", *waits]))
        buttons += [answer_buttons(it["run"], q["step"], q["kind"]) for q in asked]
    return only_you(texts or ["No incident is open."], *buttons)


def show_scenario(plan: Plan, name: str) -> Json:
    told = explain_scenario(plan, name)
    steps = [
        f"{number}. {step.name}: {step.says} ({step.who})"
        + (f"; approved by {step.approval}" if step.approval else "")
        for number, step in enumerate(told.steps, 1)
    ]
    starts = f"starts by: {', '.join(told.starts_when) or 'a person'}"
    return only_you(["\n".join([f"{told.title} ({name})", starts, *steps])])


def show_people(plan: Plan) -> Json:
    roles = [
        f"{role.title}: {', '.join(role.held_by) or 'nobody'}"
        + (f" (may {', '.join(role.may)})" if role.may else "")
        for role in plan.roles.values()
    ]
    path = [
        f"{step.who}: {step.contact or 'the channels of those inside'}" for step in plan.escalation
    ]
    return only_you(["\n".join(["Roles", *roles]), "\n".join(["Called, in this order", *path])])
