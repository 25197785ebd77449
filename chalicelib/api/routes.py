"""The JSON API as one table: what the routes, their checks and the OpenAPI document are made from.

Nothing heavy is imported here: every function loads it, and Slack waits for one of them. The models
that rows name are in models.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Query = Literal["limit", "cursor", "ended", "incident"]


@dataclass(frozen=True)
class Route:
    """`verb` of the function that does it. answers, takes: models; takes "" for no body.

    path: names in braces are fields of the event, as those of the query and the body are.
    fixed: what the event says besides.
    """

    method: Literal["GET", "POST"]
    path: str
    verb: str
    answers: str
    summary: str
    takes: str = ""
    status: int = 200
    query: tuple[Query, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def acts(self) -> bool:
        """Done by `answer`, for a person, with a key of its own; otherwise shown by `show`."""
        return self.method == "POST"

    @property
    def name(self) -> str:
        """The operation's id: what generated clients call it."""
        return (
            f"{self.method.lower()}_{self.verb}"
            if not self.fixed
            else f"{self.method.lower()}_drill"
        )


PAGED: tuple[Query, ...] = ("limit", "cursor")
ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/incidents", "incidents", "Incidents",
          "Incidents, the newest first; with `ended` those that are over too.",
          query=(*PAGED, "ended")),
    Route("POST", "/v1/incidents", "declare", "Declared",
          "Declare a disaster: its run starts.", takes="Declaration", status=201),
    Route("GET", "/v1/incidents/{incident}", "incident", "Incident",
          "One incident: what waits for whom, who was called, who was told and who was not."),
    Route("POST", "/v1/incidents/{incident}/acknowledgement", "ack", "Acknowledged",
          "Say that you look after it: nobody else is called until that lapses.",
          takes="Acknowledgement"),
    Route("POST", "/v1/incidents/{incident}/closure", "close", "Closed",
          "End an incident that no run recovered.", takes="Closure"),
    Route("GET", "/v1/runs", "runs", "Runs", "Runs, the newest first.", query=PAGED),
    Route("POST", "/v1/runs", "declare", "Declared", "Start a drill: it acts on stand-ins alone.",
          takes="Drill", status=201, fixed={"drill": True}),
    Route("GET", "/v1/runs/{run}", "run", "Run", "One run: its steps as they are now, its clocks."),
    Route("GET", "/v1/approvals", "approvals", "Approvals",
          "What waits for people, the most urgent first."),
    Route("POST", "/v1/approvals/{run_id}/{step}", "answer", "Answered",
          "Approve or decline what waits, or say that a person's step is done.", takes="Answer"),
    Route("GET", "/v1/messages", "messages", "Messages",
          "What has not been told, and why.", query=(*PAGED, "incident")),
    Route("GET", "/v1/people", "people", "People", "Who holds which role, and what it may."),
    Route("GET", "/v1/alarms", "alarms", "RaisedAlarms",
          "Alarms that are raised and start no scenario, the oldest first."),
    Route("GET", "/v1/readiness", "readiness", "ReadinessOfAll",
          "Which components are ready to be recovered, and on which proof that rests."),
    Route("GET", "/v1/components/{component}/points", "calendar", "Points",
          "A component's recovery points: what stays, what goes, and why."),
    Route("GET", "/v1/exercises", "exercises", "Exercises",
          "Exercises that the plan promises: due, done, missed."),
    Route("GET", "/v1/actions", "actions", "Actions",
          "What is left to do after incidents, the longest overdue first; `ended`: the rest too.",
          query=(*PAGED, "ended", "incident")),
    Route("GET", "/v1/findings", "findings", "Findings",
          "What the deployed plan promises and cannot keep."),
)  # fmt: skip
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
DESCRIPTION = "/v1/openapi.json"


def routes_by_path() -> dict[str, dict[str, Route]]:
    """Each path's routes by their method."""
    found: dict[str, dict[str, Route]] = {}
    for route in ROUTES:
        found.setdefault(route.path, {})[route.method] = route
    return found
