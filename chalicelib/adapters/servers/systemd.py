"""Units of a host as a workload: stopped and started by systemctl, over the host's agent.

A unit counts when systemd calls it active and it stays the same process for a few seconds: one that
ends at once and is started again is active half of the time. What a unit is started with lies in
files of the host: it is configuration to restore, and is not set from outside, where it would pass
through a command that others can read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from shlex import quote

from chalicelib.errors import CheckFailed, Refused
from chalicelib.ports.servers import Commands, Ran
from chalicelib.ports.workloads import Applied, Standing, Stopped

POLL_SECONDS = 1.0
STEADY_SECONDS = 3.0
COMMAND_SECONDS = 100.0
SHOWN = "Id,LoadState,ActiveState,NRestarts,MainPID"
States = dict[str, dict[str, str]]


class SystemdUnits:
    """Implements Workload. `units`: in the order in which they start; they stop in the other."""

    def __init__(
        self,
        commands: Commands,
        server: str,
        units: tuple[str, ...],
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._commands = commands
        self._server = server
        self._units = units
        self._sleep = sleep

    def status(self) -> Standing:
        """`wanted`: units that run or are about to."""
        states = self._states()
        active = _count(states, "active")
        return Standing(active, active + _count(states, "activating"), self._revision(), {})

    def stop(self, seconds: float) -> Stopped:
        started, before = time.monotonic(), self.status().wanted
        ran = self._run("stop", *(f"systemctl stop {quote(it)}" for it in reversed(self._units)))
        states = self._states()
        left = [
            name for name, it in states.items() if it["ActiveState"] not in ("inactive", "failed")
        ]
        if ran.status or left:
            raise CheckFailed(
                f"expected the units to stop on {self._server}, found {', '.join(left)} running: "
                + (ran.errors or ran.output).strip()[-300:],
                code="still-running",
                hint="look at them with systemctl status",
            )
        return Stopped(before, time.monotonic() - started)

    def start(self, replicas: int | None = None) -> None:
        """All units, whatever the number: they are not copies of one another."""
        ran = self._run("start", *(f"systemctl start {quote(it)}" for it in self._units))
        if ran.status:
            raise CheckFailed(
                f"expected the units to start on {self._server}, systemctl ended with status "
                f"{ran.status}: {(ran.errors or ran.output).strip()[-300:]}",
                code="rollout-stuck",
                hint="look at them with systemctl status and journalctl",
            )

    def wait_ready(self, seconds: float) -> Standing:
        deadline, steady_since = time.monotonic() + seconds, 0.0
        before: States = {}
        while True:
            states, now = self._states(), time.monotonic()
            self._require_none_failed(states)
            all_active = _count(states, "active") == len(self._units)
            if states != before or not all_active:
                steady_since, before = now, states
            elif now - steady_since >= STEADY_SECONDS:
                return Standing(len(self._units), len(self._units), self._revision(), {})
            if now > deadline:
                raise CheckFailed(
                    f"expected {', '.join(self._units)} to be active on {self._server} for "
                    f"{STEADY_SECONDS:.0f} s, found {_tell(states)} after {seconds:.0f} s",
                    code="not-ready-in-time",
                    hint="look at them with systemctl status and journalctl",
                )
            self._sleep(POLL_SECONDS)

    def set_environment(self, name: str, value: str, *, keep: str) -> bool:
        raise _not_from_outside(f"set {name}")

    def apply(self, manifests: str, *, keep: str, seconds: float) -> tuple[Applied, ...]:
        raise _not_from_outside("apply manifests")

    def put_back_environment(self, name: str, *, keep: str) -> bool:
        return False

    def put_back_manifests(self, manifests: str, *, keep: str) -> tuple[str, ...]:
        return ()

    def _states(self) -> States:
        """What systemd says of each unit. Raises CheckFailed (code "unit-not-found")."""
        words = " ".join(quote(it) for it in self._units)
        ran = self._run("show", f"systemctl show --property={SHOWN} {words}")
        blocks = [
            dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
            for block in ran.output.strip().split("\n\n")
        ]
        found = {it.get("Id", "").removesuffix(".service"): it for it in blocks}
        loaded = {name for name, it in found.items() if it.get("LoadState") != "not-found"}
        missing = [it for it in self._units if it.removesuffix(".service") not in loaded]
        if ran.status or missing:
            raise CheckFailed(
                f"expected units {', '.join(self._units)} on {self._server}, found no "
                f"{', '.join(missing) or 'answer'}: {ran.errors.strip()[-200:]}",
                code="unit-not-found",
                hint="compare the plan's `units` with those on the server",
            )
        return found

    def _require_none_failed(self, states: States) -> None:
        failed = [name for name, it in states.items() if it["ActiveState"] == "failed"]
        if failed:
            raise CheckFailed(
                f"expected {', '.join(self._units)} to be active on {self._server}, found "
                f"{', '.join(failed)} failed",
                code="rollout-stuck",
                hint=f"on the server: journalctl -u {failed[0]}",
            )

    def _revision(self) -> str:
        words = " ".join(quote(it) for it in self._units)
        ran = self._run("cat", f"systemctl cat {words} | sha256sum")
        return ran.output[:12]

    def _run(self, verb: str, *lines: str) -> Ran:
        return self._commands.run(
            self._server,
            "\n".join(lines),
            name=f"units/{self._units[0]}/{verb}",
            limit_seconds=COMMAND_SECONDS,
        )


def _count(states: States, state: str) -> int:
    return sum(it["ActiveState"] == state for it in states.values())


def _tell(states: States) -> str:
    return ", ".join(f"{name} {it['ActiveState']}" for name, it in states.items())


def _not_from_outside(what: str) -> Refused:
    return Refused(
        f"expected no order to {what} of units on a host, found one",
        hint="restore or change the host's configuration; the units read it when they start",
        code="not-on-hosts",
    )
