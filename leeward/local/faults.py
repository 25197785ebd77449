"""Regions that fail: calls of chosen services and operations of a region, at the server's socket.

    cloud.fail(region="us-east-1")                                   nothing there answers
    cloud.fail(region="us-east-1", services=("dynamodb",), how="hang")
    cloud.heal()

How a call fails:
    refuse     the connection is closed before an answer, as where nobody listens any more
    reset      the connection is reset (RST)
    hang       the connection stays open and nothing comes, until the caller gives up
    error      HTTP 503 with the service's own form of error
    throttle   the service's own word for "too many requests"

Contract: every caller is met, the functions in their sandboxes and the state machines alike, except
one who calls with the key of `OUTSIDE` (the stage of a test, which is in no region). Which region a
call is for, its signature says; a call of S3 is for the region of its bucket, whoever signed it,
and one of IAM's or Route 53's API for us-east-1, the home of their control planes. In a region that
fails as a whole no schedule fires, no event is delivered and no function starts; the operations
`Deliver` of events and `InvokeAsync` of lambda stand for these. A call that hangs costs the server
its socket and no thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from chalicelib.errors import BadInput
from leeward.local.wire import ApiCall

How = Literal["refuse", "reset", "hang", "error", "throttle"]
OUTSIDE = "leeward-outside"
"""The access key id of a caller whom no fault meets."""


@dataclass(frozen=True)
class Fault:
    """What fails how. No services: all of the region; no operations: all of the services."""

    region: str
    services: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    how: How = "refuse"

    def meets(self, call: ApiCall) -> bool:
        return (
            call.region == self.region
            and (not self.services or call.service in self.services)
            and (not self.operations or call.operation in self.operations)
        )


class Faults:
    """The faults in effect now. Safe to change while calls are being served.

    `fired`: how many calls each fault met.
    """

    def __init__(self) -> None:
        self._active: tuple[Fault, ...] = ()
        self._lock = threading.Lock()
        self.fired: Counter[Fault] = Counter()

    @property
    def active(self) -> tuple[Fault, ...]:
        return self._active

    def add(self, fault: Fault) -> None:
        """Raises BadInput (code "unknown-fault")."""
        if fault.how not in get_args(How):
            raise BadInput(
                f"expected one of {', '.join(get_args(How))}, found {fault.how!r}",
                hint="a call fails in one of these ways",
                code="unknown-fault",
            )
        with self._lock:
            self._active = (*self._active, fault)

    def replace_all(self, faults: Iterable[Fault]) -> None:
        with self._lock:
            self._active = tuple(faults)

    def remove(self, fault: Fault) -> None:
        with self._lock:
            self._active = tuple(it for it in self._active if it != fault)

    def meeting(self, call: ApiCall) -> Fault | None:
        """The fault that the call meets, counted; the latest where several would."""
        for fault in reversed(self._active):
            if fault.meets(call):
                with self._lock:
                    self.fired[fault] += 1
                return fault
        return None

    def stops(self, region: str, service: str, operation: str) -> bool:
        """Whether the service does not do by itself what nobody calls there."""
        call = ApiCall(region, service, operation)
        return any(fault.meets(call) for fault in self._active)
