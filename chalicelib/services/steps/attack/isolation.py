"""The steps that isolate what an attack reached, and lift it again; `leeward isolation` too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from chalicelib.errors import BadInput, CheckFailed, LeewardError, Unavailable
from chalicelib.evidence.attack_entries import isolated, isolating, lifted
from chalicelib.incidents.run import Run, load_run
from chalicelib.plan.records import format_time
from chalicelib.ports.isolation import Barrier, BarrierKind, Planned
from chalicelib.recover.attack.isolate import (
    Cut,
    Failure,
    Isolator,
    Outcome,
    decide_barriers,
    forget_left,
    lower_barriers,
    read_cuts,
    require_attack_cut_off,
)
from chalicelib.services import build, environment
from chalicelib.services.steps.acting import acting_on
from chalicelib.services.steps.said import say

Outputs = dict[str, Any]
KINDS: tuple[BarrierKind, ...] = (
    "bucket-policy", "bucket-history", "access-keys", "sessions", "network", "snapshots",
)  # fmt: skip


def isolate_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Raise every barrier of the component, and those against the attack's own identities.

    Inputs: `identities`, as `infection.identify` found them; a drill has none to act on.
    Raises:
        CheckFailed: code "not-all-isolated", when the others stand.
        Unavailable: code "not-all-isolated", when trying again is worth it.
    """
    component = acting_on(run, inputs["component"])
    more = () if run.drill else tuple(inputs.get("identities") or ())
    barriers = decide_barriers(_component(component), identities=more, known=known_identities())
    isolator = Isolator(
        component, run.run_id, partial(open_barrier, run_id=run.run_id), build.state(),
        build.clock(), partial(_tell, run),
    )  # fmt: skip
    outcome = isolator.raise_all(barriers)
    if outcome.failed:
        raise _unfinished(f"{component} to be isolated", outcome.failed)
    raised = [cut for cut in outcome.done if cut.standing == "raised"]
    left = [f"{cut.target}: {cut.why}" for cut in outcome.done if cut.standing == "left"]
    more_to_do = f"; LEFT TO A PERSON: {'; '.join(left)}" if left else ""
    return {
        "found": ("; ".join(cut.found for cut in raised) or "nothing to isolate") + more_to_do,
        "raised": [cut.sort for cut in raised],
        "left": left,
        "snapshots": [made for cut in raised for made in cut.made],
    }


def lift_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Lower the barriers of the component, or those of the kinds named (`only`, by commas).

    Raises Refused (code "attack-not-cut-off") while a person's part is not done.
    """
    component = acting_on(run, inputs["component"])
    only = read_kinds(str(inputs.get("only") or ""))
    outcome = lift(component, only=only, tell=partial(_tell_lifted, run))
    if outcome.failed:
        raise _unfinished(f"the isolation of {component} to be lifted", outcome.failed)
    return {"found": tell_lifted(outcome), "lifted": [cut.sort for cut in outcome.done]}


def lift_by_hand(asked: dict[str, Any]) -> Outputs:
    """What a person asks for with `leeward isolation lift`: by the function that may, because the
    bucket's policy keeps the person's own role out too.

    Args:
        asked: {"component", "by", "reason", "only"?, "target"?, "as_found"?, "despite_left"?}.
    """
    component = asked["component"]
    _component(component)
    outcome = lift(
        component,
        only=read_kinds(asked.get("only", "")),
        target=asked.get("target", ""),
        as_found=bool(asked.get("as_found")),
        despite_left=bool(asked.get("despite_left")),
        tell=lambda cut: _record_by_hand(cut, asked),
    )
    if outcome.failed:
        raise _unfinished(f"the isolation of {component} to be lifted", outcome.failed)
    return {
        "found": tell_lifted(outcome),
        "lifted": [cut.sort for cut in outcome.done],
        "kept": list(outcome.kept),
    }


def _record_by_hand(cut: Cut, asked: dict[str, Any]) -> None:
    """In the incident of the run that isolated it."""
    run = load_run(cut.run_id, desk=build.desk())
    body = lifted(component=cut.component, kind=cut.kind, target=cut.target, found=cut.found).body
    reason = {"reason": asked["reason"], "at": format_time(cut.at)}
    build.records().append(
        run.incident_id, "lifted", body | reason, actor=asked["by"], run_id=run.run_id
    )


def undo_isolate(run: Run, inputs: dict[str, Any]) -> Outputs:
    """At the end of a drill: everything as it was found, byte for byte."""
    component = acting_on(run, inputs["component"])
    outcome = lift(component, as_found=True, tell=partial(_tell_lifted, run))
    if outcome.failed:
        raise _unfinished(f"the isolation of {component} to be lifted", outcome.failed)
    return {"found": _tell_all_lifted(run, component, outcome)}


def _tell_all_lifted(run: Run, component: str, outcome: Outcome) -> str:
    """With what a dead attempt lowered."""
    cuts = [it for it in read_cuts(build.state(), component) if it.run_id == run.run_id]
    lowered = tuple(it for it in cuts if it.standing == "lowered")
    return tell_lifted(replace(outcome, done=lowered))


def lift(
    component: str,
    *,
    only: Sequence[str] = (),
    target: str = "",
    as_found: bool = False,
    despite_left: bool = False,
    tell: Callable[[Cut], None] = lambda _: None,
) -> Outcome:
    """Lower what stands; `only` kinds and the `target` narrow it. See `lower_barriers`."""
    state = build.state()
    cuts = read_cuts(state, component)
    if despite_left:
        forget_left(component, state)
    else:
        require_attack_cut_off(component, cuts)
    chosen = [cut for cut in cuts if (not only or cut.kind in only) and target in ("", cut.target)]
    return lower_barriers(
        chosen, open_=partial(open_barrier, run_id=""), state=state, clock=build.clock(),
        tell=tell, as_found=as_found,
    )  # fmt: skip


def tell_lifted(outcome: Outcome) -> str:
    """One line for a person."""
    done = "; ".join(cut.found for cut in outcome.done) or "nothing was isolated"
    return f"{done}; KEPT: {'; '.join(outcome.kept)}" if outcome.kept else done


def read_kinds(text: str) -> tuple[str, ...]:
    """ "network, sessions" -> both. Raises BadInput (code "unknown-barrier")."""
    kinds = tuple(it.strip() for it in text.split(",") if it.strip())
    unknown = [it for it in kinds if it not in KINDS]
    if unknown:
        raise BadInput(
            f"expected kinds of isolation, found {', '.join(unknown)}",
            hint=f"some of: {', '.join(KINDS)}",
            code="unknown-barrier",
        )
    return kinds


def known_identities() -> frozenset[str]:
    """Those that the plan names, over which the deployment has rights."""
    return frozenset(it for found in build.plan().components.values() for it in found.identities)


def open_barrier(planned: Planned, *, run_id: str) -> Barrier:
    """The adapter of a planned barrier. Imports inside: few runs need all of them."""
    kind, target = planned.kind, planned.target
    if kind in ("bucket-policy", "bucket-history"):
        return _bucket_barrier(kind, target)
    if kind in ("access-keys", "sessions"):
        return _identity_barrier(kind, target)
    from chalicelib.adapters.isolation.servers import NetworkBarrier, SnapshotsBarrier

    client = build.client("ec2", planned.region)
    if kind == "snapshots":
        return SnapshotsBarrier(client, target, run_id)
    return NetworkBarrier(client, target, _quarantine_group(target))


def _bucket_barrier(kind: str, bucket: str) -> Barrier:
    from chalicelib.adapters.isolation.bucket_history import BucketHistoryBarrier
    from chalicelib.adapters.isolation.bucket_policy import BucketPolicyBarrier

    if kind == "bucket-history":
        return BucketHistoryBarrier(build.s3(), bucket)
    return BucketPolicyBarrier(build.s3(), bucket, environment.recovery_roles())


def _identity_barrier(kind: str, target: str) -> Barrier:
    from chalicelib.adapters.isolation.identities import AccessKeysBarrier, SessionsBarrier

    if kind == "access-keys":
        return AccessKeysBarrier(build.client("iam"), target)
    return SessionsBarrier(build.client("iam"), target, build.clock())


def _quarantine_group(instance: str) -> str:
    for component in build.plan().components.values():
        if component.kind == "server" and component.instance == instance:
            return component.quarantine_group or ""
    return ""


def _component(name: str) -> Any:
    found = build.plan().components.get(name)
    if found is None:
        raise BadInput(
            f"the plan has no component {name!r}",
            hint=f"one of: {', '.join(build.plan().components)}",
            code="unknown-component",
        )
    return found


def _tell(run: Run, cut: Cut) -> None:
    entry = isolated if cut.standing == "raised" else isolating
    say(run, entry(cut.to_json()), about=f"{cut.component}/{cut.sort}")


def _tell_lifted(run: Run, cut: Cut) -> None:
    entry = lifted(component=cut.component, kind=cut.kind, target=cut.target, found=cut.found)
    say(run, entry, about=f"{cut.component}/{cut.sort}")


def _unfinished(expected: str, failed: Iterable[Failure]) -> LeewardError:
    """One error for all that failed; tried again when any of it may pass."""
    failures = tuple(failed)
    named = "; ".join(f"{it.kind} {it.target}: {it.error.message}" for it in failures)
    kind = Unavailable if any(it.error.retryable for it in failures) else CheckFailed
    return kind(
        f"expected {expected}, {named}",
        hint=f"the others stand; {failures[0].error.hint}",
        code="not-all-isolated",
        failed=[f"{it.kind}#{it.target}" for it in failures],
    )
