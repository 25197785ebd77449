"""Something happened that people should hear of.

Kept first, told by the function `tell` afterwards: whoever notices it waits for no channel, and
what was kept is told also when the call to `tell` was lost (it looks every minute).
"""

from __future__ import annotations

from typing import Any

from chalicelib.errors import LeewardError
from chalicelib.incidents.incident import Incident
from chalicelib.incidents.paths import WHOLE_INCIDENT, start_path
from chalicelib.plan.records import format_time
from chalicelib.services import build
from chalicelib.telemetry import logger

NOTICES = "notices"
TELLER = "tell"


def notify(what: str, incident: str, *, run_id: str = "", about: str = "", **facts: Any) -> None:
    """Keep a notice, once for each (incident, what, about), and wake the function that tells it.

    Args:
        what: the occasion, one of messages_text.OCCASIONS.
        facts: what the words of this occasion need besides those of every message.
    """
    item = {
        "what": what,
        "incident": incident,
        "run_id": run_id,
        "about": about,
        "facts": facts,
        "noticed_at": format_time(build.clock().now()),
    }
    sort = f"{incident}#{what}#{about}"
    if build.state().get(f"told-notices#{incident}", sort) is None:
        build.state().create(NOTICES, sort, item)
    wake_teller()


def wake_teller() -> None:
    """What is to be told is told now and not within a minute, if the call arrives."""
    try:
        build.functions().start(TELLER, {})
    except LeewardError as error:
        logger.warning(
            "the function that tells people was not woken", extra={"error": error.to_json()}
        )


def announce(incident: Incident) -> None:
    """Tell of an incident that was opened, and let its escalation begin; once, however often."""
    if incident.status != "open" or not tells_anybody():
        return
    notify("opened", incident.id, run_id=incident.run_id)
    start_path(incident.id, WHOLE_INCIDENT, plan=build.plan(), desk=build.desk())


def tells_anybody() -> bool:
    """Whether the plan keeps logins of channels; without any, no message could leave."""
    return build.plan().communication.secret is not None
