"""In a channel of Slack's, an incident is one thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chalicelib.adapters.notify.slack import SlackSender
from chalicelib.errors import Refused, Unavailable
from chalicelib.incidents.threads import StoredThreads
from chalicelib.ports.notify import Message
from tests.fakes_state import InMemoryState
from tests.receivers import Receiver, http_receiver

MESSAGE = Message(
    "id", "inc-1", "opened", "internal", "SEV1", "Fire", "It burns", False, datetime.now(UTC)
)  # fmt: skip


def sender(api: Receiver) -> SlackSender:
    login = {"token": "xoxb-x", "url": f"{api.url}/api/"}
    return SlackSender(login, seconds=3, threads=StoredThreads(InMemoryState()))


def threads(api: Receiver) -> list[str | None]:
    return [it.form.get("thread_ts") for it in api.got]


def test_one_message_of_many_at_once_begins_the_thread() -> None:
    with http_receiver() as api, ThreadPoolExecutor(5) as pool:
        slack = sender(api)
        list(pool.map(lambda _: slack.send(MESSAGE, "#ops"), range(5)))
        assert sorted(threads(api), key=str) == ["1700000000.1"] * 4 + [None]


def test_another_incident_another_channel_and_a_page_stand_by_themselves() -> None:
    with http_receiver() as api:
        slack = sender(api)
        slack.send(MESSAGE, "#ops")
        slack.send(MESSAGE, "#drills")
        slack.send(replace(MESSAGE, incident="inc-2"), "#ops")
        slack.send(replace(MESSAGE, what="page"), "#ops")
        slack.send(MESSAGE, "U0123")
        assert threads(api) == [None] * 5


def test_what_slack_did_not_take_begins_nothing() -> None:
    with http_receiver() as api:
        slack = sender(api)
        api.mood = "503"
        with pytest.raises(Unavailable):
            slack.send(MESSAGE, "#ops")
        api.mood = "ok"
        slack.send(MESSAGE, "#ops")
        slack.send(replace(MESSAGE, what="recovered"), "#ops")
        assert threads(api) == [None, None, "1700000000.1"]
        assert api.got[-1].form["reply_broadcast"] in ("1", "true", "True", True)


def test_a_thread_that_slack_has_no_more_takes_no_message_away() -> None:
    with http_receiver() as api:
        slack = sender(api)
        slack.send(MESSAGE, "#ops")
        api.mood = "thread_not_found"
        with pytest.raises(Refused):
            slack.send(MESSAGE, "#ops")
        assert threads(api) == [None, "1700000000.1", None]  # tried once more, beside the thread
