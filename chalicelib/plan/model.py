"""The plan: everything that an organisation promises and does about disasters, as one value.

A plan is immutable and complete in itself: plan.json holds it in plain JSON types (durations in
seconds, sizes in bytes, shares as fractions), and `plan_sha256` names that content.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field

from chalicelib.plan.base import Name, PlanPart, Text, parts_of
from chalicelib.plan.components import Component, Objectives, Threshold
from chalicelib.plan.people import (
    Communication,
    Contact,
    EscalationStep,
    PostIncident,
    Role,
    StatusPage,
)
from chalicelib.plan.places import Location, Site, Trail
from chalicelib.plan.records import digest_of
from chalicelib.plan.scenario import Scenario
from chalicelib.plan.units import Duration
from chalicelib.plan.upkeep import (
    Acceptance,
    Appendix,
    Compliance,
    Document,
    Exercise,
    PastIncident,
    Review,
    Security,
    Tools,
)


class Plan(PlanPart):
    """A disaster-recovery plan.

    proof_valid_for: how old the proof of a recovery point may be and still count.
    verification: checks of the backups. testing: exercises of the whole plan.
    metrics: what is measured; thresholds: when that is an alarm. trail: who did what, as
    CloudTrail wrote it.
    """

    name: Name
    organisation: Text
    document: Document
    review: Review = Review()
    objectives: Objectives
    sites: Annotated[dict[Name, Site], AfterValidator(parts_of("site"))]
    locations: Annotated[dict[Name, Location], AfterValidator(parts_of("location"))]
    components: Annotated[
        dict[Name, Component], Field(min_length=1), AfterValidator(parts_of("component"))
    ]
    proof_valid_for: Duration | None = None
    verification: tuple[Exercise, ...] = ()
    scenarios: Annotated[
        dict[Name, Scenario], Field(min_length=1), AfterValidator(parts_of("scenario"))
    ]
    roles: dict[Name, Role] = {}
    contacts: dict[Name, Contact] = {}
    communication: Communication = Communication()
    status_page: StatusPage = StatusPage()
    escalation: tuple[EscalationStep, ...] = ()
    testing: tuple[Exercise, ...] = ()
    metrics: tuple[Text, ...] = ()
    thresholds: tuple[Threshold, ...] = ()
    post_incident: PostIncident = PostIncident()
    compliance: Compliance = Compliance()
    trail: Trail | None = None
    security: Security = Security()
    tools: Tools = Tools()
    vendor_agreements: tuple[Text, ...] = ()
    appendices: tuple[Appendix, ...] = ()
    past_incidents: tuple[PastIncident, ...] = ()
    accept: tuple[Acceptance, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, what equals its default left out; `from_json` gives an equal plan."""
        data: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Raises pydantic.ValidationError when the data is not a plan."""
        return cls.model_validate_json(json.dumps(data))

    @property
    def plan_sha256(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return digest_of(self.to_json())

    @property
    def stand_ins(self) -> frozenset[str]:
        """Components that only take another's place: what they hold comes from its backups."""
        return frozenset(
            name for component in self.components.values() for name in component.stand_ins.values()
        )

    @property
    def live(self) -> dict[str, Component]:
        """Its components but for those that are retired: only copies are left of these."""
        return {name: it for name, it in self.components.items() if it.retired is None}

    def aws_region(self, role: str) -> str | None:
        """The region of the "primary" or "standby" site; None when that is not in AWS."""
        sites = (it for it in self.sites.values() if it.role == role and it.provider == "aws")
        return next((site.region for site in sites), None)

    @property
    def has_status_page(self) -> bool:
        """Whether Leeward keeps one: the plan names a channel of that kind, or what it shows."""
        return bool(self.status_page.services or self.communication.status_pages())

    def runs_in_standby(self, scenario: str) -> bool:
        """Whether its runs are the standby region's: it loses the primary one, or goes back there
        from where things run, and there is a standby region in AWS to run in."""
        away = self.scenarios[scenario].runs_away_from(self.sites, "primary")
        return away and self.aws_region("standby") is not None

    def rpo_of(self, component: str) -> timedelta | None:
        """The promise for its class of data, else that for everything, else None."""
        data_class = self.components[component].data
        own = self.objectives.data[data_class].rpo if data_class else None
        return own if own is not None else self.objectives.rpo

    def rpo_of_scenario(self, scenario: str) -> timedelta | None:
        """The strictest promise of its data: of its own component, else of what it restores."""
        chosen = self.scenarios[scenario]
        own = self.rpo_of(chosen.component) if chosen.component in self.components else None
        about = chosen.restored_components() if own is None else {chosen.component}
        promises = [self.rpo_of(name) for name in about if name in self.components]
        return min((rpo for rpo in promises if rpo), default=self.objectives.rpo)

    def rto_of(self, component: str) -> timedelta | None:
        """The promise for its class of system, else that for everything, else None."""
        return self._rto_of_system(self.components[component].system)

    def rto_of_scenario(self, scenario: str) -> timedelta | None:
        """Its own target, else its class's promise, else the strictest of what it restores."""
        chosen = self.scenarios[scenario]
        if chosen.target is not None:
            return chosen.target
        if chosen.system is not None:
            return self._rto_of_system(chosen.system)
        promises = [self.rto_of(name) for name in chosen.restored_components()]
        known = [rto for rto in (*promises, self.objectives.rto) if rto is not None]
        return min(known, default=None)

    def _rto_of_system(self, system: str | None) -> timedelta | None:
        own = self.objectives.systems[system].rto if system else None
        return own if own is not None else self.objectives.rto
