"""Which code is behind each kind of step; imported when the kind is asked for."""

from __future__ import annotations

from importlib import import_module

from chalicelib.errors import BadInput
from chalicelib.incidents.run import Work

CODE = {
    "database.find-damage": ("find", "find"),
    "database.fence": ("target", "fence_step"),
    "database.restore": ("rebuild", "restore_step"),
    "database.replay": ("rebuild", "replay_step"),
    "database.verify": ("rebuild", "verify_step"),
    "database.load": ("rebuild", "load_step"),
    "database.hand-over": ("hand_over", "hand_over_step"),
    "database.switch": ("target", "switch_step"),
    "database.set-aside": ("aside", "set_aside_step"),
}

# What takes a step back at the end of a drill; of every kind that says `taken_back`.
UNDO = {
    "database.fence": ("target", "undo_fence"),
    "database.load": ("rebuild", "undo_load"),
    "database.switch": ("target", "undo_switch"),
}


def work_of(uses: str) -> Work:
    """Raises BadInput (code "unknown-step-kind")."""
    return _bound(CODE, uses)


def undo_of(uses: str) -> Work:
    """Raises BadInput (code "unknown-step-kind")."""
    return _bound(UNDO, uses)


def _bound(table: dict[str, tuple[str, str]], uses: str) -> Work:
    if uses not in table:
        raise BadInput(
            f"no code is bound to the step kind {uses!r}",
            hint="deploy the version that the plan was compiled with",
            code="unknown-step-kind",
        )
    module, name = table[uses]
    work: Work = getattr(import_module(f"chalicelib.services.{module}"), name)
    return work
