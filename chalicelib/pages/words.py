"""A word, a shape and a tone for each state: never the colour alone.

Tones: good, bad, warn, live, quiet. Shapes are the symbols of templates/base.html.
"""

from __future__ import annotations

from typing import NamedTuple


class Mark(NamedTuple):
    word: str
    shape: str
    tone: str


UNKNOWN = Mark("unknown", "unknown", "bad")

READINESS = {
    "ready": Mark("Ready", "good", "good"),
    "not-ready": Mark("Not ready", "bad", "bad"),
    "no-copies": Mark("No copies", "quiet", "quiet"),
}
RPO = {
    "within": Mark("Within RPO", "good", "good"),
    "over": Mark("Over RPO", "bad", "bad"),
    "unknown": Mark("Unknown", "unknown", "bad"),
    "not-promised": Mark("No RPO promised", "quiet", "quiet"),
}
STEP = {
    "done": Mark("Done", "good", "good"),
    "running": Mark("Running", "live", "live"),
    "waiting": Mark("Waits for people", "waiting", "warn"),
    "failed": Mark("Failed", "bad", "bad"),
    "undone": Mark("Taken back", "undone", "quiet"),
    "not-begun": Mark("Not begun", "quiet", "quiet"),
}
RUN = {
    "running": Mark("Running", "live", "live"),
    "partial": Mark("Recovered in part", "bad", "bad"),
    "recovered": Mark("Recovered", "good", "good"),
    "failed": Mark("Failed", "bad", "bad"),
    "stopped": Mark("Stopped", "bad", "bad"),
    "not started": Mark("Not started", "quiet", "quiet"),
}
INCIDENT = {
    "open": Mark("Open", "warn", "bad"),
    "recovered": Mark("Recovered", "good", "good"),
    "closed": Mark("Closed", "quiet", "quiet"),
}
ALARM = {
    "raised": Mark("Raised", "warn", "warn"),
    "unknown": UNKNOWN,
}
OCCASION = {
    "due": Mark("Due", "waiting", "warn"),
    "running": Mark("Running", "live", "live"),
    "done": Mark("Done", "good", "good"),
    "failed": Mark("Failed", "bad", "bad"),
    "missed": Mark("Missed", "bad", "bad"),
}
ACTION = {
    "overdue": Mark("Overdue", "bad", "bad"),
    "due soon": Mark("Due soon", "warn", "warn"),
    "open": Mark("Open", "waiting", "quiet"),
    "done": Mark("Done", "good", "good"),
    "dropped": Mark("Dropped", "quiet", "quiet"),
}
REVIEW = {
    "standing": Mark("Reviewed", "good", "good"),
    "due soon": Mark("Due soon", "warn", "warn"),
    "overdue": Mark("Overdue", "bad", "bad"),
}
FINDING = {
    "error": Mark("Error", "bad", "bad"),
    "warning": Mark("Warning", "warn", "warn"),
    "note": Mark("Note", "quiet", "quiet"),
}
ANSWERED = {
    "approved": Mark("Approved", "good", "good"),
    "done": Mark("Done", "good", "good"),
    "declined": Mark("Declined", "bad", "bad"),
    "expired": Mark("Nobody answered in time", "bad", "bad"),
    "over": Mark("Over", "quiet", "quiet"),
    "": Mark("Waits for people", "waiting", "warn"),
}


def mark(table: dict[str, Mark], state: str) -> Mark:
    """What is not known by name is told by it, and is never green."""
    return table.get(state, Mark(state or "unknown", "unknown", "bad"))
