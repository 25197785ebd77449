"""SSM Run Command: scripts really run on the hosts of the local cloud, and hosts are online or not.

moto notes a command and says at once that it succeeded, on every instance there is. Known here are
AWS-RunShellScript and AWS-RunPatchBaseline for named instances, GetCommandInvocation,
CancelCommand, DescribeInstanceInformation and DescribeInstancePatchStates.

A host's patches are the lines of /var/lib/patches/missing; an installation really moves them, by a
script on the host, to `installed`, or to `waiting` when they need a restart that is not allowed.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.core.responses import ActionResult
from moto.ssm.exceptions import SSMException
from moto.ssm.responses import SimpleSystemManagerResponse

from leeward.local.hosts import TIMED_OUT

if TYPE_CHECKING:
    from leeward.local.cloud import LocalCloud

DEFAULT_SECONDS = 3600.0
SHELL, BASELINE = "AWS-RunShellScript", "AWS-RunPatchBaseline"
PATCHES = "var/lib/patches"
# A line "NAME restart" needs one, and "NAME broken" cannot be installed.
INSTALL = """
mkdir -p /var/lib/patches; cd /var/lib/patches
touch missing installed waiting failed
grep ' broken$' missing >failed || true
grep -v ' broken$' missing | grep ' restart$' >>{restarted} || true
grep -v -e ' broken$' -e ' restart$' missing >>installed || true
cp failed missing
date -u +%s >installed-at
"""


class InvalidInstance(SSMException):
    def __init__(self, instance: str) -> None:
        super().__init__("InvalidInstanceId", f"Instances not in a valid state: {instance}")


class NoInvocation(SSMException):
    def __init__(self) -> None:
        super().__init__("InvocationDoesNotExist", "")


class NoDocument(SSMException):
    def __init__(self, name: str) -> None:
        super().__init__("InvalidDocument", f"the local cloud does not know the document {name}")


@contextmanager
def install(cloud: LocalCloud) -> Iterator[None]:
    commands = Invocations(cloud)
    methods: dict[str, Callable[[Any], Any]] = {
        "send_command": lambda response: commands.send(response._get_param),
        "get_command_invocation": lambda response: commands.get(response._get_param),
        "cancel_command": lambda response: commands.cancel(response._get_param),
        "describe_instance_patch_states": lambda response: commands.patch_states(
            response._get_param
        ),
        "describe_instance_information": lambda response: commands.online(response._get_param),
    }
    with ExitStack() as stack:
        for name, method in methods.items():
            stack.enter_context(_method(name, method))
        yield


@contextmanager
def _method(name: str, method: Callable[[Any], Any]) -> Iterator[None]:
    """As `replaced`, also where moto has no such method."""
    original = getattr(SimpleSystemManagerResponse, name, None)
    setattr(SimpleSystemManagerResponse, name, lambda self: ActionResult(method(self)))
    try:
        yield
    finally:
        if original is None:
            delattr(SimpleSystemManagerResponse, name)
        else:
            setattr(SimpleSystemManagerResponse, name, original)


class Invocations:
    """Commands and how each ended, by (command, instance)."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._found: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def send(self, given: Callable[..., Any]) -> dict[str, Any]:
        document, parameters = given("DocumentName"), given("Parameters", {})
        if document not in (SHELL, BASELINE):
            raise NoDocument(document)
        instances = given("InstanceIds", [])
        for instance in instances:
            if not self._cloud.hosts.is_online(instance):
                raise InvalidInstance(instance)
        command = str(uuid.uuid4())
        limit = float(parameters.get("executionTimeout", [DEFAULT_SECONDS])[0])
        script = _script(document, parameters)
        for instance in instances:
            found = {
                "CommandId": command,
                "InstanceId": instance,
                "Comment": given("Comment", ""),
                "DocumentName": document,
                "PluginName": "aws:runShellScript" if document == SHELL else "PatchLinux",
                "ExecutionStartDateTime": datetime.now(UTC).isoformat(),
            }
            with self._lock:
                self._found[command, instance] = found | _told("InProgress", -1)
            arguments = (command, instance, script, limit)
            threading.Thread(target=self._run, args=arguments, daemon=True).start()
        return {
            "Command": {
                "CommandId": command,
                "Comment": given("Comment", ""),
                "DocumentName": document,
                "InstanceIds": instances,
                "Parameters": parameters,
                "RequestedDateTime": time.time(),
                "Status": "Pending",
                "StatusDetails": "Pending",
                "TargetCount": len(instances),
            }
        }

    def get(self, given: Callable[..., Any]) -> dict[str, Any]:
        with self._lock:
            found = self._found.get((given("CommandId"), given("InstanceId")))
        if found is None:
            raise NoInvocation
        return dict(found)

    def cancel(self, given: Callable[..., Any]) -> dict[str, Any]:
        command = given("CommandId")
        with self._lock:
            running = [
                key
                for key, it in self._found.items()
                if key[0] == command and it["Status"] == "InProgress"
            ]
            for key in running:
                self._found[key] |= _told("Cancelled", -1)
        for _, instance in running:
            self._cloud.hosts.cancel(instance)
        return {}

    def online(self, given: Callable[..., Any]) -> dict[str, Any]:
        wanted = {
            value
            for item in given("Filters", [])
            if item["Key"] == "InstanceIds"
            for value in item["Values"]
        }
        online = [it for it in sorted(wanted) if self._cloud.hosts.is_online(it)]
        listed = [{"InstanceId": it, "PingStatus": "Online"} for it in online]
        return {"InstanceInformationList": listed}

    def patch_states(self, given: Callable[..., Any]) -> dict[str, Any]:
        found = [self._patch_state(it) for it in given("InstanceIds", [])]
        return {"InstancePatchStates": [it for it in found if it]}

    def _patch_state(self, instance: str) -> dict[str, Any] | None:
        """None for a host whose agent never looked at its patches."""
        folder = self._cloud.hosts.root(instance) / PATCHES
        if not (folder / "installed-at").exists():
            return None
        counts = {
            name: len((folder / file).read_text().splitlines())
            for name, file in (
                ("InstalledCount", "installed"),
                ("MissingCount", "missing"),
                ("FailedCount", "failed"),
                ("InstalledPendingRebootCount", "waiting"),
            )
        }
        at = int((folder / "installed-at").read_text())
        return counts | {
            "InstanceId": instance,
            "PatchGroup": "",
            "BaselineId": "pb-0123456789abcdef0",
            "Operation": "Install",
            "OperationStartTime": at,
            "OperationEndTime": at,
        }

    def _run(self, command: str, instance: str, script: str, limit: float) -> None:
        status, output, errors = self._cloud.hosts.run(instance, script, limit_seconds=limit)
        if status == TIMED_OUT:
            told = _told("TimedOut", -1, "Execution Timed Out", output, errors)
        else:
            name = "Failed" if status else "Success"
            told = _told(name, status, name, output, errors)
        with self._lock:
            if self._found[command, instance]["Status"] == "InProgress":
                self._found[command, instance] |= told


def _script(document: str, parameters: dict[str, list[str]]) -> str:
    if document == SHELL:
        return "\n".join(parameters["commands"])
    allowed = parameters.get("RebootOption", ["RebootIfNeeded"]) == ["RebootIfNeeded"]
    return INSTALL.format(restarted="installed" if allowed else "waiting")


def _told(
    status: str, code: int, details: str = "", output: str = "", errors: str = ""
) -> dict[str, Any]:
    return {
        "Status": status,
        "StatusDetails": details or status,
        "ResponseCode": code,
        "StandardOutputContent": output,
        "StandardErrorContent": errors,
    }
