"""Every error that Leeward raises on purpose, in one tree.

    LeewardError
      PlanError                the plan file cannot be used
      BadInput                 an argument or request cannot be used
      Refused                  the request is understood and must not be done
        OutsideWindow            the moment asked for cannot be reached from what is stored
        Fenced                   another run holds the component
        Quarantined              the recovery point is marked as not to be restored
        NothingWouldRemain       the retention keeps nothing at all
        PruneTooLarge            more would go than one run may remove without approval
      NotReady                 something needed is absent: a right, a setting, a program
      Damaged                  stored data is not what was stored
        DigestMismatch           the bytes differ from their recorded digest
        Truncated                an object is shorter than recorded, or gone
        Tampered                 a manifest or a record does not match its own digest
      CheckFailed              a verification ran and found something wrong
      Unavailable (retryable)  a service, a server or a network did not answer
        Throttled                it answered: not now
        StillRunning             what was begun goes on elsewhere; ask again

Step Functions matches `type(error).__name__` against ErrorEquals, never a base class, so the
compiler expands `retryable` into the names of the leaves (`retryable_names`).
"""

from __future__ import annotations

from typing import Any, ClassVar


class LeewardError(Exception):
    """A fact in lower case, what was expected and what was found; `hint` is one thing to do."""

    code: ClassVar[str] = "leeward-error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "", code: str = "", **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.context = context
        self.instance_code = code or self.code

    def to_json(self) -> dict[str, Any]:
        """{"code", "message", "hint", "context"}: what records and `--format json` show."""
        return {
            "code": self.instance_code,
            "message": self.message,
            "hint": self.hint,
            "context": self.context,
        }


class PlanError(LeewardError):
    code = "plan-unreadable"


class BadInput(LeewardError):
    code = "bad-input"


class Refused(LeewardError):
    code = "refused"


class OutsideWindow(Refused):
    code = "outside-window"


class Fenced(Refused):
    code = "fenced"


class Quarantined(Refused):
    code = "quarantined"


class NothingWouldRemain(Refused):
    code = "nothing-would-remain"


class PruneTooLarge(Refused):
    code = "prune-too-large"


class NotReady(LeewardError):
    code = "not-ready"


class Damaged(LeewardError):
    code = "damaged"


class DigestMismatch(Damaged):
    code = "digest-mismatch"


class Truncated(Damaged):
    code = "truncated"


class Tampered(Damaged):
    code = "tampered"


class CheckFailed(LeewardError):
    code = "check-failed"


class Unavailable(LeewardError):
    code = "unavailable"
    retryable = True


class Throttled(Unavailable):
    code = "throttled"


class StillRunning(Unavailable):
    code = "still-running"


def all_error_types() -> list[type[LeewardError]]:
    """Every class of the tree, parents before children."""
    found: list[type[LeewardError]] = []
    waiting: list[type[LeewardError]] = [LeewardError]
    while waiting:
        current = waiting.pop(0)
        found.append(current)
        waiting.extend(current.__subclasses__())
    return found


def retryable_names() -> list[str]:
    """The class names that Step Functions may retry, sorted."""
    return sorted(kind.__name__ for kind in all_error_types() if kind.retryable)
