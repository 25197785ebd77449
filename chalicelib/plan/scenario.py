"""A scenario: how it is noticed, its steps, who decides, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from chalicelib.plan.base import Name, PlanPart, Text
from chalicelib.plan.places import Site
from chalicelib.plan.units import Duration


class Estimate(PlanPart):
    """A span of time: "30-60 minutes" or "20 minutes" as people write it."""

    at_least: Duration
    at_most: Duration

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        return _parse_estimate(data) if isinstance(data, str) else data

    @model_validator(mode="after")
    def _in_order(self) -> Estimate:
        if self.at_least > self.at_most:
            raise ValueError("expected the shorter time first")
        return self


def _parse_estimate(text: str) -> dict[str, str]:
    """ "30-60 minutes" -> both ends with their unit."""
    low, dash, high = (part.strip() for part in text.partition("-"))
    if not dash:
        return {"at_least": text, "at_most": text}
    if low.isdecimal():
        low += high.lstrip("0123456789.")
    return {"at_least": low, "at_most": high}


class Approval(PlanPart):
    """Who must agree before a step: `count` of the roles `by`, asked for `within` that time.

    unless: an output of an earlier step, `${step.output}`; while it is true nobody is asked.
    """

    by: Annotated[tuple[Name, ...], Field(min_length=1)]
    count: Annotated[int, Field(ge=1)] = 1
    within: Duration
    otherwise: Literal["stop", "proceed"] = "stop"
    unless: Text | None = None


SignalKind = Literal["alarm", "probe", "heartbeat", "aws-health"]


class Trigger(PlanPart):
    """When a scenario starts by itself because a site is lost: `quorum` of the signals `of` agree.

    within: how far back a signal counts. lasting: how long it must have been bad without a break.
    fresh: how old the last look at a signal, and a heartbeat, may be. witnesses: addresses
    elsewhere; while none of them answers, the standby itself is cut off and what it does not see
    says nothing.
    """

    quorum: Annotated[int, Field(ge=1)] = 2
    of: Annotated[tuple[SignalKind, ...], Field(min_length=1)] = (
        "alarm",
        "probe",
        "heartbeat",
        "aws-health",
    )
    within: Duration = timedelta(minutes=15)
    lasting: Duration = timedelta(minutes=3)
    fresh: Duration = timedelta(minutes=3)
    witnesses: tuple[Text, ...] = ()


class Step(PlanPart):
    """One step: of a kind of the catalogue (`uses`) or a person's (`by`, a role).

    says: the document's own words. commands: what the document would have a person type.
    inputs (`with` in YAML): values; a text may hold references `${step.output}` and `${run.field}`.
    takes: the expected duration. timeout: of one attempt.
    """

    name: Name
    says: Text
    uses: Text | None = None
    by: Name | None = None
    inputs: Annotated[dict[str, str | int | float | bool], Field(alias="with")] = {}
    approve: Approval | None = None
    takes: Duration | None = None
    timeout: Duration | None = None
    commands: Text | None = None

    @model_validator(mode="after")
    def _is_done_by_one(self) -> Step:
        if (self.uses is None) == (self.by is None):
            raise ValueError("expected either `uses` (a step kind) or `by` (a role), and not both")
        return self

    @property
    def component(self) -> str | None:
        """The component it acts on, when its inputs name one."""
        named = self.inputs.get("component")
        return named if isinstance(named, str) and "$" not in named else None


class Together(PlanPart):
    """Branches of steps that run at the same time; the next step waits for all of them."""

    parallel: Annotated[
        tuple[Annotated[tuple[Step, ...], Field(min_length=1)], ...], Field(min_length=2)
    ]


def _step_or_together(value: Any) -> str:
    is_group = isinstance(value, Together) or (isinstance(value, dict) and "parallel" in value)
    return "together" if is_group else "step"


Entry = Annotated[
    Annotated[Step, Tag("step")] | Annotated[Together, Tag("together")],
    Discriminator(_step_or_together),
]


class Scenario(PlanPart):
    """A kind of disaster and the way back.

    component: what it is about, where it is about one. alarms: names of those that start it.
    detected_within: from the damage to the alarm. system: the class whose RTO counts.
    loses: sites that are gone. returns_to: the site that it goes back to after a failover, which a
    person alone starts. estimate: the document's; target: a time of its own to be met.
    personal_data: people's data may be concerned, so that regulators may have to be told in time.
    trigger: signals by which it starts without a person.
    """

    title: Text
    severity: Literal["SEV1", "SEV2", "SEV3", "SEV4"] = "SEV2"
    component: Name | None = None
    restores: tuple[Name, ...] = ()
    system: Name | None = None
    loses: tuple[Name, ...] = ()
    returns_to: Name | None = None
    detection: tuple[Text, ...] = ()
    alarms: tuple[Text, ...] = ()
    detected_within: Duration | None = None
    estimate: Estimate | None = None
    target: Duration | None = None
    trigger: Trigger | None = None
    personal_data: bool = False
    steps: Annotated[tuple[Entry, ...], Field(min_length=1)]
    procedure: Text | None = None

    def subject(self, name: str) -> str:
        """What an incident of the scenario `name` is about: one at a time is open for each."""
        return self.component or (self.loses[0] if self.loses else name)

    def lost_to(self, sites: Mapping[str, Site], role: str) -> bool:
        """Whether it loses the site of that role ("primary", "standby")."""
        return any(name in sites and sites[name].role == role for name in self.loses)

    def runs_away_from(self, sites: Mapping[str, Site], role: str) -> bool:
        """Whether it runs where that role's site is not: it loses it, or has yet to go back."""
        home = sites.get(self.returns_to or "")
        return self.lost_to(sites, role) or (home is not None and home.role == role)

    def recovers_at(self, sites: Mapping[str, Site]) -> str:
        """The site that takes over from those it loses; "" when everything stays where it is."""
        left = (name for name, site in sites.items() if site.role == "standby")
        return next((name for name in left if self.loses and name not in self.loses), "")

    def all_steps(self) -> Iterator[Step]:
        """Every step, in the order written, branches one after the other."""
        return (step for _, step in self.steps_with_paths())

    def steps_with_paths(self) -> Iterator[tuple[tuple[str | int, ...], Step]]:
        """The same, each with its place under `steps`."""
        for number, entry in enumerate(self.steps):
            if isinstance(entry, Step):
                yield (number,), entry
                continue
            for branch, steps in enumerate(entry.parallel):
                yield from (((number, "parallel", branch, i), s) for i, s in enumerate(steps))

    def restored_components(self) -> frozenset[str]:
        """Components that it brings back: those listed, and those its steps act on."""
        acted_on = {step.component for step in self.all_steps() if step.component}
        own = {self.component} if self.component else set()
        return frozenset(acted_on | own | set(self.restores))

    def longest_path(self) -> timedelta | None:
        """The time the steps take when branches run at once, waiting for approvals to the last.

        None when a step on the way does not say how long it takes.
        """
        total = timedelta(0)
        for entry in self.steps:
            branches = ((entry,),) if isinstance(entry, Step) else entry.parallel
            times = [_duration_of(branch) for branch in branches]
            if None in times:
                return None
            total += max(time for time in times if time is not None)
        return total


def _duration_of(steps: tuple[Step, ...]) -> timedelta | None:
    total = timedelta(0)
    for step in steps:
        if step.takes is None:
            return None
        total += step.takes + (step.approve.within if step.approve else timedelta(0))
    return total
