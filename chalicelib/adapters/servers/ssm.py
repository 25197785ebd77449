"""SSM Run Command: bash scripts on servers through the agent that runs there.

On the server a script and its whole output lie in /var/lib/leeward/commands (root alone may read
it), the script for as long as it runs. What SSM keeps is the script as it was sent and the end of
the output.
"""

from __future__ import annotations

import shlex
import time
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.adapters.aws_errors import error_code, mapped
from chalicelib.errors import CheckFailed, Unavailable
from chalicelib.ports.servers import Patched, Ran

DOCUMENT = "AWS-RunShellScript"
BASELINE = "AWS-RunPatchBaseline"
FOLDER = "/var/lib/leeward/commands"
# Of each command's output; SSM itself gives the first 24,000 characters and no more.
TAIL_BYTES = 6000
POLL_SECONDS = 0.25
LONGEST_POLL_SECONDS = 3.0
# SSM's least time in which the agent must take a command.
DELIVERY_SECONDS = 30
# What SSM may need longer than the command itself to say how it ended.
SPARE_SECONDS = 20.0
ENDED = ("Success", "Failed", "TimedOut", "Cancelled")
NOT_TAKEN = ("Undeliverable", "DeliveryTimedOut", "Terminated", "InvalidPlatform", "AccessDenied")


class SsmCommands:
    """Implements Commands with an SSM client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def is_online(self, server: str) -> bool:
        filters = [{"Key": "InstanceIds", "Values": [server]}]
        with mapped("ssm", server=server):
            answer = self._client.describe_instance_information(Filters=filters)
        return any(item["PingStatus"] == "Online" for item in answer["InstanceInformationList"])

    def run(self, server: str, script: str, *, name: str, limit_seconds: float) -> Ran:
        started = time.monotonic()
        parameters = {
            "commands": [wrapped(script, name, limit_seconds)],
            "executionTimeout": [str(int(limit_seconds + SPARE_SECONDS))],
        }
        command = self._send(server, DOCUMENT, parameters, name)
        answer = self._wait(server, command, limit_seconds + SPARE_SECONDS)
        status, seconds = int(answer["ResponseCode"]), time.monotonic() - started
        if answer["Status"] == "TimedOut" or status == TIMED_OUT:
            raise _timeout(server, name, limit_seconds, answer["StandardOutputContent"])
        if answer["Status"] == "Cancelled":
            raise Unavailable(
                f"expected {name} to run on {server} to its end, somebody cancelled it",
                hint="it is tried again",
                code="server-unreachable",
            )
        return Ran(status, answer["StandardOutputContent"], answer["StandardErrorContent"], seconds)

    def begin_patches(self, server: str, *, may_restart: bool, name: str) -> str:
        parameters = {
            "Operation": ["Install"],
            "RebootOption": ["RebootIfNeeded" if may_restart else "NoReboot"],
        }
        return self._send(server, BASELINE, parameters, name)

    def follow_patches(self, server: str, command: str, *, seconds: float) -> bool:
        deadline, pause = time.monotonic() + seconds, POLL_SECONDS
        while True:
            answer = self._ask(server, command)
            if answer and answer["Status"] in ENDED:
                return True
            if time.monotonic() + pause > deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)

    def patches(self, server: str) -> Patched | None:
        with mapped("ssm", server=server):
            answer = self._client.describe_instance_patch_states(InstanceIds=[server])
        return next((_patched(it) for it in answer["InstancePatchStates"]), None)

    def _send(self, server: str, document: str, parameters: dict[str, list[str]], name: str) -> str:
        with mapped("ssm", server=server):
            try:
                answer = self._client.send_command(
                    InstanceIds=[server],
                    DocumentName=document,
                    Comment=name[:100],
                    TimeoutSeconds=DELIVERY_SECONDS,
                    Parameters=parameters,
                )
            except ClientError as error:
                # An instance that is stopped, booting, or has no agent is not a valid id to SSM.
                if error_code(error) == "InvalidInstanceId":
                    raise _unreachable(server, "its agent is not connected") from error
                raise
        return str(answer["Command"]["CommandId"])

    def _wait(self, server: str, command: str, seconds: float) -> dict[str, Any]:
        deadline, pause = time.monotonic() + seconds, POLL_SECONDS
        while True:
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
            answer = self._ask(server, command)
            if answer and answer["Status"] in ENDED:
                if answer["StatusDetails"].replace(" ", "") in NOT_TAKEN:
                    raise _unreachable(server, f"SSM says {answer['StatusDetails']}")
                return answer
            if time.monotonic() > deadline:
                self._cancel(server, command)
                status = answer["StatusDetails"] if answer else "nothing"
                raise _unreachable(server, f"SSM says {status} after {seconds:.0f} s")

    def _ask(self, server: str, command: str) -> dict[str, Any] | None:
        """None until SSM knows its own command."""
        with mapped("ssm", server=server):
            try:
                answer = self._client.get_command_invocation(CommandId=command, InstanceId=server)
            except ClientError as error:
                if error_code(error) == "InvocationDoesNotExist":
                    return None
                raise
        return dict(answer)

    def _cancel(self, server: str, command: str) -> None:
        with mapped("ssm", server=server):
            self._client.cancel_command(CommandId=command, InstanceIds=[server])


def _patched(state: dict[str, Any]) -> Patched:
    return Patched(
        baseline=str(state["BaselineId"]),
        began_at=state["OperationStartTime"],
        installed=int(state.get("InstalledCount", 0)),
        missing=int(state.get("MissingCount", 0)),
        failed=int(state.get("FailedCount", 0)),
        waiting_for_restart=int(state.get("InstalledPendingRebootCount", 0)),
    )


# What `timeout` of coreutils exits with when it had to end the command.
TIMED_OUT = 124


def wrapped(script: str, name: str, limit_seconds: float) -> str:
    """The script as it is sent: one at a time by its name, ended in time, its output's end told."""
    file = shlex.quote(f"{FOLDER}/{name.replace('/', '_')}")
    end = "LEEWARD-END-OF-SCRIPT"
    while end in script:
        end += "-"
    return f"""#!/bin/bash
set -u
umask 077
mkdir -p {FOLDER}
exec 9>{file}.lock
flock 9
cat >{file}.sh <<'{end}'
{script}
{end}
: >{file}.log
: >{file}.err
umask 022
timeout --kill-after=5 {int(limit_seconds)} \\
  bash -euo pipefail {file}.sh </dev/null >{file}.log 2>{file}.err 9>&-
status=$?
rm -f {file}.sh
tail -c {TAIL_BYTES} {file}.log
tail -c {TAIL_BYTES} {file}.err >&2
exit $status
"""


def _unreachable(server: str, why: str) -> Unavailable:
    return Unavailable(
        f"expected {server} to take a command, {why}",
        hint="does it run, and is its SSM agent connected? it is tried again",
        code="server-unreachable",
        server=server,
    )


def _timeout(server: str, name: str, seconds: float, output: str) -> CheckFailed:
    return CheckFailed(
        f"expected {name} to end on {server} within {seconds:.0f} s, it was ended",
        hint=f"its output so far is on the server, in {FOLDER}; give the step more time",
        code="command-timeout",
        server=server,
        output=output[-1000:],
    )
