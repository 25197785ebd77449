"""What people say from a terminal, handed to the function that hears them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import click

from chalicelib.errors import LeewardError, NotReady, Unavailable, all_error_types

KINDS = {kind.__name__: kind for kind in all_error_types()}
TRIES = 3

RUN_AND_STEP: tuple[Callable[[Any], Any], ...] = (click.argument("run"), click.argument("step"))
BY = click.option(
    "--by",
    required=True,
    envvar="LEEWARD_PERSON",
    help="Who you are: a contact of the plan; or LEEWARD_PERSON.",
)
CODE = click.option(
    "--code", help="The one-time code of your device, or a recovery code; asked for otherwise."
)
STANDBY = click.option(
    "--standby",
    metavar="REGION",
    help="Ask the stack of the standby region, which runs what loses the primary one.",
)


def ask_for_code(code: str | None) -> str:
    """A code on the command line would stay in the shell's history; it is asked for unseen."""
    return code or str(click.prompt("Code", hide_input=True, err=True))


def new_key() -> str:
    """One for each time that a person says something, however often it is sent."""
    return uuid.uuid4().hex


def look(event: dict[str, Any], standby: str | None) -> dict[str, Any]:
    """What the function `show` has to show; as `say`."""
    return say(event, standby, function="show")


def say(event: dict[str, Any], standby: str | None, *, function: str = "answer") -> dict[str, Any]:
    """The function's answer; sent again when none comes.

    Raises:
        LeewardError: what was refused, with its code.
        NotReady: code "not-deployed", and what else went wrong in the function.
        Unavailable: nothing answered.
    """
    for _ in range(TRIES - 1):
        try:
            return _say(event, standby, function)
        except Unavailable:
            continue
    return _say(event, standby, function)


def _say(event: dict[str, Any], standby: str | None, short: str) -> dict[str, Any]:
    import boto3

    from chalicelib.adapters.aws_errors import mapped

    function = f"leeward-{'standby' if standby else 'primary'}-{short}"
    with mapped("lambda", function=function):
        client = boto3.client("lambda", region_name=standby)
        answer = client.invoke(FunctionName=function, Payload=json.dumps(event).encode())
    body: dict[str, Any] = json.loads(answer["Payload"].read())
    if "FunctionError" in answer:
        kind, said = str(body.get("errorType")), str(body.get("errorMessage"))
        if KINDS.get(kind, LeewardError).retryable:
            raise Unavailable(said, hint="say it again; it is counted once")
        raise NotReady(f"{function} failed: {kind}: {said}", hint="look at the function's log")
    if "error" in body:
        raise _refused(body["error"])
    return body


def _refused(error: dict[str, Any]) -> LeewardError:
    kind = KINDS.get(str(error.get("kind")), LeewardError)
    return kind(str(error["message"]), hint=str(error["hint"]), code=str(error["code"]))


def answer(
    decision: str,
    *,
    run: str,
    step: str,
    by: str,
    code: str | None,
    reason: str,
    standby: str | None,
    form: str,
) -> None:
    """Send an answer to a question, and show what came of it."""
    event = {
        "run_id": run,
        "step": step,
        "decision": decision,
        "by": by,
        "code": ask_for_code(code),
        "reason": reason,
        "key": new_key(),
    }
    show(say(event, standby), form)


def show(said: dict[str, Any], form: str) -> None:
    click.echo(json.dumps(said) if form == "json" else said["found"])
