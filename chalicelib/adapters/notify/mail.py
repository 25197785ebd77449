"""E-mail, by a server of one's own (SMTP) or by Amazon SES."""

from __future__ import annotations

import smtplib
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.adapters.notify.http import LIMIT_SECONDS, within
from chalicelib.errors import BadInput, NotReady, Refused, Throttled, Unavailable
from chalicelib.ports.notify import Message

# RFC 5322, 2.1.1: a line of a header has at most 998 letters; a subject that long helps nobody.
LONGEST_SUBJECT = 200
LATER, THROTTLED = range(400, 500), (421, 450, 452)


def compose(message: Message, sender: str, to: str) -> EmailMessage:
    """Plain text. Names cannot add headers: line breaks are refused by the library and taken out.

    Raises BadInput (code "bad-address").
    """
    mail = EmailMessage()
    try:
        mail["From"], mail["To"] = Address(addr_spec=sender), Address(addr_spec=to)
    except (ValueError, IndexError) as error:  # the second of an empty one
        raise BadInput(
            f"expected an address of e-mail, found {to!r} (from {sender!r})",
            hint="correct it in the plan, or in the secret of the channels",
            code="bad-address",
        ) from error
    mail["Subject"] = " ".join(message.subject.split())[:LONGEST_SUBJECT]
    mail["Message-ID"] = f"<{message.id}@leeward.invalid>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text)
    return mail


class SmtpSender:
    """`settings`: {"from", "smtp": {"host", "port", "user", "password", "tls": false only where
    the server is on this machine}}."""

    def __init__(self, settings: dict[str, Any], *, seconds: float = LIMIT_SECONDS) -> None:
        self._from, self._server, self._seconds = settings["from"], settings["smtp"], seconds

    def send(self, message: Message, to: str) -> str:
        mail = compose(message, self._from, to)
        failed = within(self._seconds, "the mail server", lambda: self._hand_over(mail))
        if failed is not None:
            raise _mapped(failed, to) from failed
        return str(mail["Message-ID"])

    def _hand_over(self, mail: EmailMessage) -> smtplib.SMTPException | None:
        host, port = str(self._server["host"]), int(self._server.get("port", 587))
        try:
            with smtplib.SMTP(host, port, timeout=self._seconds) as server:
                if self._server.get("tls", True):
                    server.starttls(context=ssl.create_default_context())
                if self._server.get("user"):
                    server.login(self._server["user"], self._server["password"])
                server.send_message(mail)
        except smtplib.SMTPServerDisconnected as error:
            raise OSError("the mail server hung up") from error
        except smtplib.SMTPException as error:
            return error
        return None


def _mapped(error: smtplib.SMTPException, to: str) -> Exception:
    code = _code_of(error)
    if isinstance(error, smtplib.SMTPNotSupportedError | smtplib.SMTPAuthenticationError):
        return NotReady(
            f"the mail server does not take the login, or no TLS: {type(error).__name__}",
            hint="look at `smtp` in the secret of the channels",
            code="no-channel-login",
        )
    if code in THROTTLED:
        return Throttled(f"the mail server says: not now ({code})", hint="it is tried again later")
    if code in LATER or code < 400:
        return Unavailable(f"the mail server answers {code}", hint="it is tried again later")
    return Refused(
        f"the mail server refuses a mail to {to}: {code}",
        hint="is the address right, and may this sender write to it?",
        code="message-refused",
    )


def _code_of(error: smtplib.SMTPException) -> int:
    if isinstance(error, smtplib.SMTPResponseException):
        return int(error.smtp_code)
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return max(int(code) for code, _ in error.recipients.values())
    return 0


class SesSender:
    """`settings`: {"from"}: an address that SES has verified. `client`: sesv2.

    Not as a raw message: that takes another right (ses:SendRawEmail), and no header of its own.
    """

    def __init__(self, client: Any, settings: dict[str, Any]) -> None:
        self._client, self._from = client, settings["from"]

    def send(self, message: Message, to: str) -> str:
        mail = compose(message, self._from, to)
        with mapped("ses", to=to):
            answer = self._client.send_email(
                FromEmailAddress=self._from,
                Destination={"ToAddresses": [to]},
                Content={
                    "Simple": {
                        "Subject": {"Data": str(mail["Subject"]), "Charset": "UTF-8"},
                        "Body": {"Text": {"Data": message.text, "Charset": "UTF-8"}},
                    }
                },
            )
        return str(answer["MessageId"])
