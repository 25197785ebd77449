"""A record in one sentence, for the time line of a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chalicelib.evidence.body import number_of, objects_of
from chalicelib.evidence.text import UNKNOWN, in_units
from chalicelib.plan.records import EvidenceRecord, canonical_json

# `{name}` is a field of the body; what is missing reads "unknown".
_SENTENCES = {
    "incident-opened": "Alarm {alarm} opened the incident ({severity}). {reason}",
    "alarm-joined": "Alarm {alarm} joined the open incident. {reason}",
    "run-started": "Run of {scenario} on {component} started.",
    "step-started": "Attempt {attempt} started.",
    "step-finished": "Done: {found}",
    "step-failed": "Attempt failed ({code}): {message}",
    "undo-started": "Clean-up, attempt {attempt}.",
    "step-undone": "Taken back: {found}",
    "undo-failed": "Clean-up failed ({code}): {message}",
    "left-behind": "LEFT BEHIND by {left}: {what}; to remove it: {how}",
    "asked": "Waiting for people ({kind}).",
    "answered": "{by} says: {decision}. {reason}",
    "answer-refused": "An answer of {by} was refused ({code}): {message}",
    "answer-told": "The run was told: {outcome}.",
    "decided": "Decided: {outcome}. {why}",
    "decision": "Decided: {what}, because {why}",
    "damage": "Found: {found} ({how}).",
    "chosen-point": "Recovery point {point} chosen: {reason}",
    "rejected-point": "Recovery point {point} refused: {reason}",
    "first-write": "The application wrote again.",
    "isolating": "Before {kind} of {target}: what was there is kept.",
    "isolated": "Isolated: {found}",
    "lifted": "Isolation lifted: {found}",
    "infection": "The attack began at {started_at}: {how}",
    "forensics": "Evidence kept in {manifest}.",
    "run-finished": "Run ended: {outcome}. {why}",
    "incident-closed": "Incident closed: {why}",
}


def tell(record: EvidenceRecord) -> str:
    """What the record says; a kind without a sentence is told as its name and its body."""
    if record.kind in _TOLD:
        return _TOLD[record.kind](record.body)
    if record.kind in _SENTENCES:
        return _SENTENCES[record.kind].format_map(_Known(record.body)).strip()
    return f"{record.kind}: {canonical_json(record.body).decode()}"


class _Known(dict[str, Any]):
    """Null and missing fields read "unknown"."""

    def __missing__(self, key: str) -> str:
        return UNKNOWN

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return UNKNOWN if value is None else value


def _tell_proof(body: dict[str, Any]) -> str:
    checks = objects_of(body, "checks")
    passed = sum(check.get("ok") is True for check in checks)
    return f"Recovered data verified: {passed} of {len(checks)} checks passed."


def _tell_fence(body: dict[str, Any]) -> str:
    known = _Known(body)
    ended, token = known["ended"], known["token"]
    return f"Writes stopped in {_seconds(body)}, {ended} sessions ended (fence token {token})."


def _tell_unfence(body: dict[str, Any]) -> str:
    return f"Writes open again after {_seconds(body)} (fence token {_Known(body)['token']})."


def _tell_loss(body: dict[str, Any]) -> str:
    known = _Known(body)
    return f"Loss measured: {known['rows_lost']} committed rows ({known['how']})."


def _tell_set_aside(body: dict[str, Any]) -> str:
    known = _Known(body)
    if body.get("transactions") == 0:
        return "Nothing was found after the damage to set aside."
    there, where = known["transactions"], known["object"]
    return f"{there} transactions committed after the damage set aside in {where}."


def _tell_foreign(body: dict[str, Any]) -> str:
    told = "; ".join(str(_Known(it)["why"]) for it in objects_of(body, "objects"))
    return f"NOT OF LEEWARD, among the records: {told}."


def _seconds(body: dict[str, Any]) -> str:
    return in_units(number_of(body, "seconds"))


_TOLD: dict[str, Callable[[dict[str, Any]], str]] = {
    "proof": _tell_proof,
    "fenced": _tell_fence,
    "unfenced": _tell_unfence,
    "data-loss": _tell_loss,
    "set-aside": _tell_set_aside,
    "foreign-object": _tell_foreign,
}
