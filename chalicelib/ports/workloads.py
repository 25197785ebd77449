"""Application servers that can be stopped, started, configured: a deployment, units of a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

What = Literal["created", "changed", "unchanged"]


@dataclass(frozen=True)
class Standing:
    """How a workload stands: instances that serve, and that are wanted.

    revision: of its configuration, so that two can be told apart. environment: what it is started
    with, by name; a value that comes from elsewhere is told as `from ...`. May hold passwords:
    for comparing, never for a record.
    """

    ready: int
    wanted: int
    revision: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Stopped:
    """`before`: instances that were wanted. `seconds`: until the last one had ended."""

    before: int
    seconds: float


@dataclass(frozen=True)
class Applied:
    """An object, and what `apply` did to it."""

    name: str
    what: What


class Workload(Protocol):
    """All of it may be repeated. What does not answer in time is Unavailable (retryable).

    keep: a name (of a run) under which what was there before stays with the workload itself, and
    nowhere else, as it may hold passwords. The first of a name is kept: a repetition does not
    overwrite it.
    """

    def status(self) -> Standing: ...

    def stop(self, seconds: float) -> Stopped:
        """Want no instance, and wait until the last one has ended.

        Raises: CheckFailed (code "still-running") naming what is left after `seconds`.
        """

    def start(self, replicas: int | None = None) -> None:
        """Want that many instances; None: as many as its own configuration says."""

    def set_environment(self, name: str, value: str, *, keep: str) -> bool:
        """False when it had this value. Instances are replaced: see `wait_ready`."""

    def apply(self, manifests: str, *, keep: str, seconds: float) -> tuple[Applied, ...]:
        """Make objects (YAML documents) what they say, in their order; see `wait_ready` of each
        workload among them."""

    def put_back_environment(self, name: str, *, keep: str) -> bool:
        """Undo `set_environment`; False when there is nothing to undo, or it was undone."""

    def put_back_manifests(self, manifests: str, *, keep: str) -> tuple[str, ...]:
        """Undo `apply`, the last first: objects are as they were, or gone. What was put back."""

    def wait_ready(self, seconds: float) -> Standing:
        """Wait until all wanted instances serve, with the newest configuration and no other.

        Raises: CheckFailed (code "not-ready-in-time", or "rollout-stuck" when it will not come
        by waiting), naming the instance and why.
        """
