"""Second factors, kept in the stack of each region: what loses one is approved in the other.

Done with the operator's own rights and not by a function: who can enrol can approve as anybody.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chalicelib.adapters.clock import SystemClock
from chalicelib.errors import BadInput, NotReady, Refused
from chalicelib.incidents.factors import Enrolment, FactorDesk, enrolled_at, keep_enrolment
from chalicelib.plan.model import Plan
from chalicelib.ports import Records, StateStore

STACKS = ("primary", "standby")
STREAM = "people-enrolments"
NEEDED = (
    "LEEWARD_STATE_TABLE",
    "LEEWARD_FACTOR_KEY",
    "LEEWARD_EVIDENCE_BUCKET",
    "LEEWARD_DATA_KEY",
)


@dataclass(frozen=True)
class Office:
    """One stack: where its factors and its records are."""

    stack: str
    desk: FactorDesk
    records: Records

    def record(self, kind: str, person: str) -> None:
        """Who did it is the operator's name on this machine; AWS's own trail has the identity."""
        at = self.desk.clock.now().isoformat()
        by = getpass.getuser()
        self.records.append(
            STREAM, kind, {"person": person, "by": by}, actor=by, key=f"{kind}/{person}/{at}"
        )


def require_contact(plan: Plan, person: str) -> None:
    """Raises BadInput (code "unknown-person")."""
    if person not in plan.contacts:
        raise BadInput(
            f"the plan has no contact {person!r}",
            hint=f"one of: {', '.join(plan.contacts)}",
            code="unknown-person",
        )


def enrol_everywhere(made: Enrolment, found: Iterable[Office], *, replace: bool) -> None:
    """One secret for all stacks; looked at in all of them before it is kept in any.

    Raises:
        Refused: code "already-enrolled".
    """
    found = tuple(found)
    known = [it.stack for it in found if enrolled_at(made.person, state=it.desk.state)]
    if known and not replace:
        raise Refused(
            f"{made.person} is enrolled already ({', '.join(known)})",
            hint="with --replace the codes of the device before are no longer good",
            code="already-enrolled",
        )
    for office in found:
        keep_enrolment(made, desk=office.desk, replace=replace)
        office.record("enrolled", made.person)


def offices(plan: Plan, stacks: Iterable[str]) -> list[Office]:
    """The stacks that the plan has, of those that are named, all or none.

    Raises:
        NotReady: code "not-deployed" for one that is not there.
    """
    wanted = [name for name in STACKS if name in (tuple(stacks) or STACKS)]
    found = [(name, plan.aws_region(name)) for name in wanted]
    return [_office(name, region) for name, region in found if region or name == "primary"]


def _office(stack: str, region: str | None) -> Office:
    import boto3

    from chalicelib.adapters.kms_vault import KmsVault

    names = names_of(stack, region, NEEDED)
    clock = SystemClock()
    vault = KmsVault(boto3.client("kms", region_name=region), names["LEEWARD_FACTOR_KEY"])
    state, records = stores_of(names, region)
    return Office(stack, FactorDesk(state, vault, clock), records)


def stores_of(names: Mapping[str, str], region: str | None) -> tuple[StateStore, Records]:
    """The state and the records of a stack, by the names that its functions know."""
    import boto3

    from chalicelib.adapters.dynamodb_state import DynamoDbState
    from chalicelib.adapters.s3.access import reach_s3
    from chalicelib.adapters.s3.store import S3ObjectStore
    from chalicelib.evidence.records import StoredRecords

    state = DynamoDbState(
        boto3.client("dynamodb", region_name=region), names["LEEWARD_STATE_TABLE"]
    )
    store = S3ObjectStore(
        reach_s3(region),
        names["LEEWARD_EVIDENCE_BUCKET"],
        kms_key_id=names["LEEWARD_DATA_KEY"],
    )
    return state, StoredRecords(store, SystemClock())


def names_of(stack: str, region: str | None, needed: Iterable[str]) -> dict[str, str]:
    """What the stack's functions know of it.

    Raises:
        NotReady: code "not-deployed".
    """
    import boto3

    from chalicelib.adapters.aws_errors import mapped

    function = f"leeward-{stack}-answer"
    with mapped("lambda", function=function):
        client = boto3.client("lambda", region_name=region)
        configured = client.get_function_configuration(FunctionName=function)
    variables: dict[str, str] = configured.get("Environment", {}).get("Variables", {})
    missing = [name for name in needed if name not in variables]
    if missing:
        raise NotReady(
            f"expected {function} to know {', '.join(missing)}, it does not",
            hint="deploy the packaged template of this version",
            code="not-deployed",
        )
    return variables
