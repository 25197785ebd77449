"""What people write after /dr."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.api.verbs import VERBS, read_command, read_form, read_interaction
from chalicelib.errors import BadInput
from chalicelib.services.people.chat_blocks import code_dialog


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ("status", {"verb": "status"}),
        ("  STATUS ", {"verb": "status"}),
        ("declare fire  smoke in the rack",
         {"verb": "declare", "scenario": "fire", "reason": "smoke in the rack"}),
        ("drill fire", {"verb": "drill", "scenario": "fire"}),
        ("drill fire for the board", {"verb": "drill", "scenario": "fire",
                                      "reason": "for the board"}),
        ("approve run-1 restore", {"verb": "approve", "run_id": "run-1", "step": "restore"}),
        ("ack", {"verb": "ack"}),
        ("ack inc-1", {"verb": "ack", "incident": "inc-1"}),
    ],
)  # fmt: skip
def test_words_become_an_event(text: str, event: dict[str, Any]) -> None:
    found = read_command({"text": text})
    assert {name: found[name] for name in event} == event
    assert set(found) - set(event) == {"user", "channel", "reply_to", "trigger"}


@given(st.text(max_size=80) | st.builds(" ".join, st.lists(st.sampled_from([*VERBS, "a", "b"]))))
def test_any_words_are_an_event_or_a_hint(text: str) -> None:
    found: Any = None
    try:
        found = read_command({"text": text})
    except BadInput as error:
        hint = error.hint
    if found is None:
        assert hint.startswith("/dr ")
        return
    assert set(VERBS[found["verb"]]) <= set(found)
    assert "code" not in found


@given(st.binary(max_size=200))
def test_any_body_is_a_form_or_no_request_of_slacks(body: bytes) -> None:
    code = ""
    try:
        read_interaction(read_form(body))
    except BadInput as error:
        code = error.instance_code
    assert code in ("", "bad-request")


def test_a_window_that_comes_back_asks_for_what_it_showed_by_whoever_sent_it() -> None:
    asked = read_command({"text": "approve run-1 restore", "user_id": "U1", "trigger_id": "t"})
    view = code_dialog(asked)
    values = {"code": {"code": {"value": " 123 456 "}}, "reason": {"reason": {"value": "good"}}}
    sent = {"type": "view_submission", "user": {"id": "U2"}, "view": {
        **{name: view[name] for name in ("callback_id", "private_metadata")},
        "state": {"values": values}}}  # fmt: skip
    event = read_interaction({"payload": json.dumps(sent)})
    assert event is not None
    said = {name: event[name] for name in ("verb", "run_id", "step", "user", "code", "reason")}
    assert said == {"verb": "approve", "run_id": "run-1", "step": "restore", "user": "U2",
                    "code": "123456", "reason": "good"}  # fmt: skip
