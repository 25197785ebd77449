"""How many application servers are wanted, and whether a silent cluster may stay so. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from chalicelib.errors import BadInput


@dataclass(frozen=True)
class Wanted:
    """None leaves the number to the workload's own configuration."""

    replicas: int | None
    why: str


def decide_replicas(*, asked: object, before: int, planned: int | None) -> Wanted:
    """How many to start.

    Args:
        asked: by the step; None when it says nothing.
        before: how many there were when the run first touched it; 0 says nothing.
    Raises:
        BadInput: code "bad-replicas".
    """
    if asked is not None:
        return Wanted(_whole(asked), "as the step says")
    if before > 0:
        return Wanted(before, "as many as before the run stopped them")
    if planned is not None:
        return Wanted(planned, "as the plan says")
    return Wanted(None, "as its own configuration says")


def may_stay_silent(site: str | None, loses: Collection[str]) -> bool:
    """Whether a service that cannot be reached to be stopped keeps the run from going on.

    Only where the scenario loses its site: elsewhere it may well be running and writing.
    """
    return site is not None and site in loses


def _whole(asked: object) -> int:
    try:
        number = int(str(asked))
    except ValueError:
        number = 0
    if number < 1:
        raise BadInput(
            f"expected a number of replicas, at least 1, found {asked!r}",
            hint="write `replicas: 3`, or leave it out; service.stop stops all of them",
            code="bad-replicas",
        )
    return number
