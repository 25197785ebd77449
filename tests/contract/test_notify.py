"""Senders against real servers that accept, refuse, fail, hang and hang up."""

from __future__ import annotations

import email
import email.policy
import hashlib
import hmac
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from moto import mock_aws

from chalicelib.adapters.notify.mail import SesSender, SmtpSender
from chalicelib.adapters.notify.pagerduty import PagerDutySender
from chalicelib.adapters.notify.senders import ChannelSenders
from chalicelib.adapters.notify.slack import SlackSender
from chalicelib.adapters.notify.sms import SmsSender
from chalicelib.adapters.notify.webhook import WebhookSender
from chalicelib.errors import LeewardError, NotReady, Refused, Throttled, Unavailable
from chalicelib.ports.notify import Message
from tests.receivers import Mailbox, Receiver, closed_port, http_receiver, mail_server

LIMIT = 0.5
KINDS = ("slack", "pagerduty", "webhook")


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with http_receiver() as running:
        yield running


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    server.got.clear()
    server.mood = "ok"
    return server


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with mail_server() as running:
        yield running


def message(**change: Any) -> Message:
    fields: dict[str, Any] = {
        "id": "m-1",
        "incident": "inc-20261122T084500Z-db",
        "what": "opened",
        "audience": "internal",
        "severity": "SEV1",
        "subject": "SEV1: Database corruption",
        "text": "It was noticed at 08:45 UTC.",
        "drill": False,
        "written_at": datetime(2026, 11, 22, 8, 45, tzinfo=UTC),
    }
    return Message(**(fields | change))


def sender(kind: str, url: str) -> Any:
    if kind == "slack":
        return SlackSender({"token": "xoxb-secret", "url": f"{url}/api/"}, seconds=LIMIT)
    if kind == "pagerduty":
        return PagerDutySender({"routing_key": "R1", "url": f"{url}/v2/enqueue"}, seconds=LIMIT)
    return WebhookSender({"key": "shared", "url": f"{url}/hook"}, seconds=LIMIT)


def send(kind: str, url: str) -> str:
    to = "#incidents" if kind == "slack" else ""
    told: str = sender(kind, url).send(message(), to)
    return told


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("mood", "error"),
    [
        ("429", Throttled),
        ("500", Unavailable),
        ("503", Unavailable),
        ("hang", Unavailable),
        ("drip", Unavailable),
        ("rude", Unavailable),
        ("404", Refused),
        ("302", Refused),
    ],
)
def test_each_failure_is_told_apart_and_in_time(
    receiver: Receiver, kind: str, mood: str, error: type[LeewardError]
) -> None:
    receiver.mood = mood
    began = time.monotonic()
    with pytest.raises(LeewardError) as failed:
        send(kind, receiver.url)
    assert time.monotonic() - began < 10  # it hangs for three times as long
    if (kind, mood) != ("slack", "302"):  # its own library goes there, and finds nobody
        assert isinstance(failed.value, error), failed.value
    if error is Unavailable:
        assert not isinstance(failed.value, Throttled)
    assert "xoxb-secret" not in str(failed.value.to_json())
    assert [it.path for it in receiver.got] != ["/elsewhere"]


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_listens(kind: str) -> None:
    with pytest.raises(Unavailable):
        send(kind, f"http://127.0.0.1:{closed_port()}")


def test_slack_gets_text_in_which_nothing_is_markup(receiver: Receiver) -> None:
    hostile = message(text="<!channel> & <https://evil.example|click>", subject="<@U1>")
    told = sender("slack", receiver.url).send(hostile, "#incidents")
    assert told == "1700000000.1"
    [got] = receiver.got
    assert got.path == "/api/chat.postMessage"
    assert got.headers["authorization"] == "Bearer xoxb-secret"
    assert got.form["channel"] == "#incidents"
    assert got.form["text"] == (
        "*&lt;@U1&gt;*\n&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;"
    )


@pytest.mark.parametrize(
    ("mood", "error"),
    [
        ("channel_not_found", Refused),
        ("invalid_auth", NotReady),
        ("ratelimited", Throttled),
        ("internal_error", Unavailable),
    ],
)
def test_what_slack_says_is_understood(
    receiver: Receiver, mood: str, error: type[LeewardError]
) -> None:
    receiver.mood = mood
    with pytest.raises(error):
        send("slack", receiver.url)


def test_one_alert_of_pagerduty_is_opened_acknowledged_and_resolved(receiver: Receiver) -> None:
    to_pager = sender("pagerduty", receiver.url)
    for what in ("opened", "asked", "acknowledged", "recovered"):
        assert to_pager.send(message(what=what), "") == "key-of-theirs"
    events = [it.json for it in receiver.got]
    assert [it["event_action"] for it in events] == [
        "trigger", "trigger", "acknowledge", "resolve",
    ]  # fmt: skip
    assert {it["dedup_key"] for it in events} == {"leeward/inc-20261122T084500Z-db"}
    assert events[0]["payload"]["severity"] == "critical"
    assert events[0]["routing_key"] == "R1"


def test_a_webhook_can_be_verified(receiver: Receiver) -> None:
    send("webhook", receiver.url)
    [got] = receiver.got
    at = got.headers["x-leeward-timestamp"]
    assert abs(int(at) - time.time()) < 10
    expected = hmac.new(b"shared", f"v1:{at}:".encode() + got.body, hashlib.sha256).hexdigest()
    assert got.headers["x-leeward-signature"] == f"v1={expected}"
    assert got.headers["idempotency-key"] == "m-1"
    assert Message.from_json(got.json) == message()


def smtp(mailbox: Mailbox, **more: Any) -> SmtpSender:
    server = {"host": "127.0.0.1", "port": mailbox.port, "tls": False} | more
    return SmtpSender({"from": "dr@example.org", "smtp": server}, seconds=LIMIT)


def test_a_mail_arrives_and_no_name_adds_a_header(mailbox: Mailbox) -> None:
    mailbox.mails.clear()
    mailbox.refuses = ""
    smtp(mailbox).send(message(subject="Lost\r\nBcc: all@example.org"), "ops@example.org")
    [raw] = mailbox.mails
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail["Subject"] == "Lost Bcc: all@example.org"
    assert mail["Bcc"] is None
    assert mail["To"] == "ops@example.org"
    assert "08:45 UTC" in mail.get_content()


@pytest.mark.parametrize(
    ("refuses", "error"),
    [
        ("550 no such user", Refused),
        ("450 greylisted", Throttled),
        ("451 local error", Unavailable),
        ("421 closing", LeewardError),
    ],
)
def test_what_the_mail_server_says_is_understood(
    mailbox: Mailbox, refuses: str, error: type[LeewardError]
) -> None:
    mailbox.refuses = refuses
    with pytest.raises(error):
        smtp(mailbox).send(message(), "ops@example.org")
    mailbox.refuses = ""


def test_a_mail_server_that_hangs_is_left(mailbox: Mailbox) -> None:
    mailbox.hangs, began = 30.0, time.monotonic()
    with pytest.raises(Unavailable):
        smtp(mailbox).send(message(), "ops@example.org")
    assert time.monotonic() - began < 10
    mailbox.hangs = 0
    mailbox.released.set()


def test_a_mail_server_without_tls_is_not_trusted(mailbox: Mailbox) -> None:
    with pytest.raises(NotReady):
        smtp(mailbox, tls=True).send(message(), "ops@example.org")


@pytest.mark.parametrize("to", ["ops", "a@b\r\nBcc: c@d", "", "a@b, c@d"])
def test_what_is_no_address_is_refused_before_anything_is_sent(mailbox: Mailbox, to: str) -> None:
    mailbox.mails.clear()
    with pytest.raises(LeewardError) as error:
        smtp(mailbox).send(message(), to)
    assert error.value.instance_code == "bad-address"
    assert mailbox.mails == []


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield


def test_ses_sends_from_a_verified_address_alone(aws: None) -> None:
    client = boto3.client("sesv2", region_name="us-east-1")
    to_ses = SesSender(client, {"from": "dr@example.org"})
    with pytest.raises(LeewardError):
        to_ses.send(message(), "ops@example.org")
    client.create_email_identity(EmailIdentity="dr@example.org")
    assert to_ses.send(message(), "ops@example.org")


def test_a_text_message_goes_to_a_number_as_people_write_it(aws: None) -> None:
    from moto.sns.models import sns_backends

    client = boto3.client("sns", region_name="us-east-1")
    to_phone = SmsSender(client, {})
    assert to_phone.send(message(), "+1 (555) 010-0123")
    [(number, text, *_)] = sns_backends["123456789012"]["us-east-1"].sms_messages.values()
    assert number == "+15550100123"
    assert text.startswith("SEV1: Database corruption\n")
    with pytest.raises(LeewardError) as error:
        to_phone.send(message(), "+1-xxx-xxx-xxxx")
    assert error.value.instance_code == "bad-address"


SECRET = {
    "slack": {"token": "xoxb-1"},
    "pagerduty": {"routing_key": "REAL"},
    "hook": {"key": "k", "url": "http://127.0.0.1:1/"},
    "email": {"from": "dr@example.org", "smtp": {"host": "127.0.0.1"}},
}


@pytest.mark.parametrize(
    ("kind", "name"), [("pagerduty", "pager"), ("webhook", "hook")], ids=lambda it: it
)
def test_a_drill_never_uses_the_login_that_reaches_people(kind: str, name: str) -> None:
    senders = ChannelSenders(lambda: SECRET, lambda service: None)
    assert senders.of(kind, name, drill=False)
    with pytest.raises(NotReady) as error:
        senders.of(kind, name, drill=True)
    assert error.value.instance_code == "no-channel-login"
    of_drills = {"drill": {kind: {"routing_key": "TEST", "key": "k"}}}
    assert ChannelSenders(lambda: SECRET | of_drills, lambda service: None).of(
        kind, name, drill=True
    )


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        ("slack", "other", "no-channel-login"),
        ("pagerduty", "broken", "no-channel-login"),
        ("status-page", "page", "no-status-page"),
        ("social", "twitter", "not-sent-by-leeward"),
    ],
)
def test_what_cannot_be_sent_says_what_is_missing(kind: str, name: str, code: str) -> None:
    kept = {"broken": {"key": "no routing key"}}
    senders = ChannelSenders(lambda: kept, lambda service: None)
    with pytest.raises(NotReady) as error:
        senders.of(kind, name, drill=False)
    assert error.value.instance_code == code
