"""Text messages to phones, by Amazon SNS."""

from __future__ import annotations

import re
from typing import Any

from chalicelib.adapters.aws_errors import mapped
from chalicelib.errors import BadInput
from chalicelib.ports.notify import Message

# E.164: a plus sign and at most 15 digits.
NUMBER = re.compile(r"\+[1-9]\d{6,14}")
# SNS sends at most 1600 letters, in parts; two parts are read, more are not.
LONGEST = 300


class SmsSender:
    """The `Sender` port. `client`: sns."""

    def __init__(self, client: Any, settings: dict[str, Any]) -> None:
        self._client, self._settings = client, settings

    def send(self, message: Message, to: str) -> str:
        """Raises BadInput (code "bad-address")."""
        number = re.sub(r"[\s().-]", "", to)
        if NUMBER.fullmatch(number) is None:
            raise BadInput(
                f"expected a phone number such as +49301234567, found {to!r}",
                hint="correct it in the plan, with the country's code",
                code="bad-address",
            )
        kind = {"AWS.SNS.SMS.SMSType": {"DataType": "String", "StringValue": "Transactional"}}
        with mapped("sns", to=number):
            answer = self._client.publish(
                PhoneNumber=number,
                Message=f"{message.subject}\n{message.text}"[:LONGEST],
                MessageAttributes=kind,
            )
        return str(answer["MessageId"])
