"""Servers: virtual machines, commands on them, and the load balancer in front of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True)
class ServerFacts:
    """A server as its provider describes it.

    state: "pending", "running", "stopping", "stopped". address: in its network. groups: ids of its
    security groups, sorted. name: value of its tag `Name`.
    """

    id: str
    state: str
    address: str
    groups: tuple[str, ...]
    name: str
    launched_at: datetime
    tags: Mapping[str, str] = field(default_factory=dict)


class Servers(Protocol):
    """Virtual machines of one region. Everything may be repeated."""

    def find(self, name: str) -> tuple[ServerFacts, ...]:
        """Those that have the tag `Name` and are not terminated, oldest first."""

    def facts(self, server: str) -> ServerFacts:
        """Raises NotReady (code "server-not-found") when there is none, or it is terminated."""

    def current_version(self, template: str) -> int:
        """The version of a launch template that is launched when none is named."""

    def launch(
        self, template: str, version: int, *, token: str, tags: Mapping[str, str]
    ) -> ServerFacts:
        """Launch one. The same token gives the same server again, and no second one."""

    def set_groups(self, server: str, groups: tuple[str, ...]) -> None:
        """Make these its security groups, and no others."""

    def set_tags(self, server: str, tags: Mapping[str, str]) -> None: ...

    def stop(self, server: str) -> None:
        """Its disks are kept. Returns before it has stopped."""

    def start(self, server: str) -> None: ...

    def terminate(self, server: str) -> None:
        """Its disks are gone with it: of a drill's own servers alone."""


@dataclass(frozen=True)
class Ran:
    """A command that ended by itself. output and errors: their ends, at most some KiB."""

    status: int
    output: str
    errors: str
    seconds: float


@dataclass(frozen=True)
class Patched:
    """What a server's agent says of its patches, against its patch baseline. `began_at`: of the
    scan or installation that it speaks of, aware UTC."""

    baseline: str
    began_at: datetime
    installed: int
    missing: int
    failed: int
    waiting_for_restart: int

    @property
    def ok(self) -> bool:
        return not (self.missing or self.failed or self.waiting_for_restart)


class Patches(Protocol):
    """Patches of a server's system, as its patch baseline wants them."""

    def begin_patches(self, server: str, *, may_restart: bool, name: str) -> str:
        """Begin to install what is missing; the id to follow it by. Repeatable: what is installed
        is not installed again. Raises Unavailable: code "server-unreachable"."""

    def follow_patches(self, server: str, command: str, *, seconds: float) -> bool:
        """Whether it has ended, well or not, within that time."""

    def patches(self, server: str) -> Patched | None:
        """What the agent reported last; None when it never did."""


class Commands(Protocol):
    """Shell commands on servers, as root, over the servers' own agent."""

    def is_online(self, server: str) -> bool:
        """Whether the server's agent takes commands now."""

    def run(self, server: str, script: str, *, name: str, limit_seconds: float) -> Ran:
        """Run a bash script to its end; a status other than 0 is no error here.

        Its first failing command ends it. Secrets do not belong into it: commands and their output
        are kept by the service. A script of the same name on the same server waits for the one
        that runs, so that a repeated one never runs beside the first.

        Raises:
            Unavailable: code "server-unreachable", when its agent does not take the command.
            CheckFailed: code "command-timeout", when it had not ended after `limit_seconds`; it
                was ended.
        """


class Targets(Protocol):
    """The servers behind a load balancer, by target group."""

    def register(self, group: str, server: str) -> None: ...

    def deregister(self, group: str, server: str) -> None: ...

    def health(self, group: str) -> Mapping[str, str]:
        """State by server: "initial", "healthy", "unhealthy", "draining", "unused"."""
