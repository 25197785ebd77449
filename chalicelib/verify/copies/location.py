"""One location checked, from its listing to its report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from chalicelib.ports import Catalogue, Clock, ObjectStore
from chalicelib.verify.copies.check_run import CheckProgress, apply_check
from chalicelib.verify.copies.integrity import CheckResult, decide_check
from chalicelib.verify.copies.ledger import NEVER, Ledger, load_ledger, save_ledger
from chalicelib.verify.copies.rotation import CheckPolicy
from chalicelib.verify.copies.survey import Survey, survey


def verify_location(
    store: ObjectStore,
    catalogue: Catalogue,
    *,
    location: str,
    component: str,
    policy: CheckPolicy,
    ledgers: ObjectStore,
    clock: Clock,
    until: datetime | None = None,
    tell: Callable[[CheckProgress], None] = lambda progress: None,
) -> CheckResult:
    """Check a component's copies in one location, and note which points were read whole.

    Args:
        store: the component's objects in that location.
        catalogue: of that store; its index is what manifests are compared with.
        ledgers: where it is remembered what was read when, best not the location itself.
        until: aware UTC; the report is made then, whatever is still unanswered.
    Raises:
        Unavailable, NotReady, Refused: the location cannot be listed, or what was read cannot be
            remembered; nothing is known, try again.
    """
    name = f"{component}/{location}"
    found = survey(
        store,
        catalogue.indexed(),
        now=clock.now(),
        component=component,
        copied_within=policy.copied_within,
        whole=policy.whole,
    )
    decision = decide_check(found, load_ledger(ledgers, name), policy, now=clock.now())
    result, ledger = apply_check(
        decision,
        store,
        location=location,
        component=component,
        clock=clock,
        until=until,
        save=lambda ledger: save_ledger(ledgers, name, ledger),
        tell=tell,
    )
    _note_reads(catalogue, found, decision.ledger, ledger, result)
    return result


def _note_reads(
    catalogue: Catalogue, found: Survey, before: Ledger, after: Ledger, result: CheckResult
) -> None:
    """A point counts as read since the oldest reading of its objects, when all of them were."""
    wrong = {item.key for item in result.findings}
    for point in found.points:
        keys = {item.key for item in point.objects}
        if keys & wrong or not keys <= after.seen.keys():
            continue
        if any(after.seen[key].read_at == NEVER for key in keys):
            continue
        if any(after.seen[key] != before.seen.get(key) for key in keys):
            catalogue.note_read(point.id, min(after.seen[key].read_at for key in keys))
